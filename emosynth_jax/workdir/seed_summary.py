"""Several seeds of one config: what their reports say together, and against others'."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
from absl import logging

from emosynth_jax import (
  default_config,
  distributed,
  epoch,
  results,
  run_config,
  side_by_side,
  statistics,
)

# Settings that leave a report as it is.
_FREE_SETTINGS = (
  "data.data_dir",
  "checkpoint.keep",
  "checkpoint.minutes",
  "steps_per_call",
  "tensorboard",
  "data.pipeline",
  "data.resident_gib",
  "mesh.model",
)

# Where a split's summary holds each figure; those that not every report has come last.
_FIGURES = {
  "accuracy": ("accuracy",),
  "balanced accuracy": ("balanced_accuracy",),
  "macro F1": ("macro", "f1"),
  "calibration error": ("expected_calibration_error",),
  "loss": ("loss",),
  "accuracy without twins": ("without_twins", "accuracy"),
  "accuracy with test-time augmentation": ("test_time_augmentation", "accuracy"),
}


def run_seeds(
  config: ml_collections.ConfigDict,
  seeds: Sequence[int],
  workdir_of: Callable[[int], pathlib.Path],
  run_one: Callable[..., dict[str, Any] | None],
  *,
  again: bool = False,
  groups_of: Callable[[int], Sequence[list[Any]]] = lambda count: (),
) -> list[dict[str, Any]] | None:
  """Runs seeds, in turn or side by side; of a finished one only the report is read.

  Args:
    config: of all of them but for the seed.
    seeds: distinct.
    workdir_of: a seed to its own workdir.
    run_one: `(config, workdir)` trains and evaluates in a workdir, and returns the
      report, or None where it was stopped. Side by side it is also given `devices` and
      `stop`, as `train.train` takes them.
    again: runs the finished ones too.
    groups_of: the number of seeds that are to run to the devices by groups, of which
      each serves one seed at a time; with less than two of them one seed runs after the
      other.

  Returns:
    The reports; None where a run was stopped.

  Raises:
    ValueError: for a seed out of range, before any run.
  """
  configs = [config.copy_and_resolve_references() for _ in seeds]
  for own, seed in zip(configs, seeds, strict=True):
    own.seed = seed
    default_config.check_config(own)

  def one(own, **where):
    number, workdir = list(seeds).index(own.seed) + 1, workdir_of(own.seed)
    logging.info("Seed %d (%d of %d) in %s.", own.seed, number, len(seeds), workdir)
    return run_one(own, workdir, **where)

  reports: dict[int, dict[str, Any] | None] = {}
  waiting = []
  for own in configs:
    report = None if again else finished_report(own, workdir_of(own.seed))
    # In a job, what one process does not find all of them run.
    if distributed.largest(report is None)[0]:
      waiting.append(own)
    else:
      reports[own.seed] = report
      logging.info("Seed %d in %s: finished before.", own.seed, workdir_of(own.seed))
  groups = groups_of(len(waiting)) if len(waiting) > 1 else ()
  if len(groups) > 1:
    found = side_by_side.run_side_by_side(
      lambda own, devices, stop: one(own, devices=devices, stop=stop),
      {f"seed {own.seed}": own for own in waiting},
      groups,
    )
    reports |= zip((own.seed for own in waiting), found, strict=True)
  else:
    for own in waiting:
      reports[own.seed] = one(own)
      if reports[own.seed] is None:
        break
  if None in reports.values():
    return None
  return [results.to_jsonable(reports[seed], "report") for seed in seeds]


def finished_report(
  config: ml_collections.ConfigDict, workdir: str | os.PathLike
) -> dict[str, Any] | None:
  """The report of a workdir whose run is at its end with the config's own settings.

  Args:
    config: a checked config.
    workdir: the run's folder.

  Returns:
    The report; None where there is none yet, or one that was written before the
    training's end, with other settings, or although answers depended on the batch.
  """
  path = pathlib.Path(workdir) / "report.json"
  try:
    report = json.loads(path.read_text())
    done, best = report["epochs_trained"], report["best_epoch"]
    settings, invariant = report["config"], report["batch_invariance"]["passed"]
  except (FileNotFoundError, ValueError, KeyError):
    return None
  wanted = results.to_jsonable(config.to_dict())
  same = settings_of(settings) == settings_of(wanted)
  finished = same and invariant and epoch.is_last(done, best, config)
  return report if finished else None


def settings_of(settings: Mapping[str, Any]) -> dict[str, Any]:
  """The settings that change a report, by their paths.

  Args:
    settings: a config's, as a report holds them.

  Returns:
    Path to setting, without where the data lies and what only changes the costs.
  """
  return {
    path: value
    for path, value in run_config.comparable_settings(settings).items()
    if path not in _FREE_SETTINGS
  }


def figures_of(summary: Mapping[str, Any]) -> dict[str, float]:
  """The figures of one split of one report, by name; those that it lacks left out.

  Args:
    summary: of `metrics.summarize`, as a report holds it.

  Returns:
    "accuracy", "balanced accuracy", "macro F1", "calibration error" and "loss", and
    where the report has them "accuracy without twins" and "accuracy with test-time
    augmentation"; all fractions but the loss.
  """
  found = {label: _at(summary, path) for label, path in _FIGURES.items()}
  return {label: float(value) for label, value in found.items() if value is not None}


def summarize(
  reports: Sequence[Mapping[str, Any]], workdirs: Sequence[str | os.PathLike]
) -> dict[str, Any]:
  """What the reports of several seeds say together.

  Args:
    reports: of `evaluate.evaluate_run`, one a seed.
    workdirs: their folders.

  Returns:
    A dictionary as seeds.json holds it: "data_set", "chosen_on", "seeds",
    "best_epochs", "workdirs", "commits", "config" (without the seed), "data" (what
    tells the data apart, see `run_config.fingerprint`) and "splits": of each split
    "official_split", "num_examples" and "figures", by name with "values" (one a seed),
    "mean" and "deviation" (of the sample, with n - 1; None for a single seed).

  Raises:
    ValueError: if the seeds were not trained on the same data.
  """
  first = reports[0]
  data = [json.loads((pathlib.Path(w) / "data.json").read_text()) for w in workdirs]
  check_same_data(data, workdirs)
  splits = {}
  for name, summary in first["splits"].items():
    figures = {}
    each = [figures_of(report["splits"][name]) for report in reports]
    for label in _FIGURES:
      if all(label in own for own in each):
        values = [own[label] for own in each]
        mean, deviation = statistics.mean_and_deviation(values)
        figures[label] = {
          "values": values,
          "mean": mean,
          "deviation": deviation if len(values) > 1 else None,
        }
    splits[name] = {
      "official_split": first["official_splits"][name],
      "num_examples": summary["num_examples"],
      "figures": figures,
    }
  commits = [line["commit"] for r in reports for line in r["trained_by"]]
  return {
    "data_set": first["data_set"],
    "chosen_on": first["chosen_on"],
    "seeds": [report["seed"] for report in reports],
    "best_epochs": [report["best_epoch"] for report in reports],
    "workdirs": [os.fspath(workdir) for workdir in workdirs],
    "commits": list(dict.fromkeys(commits)),
    "config": {k: v for k, v in first["config"].items() if k != "seed"},
    "data": data[0],
    "splits": splits,
  }


def check_same_data(
  data: Sequence[Mapping[str, Any] | None], workdirs: Sequence[str | os.PathLike]
) -> None:
  """Refuses seeds of one config that were not trained on the same data.

  Args:
    data: content of each run's data.json; None where a run has none.
    workdirs: their folders.

  Raises:
    ValueError: if one differs from the first.
  """
  first = data[0]
  for workdir, other in zip(workdirs, data, strict=True):
    if other is None or first is None:
      continue
    if other.keys() != first.keys() or any(
      run_config.different_data(other[name], first[name]) for name in other
    ):
      raise ValueError(
        f"{workdir} was trained on other data than {workdirs[0]}: seeds of one config "
        "differ in nothing but the seed"
      )


def compare(ours: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
  """Differences between two configs, seed by seed.

  A seed is the same start and the same order of images for both where their networks
  and batches are the same; in any case the pairs are fixed before the figures are
  known.

  Args:
    ours: of `summarize`.
    others: likewise, on the same splits.

  Returns:
    "seeds" (those that both have) and "splits": of each split and figure, ours less
    theirs, see `statistics.paired_difference`, "low", "high" and "p_value" None for a
    single seed.

  Raises:
    ValueError: if no seed is common, or a split holds other images.
  """
  common = [seed for seed in ours["seeds"] if seed in others["seeds"]]
  if not common:
    raise ValueError(
      f"no pair to compare: seeds {ours['seeds']} here, {others['seeds']} there"
    )
  splits: dict[str, Any] = {}
  for name, split in ours["splits"].items():
    theirs = others["splits"].get(name)
    if theirs is None:
      continue
    data = [side["data"].get(name, {"num_examples": 0}) for side in (ours, others)]
    if run_config.different_data(*data):
      raise ValueError(f"nothing to compare: the {name} split there has other images")
    splits[name] = {}
    for label, figure in split["figures"].items():
      if label not in theirs["figures"]:
        continue
      difference: dict[str, float | None] = {
        **statistics.paired_difference(
          _values_of(figure, ours["seeds"], common),
          _values_of(theirs["figures"][label], others["seeds"], common),
        )
      }
      if len(common) == 1:
        difference |= dict.fromkeys(("low", "high", "p_value"))
      splits[name][label] = difference
  return {"seeds": common, "splits": splits}


def read_summary(workdir: str | os.PathLike) -> dict[str, Any]:
  """The seeds.json of a folder.

  Raises:
    FileNotFoundError: if there is none.
    ValueError: if it is damaged.
  """
  path = pathlib.Path(workdir) / "seeds.json"
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} is missing: --compare takes the folder of another command with --seeds"
    )
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f"{path} is damaged ({error})") from error


def _values_of(figure, seeds, wanted):
  return [figure["values"][seeds.index(seed)] for seed in wanted]


def _at(tree, path):
  for key in path:
    tree = (tree or {}).get(key)
  return tree
