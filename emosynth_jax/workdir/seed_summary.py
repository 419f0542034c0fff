"""Summary of several seeds of one config, and comparison with another config's."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from emosynth_jax.config import renamed, settings
from emosynth_jax.data import fingerprints
from emosynth_jax.metrics import statistics
from emosynth_jax.utils import text_table
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import record as run_record
from emosynth_jax.workdir import report_fields

# Path of each metric in a split's summary; optional ones are last.
_METRICS = {
  "accuracy": ("accuracy",),
  "balanced accuracy": ("balanced_accuracy",),
  "macro F1": ("macro", "f1"),
  "calibration error": ("expected_calibration_error",),
  "loss": ("loss",),
  "deduplicated accuracy": ("deduplicated", "accuracy"),
  "accuracy with test-time augmentation": ("test_time_augmentation", "accuracy"),
  "expected accuracy under the votes": ("votes", "expected_accuracy"),
}


def settings_of(stored: Mapping[str, Any]) -> dict[str, Any]:
  """The settings that affect a report, by their paths.

  Args:
    stored: a config's settings, as a report holds them.

  Returns:
    Path to setting, without data paths and settings that only affect cost.
  """
  free = settings.affecting("cost")
  return {
    path: value
    for path, value in run_record.comparable_settings(stored).items()
    if path not in free
  }


def group_by_settings(
  configs: Sequence[Mapping[str, Any]], workdirs: Sequence[str | os.PathLike]
) -> list[list[int]]:
  """Groups runs whose settings differ only in the seed.

  Args:
    configs: the settings of each run.
    workdirs: their folders, for the message.

  Returns:
    The runs' indices; groups, and runs in them, in the order given.

  Raises:
    ValueError: if a group has a seed twice.
  """
  groups: dict[str, list[int]] = {}
  for i, config in enumerate(configs):
    settings = {k: v for k, v in settings_of(config).items() if k != "seed"}
    own = groups.setdefault(repr(sorted(settings.items())), [])
    for j in own:
      if configs[j]["seed"] == config["seed"]:
        raise ValueError(
          f"{workdirs[j]} and {workdirs[i]} have equal configs and the seed "
          f"{config['seed']} twice; pairs need different runs"
        )
    own.append(i)
  return list(groups.values())


def metrics_of(summary: Mapping[str, Any]) -> dict[str, float]:
  """The metrics of one split of one report, by name, as far as available.

  Args:
    summary: of `classification.summarize`, as a report holds it.

  Returns:
    "accuracy", "balanced accuracy", "macro F1", "calibration error" and "loss", and
    where the report has them "deduplicated accuracy" and "accuracy with test-time
    augmentation"; all fractions, except the loss.
  """
  found = {label: _at(summary, path) for label, path in _METRICS.items()}
  return {label: float(value) for label, value in found.items() if value is not None}


def summarize(
  reports: Sequence[Mapping[str, Any]], workdirs: Sequence[str | os.PathLike]
) -> dict[str, Any]:
  """Summarizes the reports of several seeds.

  Args:
    reports: of `evaluate.evaluate_run`, one a seed.
    workdirs: their folders.

  Returns:
    A dictionary as seeds.json holds it: "data_set", "chosen_on", "seeds",
    "best_epochs", "workdirs", "commits", "config" (without the seed), "data" (the
    data's fingerprint, see `run_data.fingerprint`) and "splits": of each split
    "official_split", "num_examples" and "figures", by name with "values" (one a seed),
    "mean" and "deviation" (of the sample, with n - 1; None for a single seed).

  Raises:
    ValueError: if the seeds were not trained on the same data or report other splits.
  """
  first = reports[0]
  data = [read_json(pathlib.Path(w) / "data.json", {"*": dict}) for w in workdirs]
  check_same_data(data, workdirs)
  splits = {}
  for report, workdir in zip(reports, workdirs, strict=True):
    if report["splits"].keys() != first["splits"].keys():
      raise ValueError(
        f"{workdir} reports {_listed(report['splits'])}, {workdirs[0]} "
        f"{_listed(first['splits'])}: seeds of one config must share the splits"
      )
  for name, summary in first["splits"].items():
    figures = {}
    each = [metrics_of(report["splits"][name]) for report in reports]
    for label in _METRICS:
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
  """Checks that all seeds of a config were trained on the same data.

  Args:
    data: content of each run's data.json; None if a run has none.
    workdirs: their folders.

  Raises:
    ValueError: if one differs from the first.
  """
  first = data[0]
  for workdir, other in zip(workdirs, data, strict=True):
    if other is None or first is None:
      continue
    if other.keys() != first.keys() or any(
      fingerprints.different_data(other[name], first[name]) for name in other
    ):
      raise ValueError(
        f"{workdir} was trained on different data than {workdirs[0]}: seeds of one "
        "config must share the data"
      )


def compare(ours: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
  """Differences between two configs, seed by seed.

  With the same network and batch size, a seed gives both the same initialization and
  order of images; in any case the pairs are fixed before the results are known.

  Args:
    ours: of `summarize`.
    others: likewise, on the same splits.

  Returns:
    "seeds" (those that both have) and "splits": for each split and metric, `ours` minus
    `others`, see `statistics.paired_difference`, "low", "high" and "p_value" None for a
    single seed.

  Raises:
    ValueError: if there is no common seed, or a split has other images.
  """
  common = [seed for seed in ours["seeds"] if seed in others["seeds"]]
  if not common:
    raise ValueError(
      f"no common seed to compare: seeds {ours['seeds']} here, {others['seeds']} there"
    )

  splits: dict[str, Any] = {}
  for name, split in ours["splits"].items():
    theirs = others["splits"].get(name)
    if theirs is None:
      continue
    data = [side["data"].get(name, {"num_examples": 0}) for side in (ours, others)]
    if fingerprints.different_data(*data):
      raise ValueError(f"not comparable: the {name} split there has other images")
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
      f"{path} is missing: --compare expects the folder of another command with --seeds"
    )
  summary = renamed.with_new_names(read_json(path))
  report_fields.check_seeds(summary, f"{path} is damaged")
  return summary


def _values_of(figure, seeds, wanted):
  return [figure["values"][seeds.index(seed)] for seed in wanted]


def _at(tree, path):
  for key in path:
    tree = (tree or {}).get(key)
  return tree


def format_summary(
  summary: Mapping[str, Any],
  comparison: Mapping[str, Any] | None = None,
  others: str | os.PathLike = "",
) -> str:
  """Formats seeds.txt.

  Args:
    summary: of `seed_summary.summarize`.
    comparison: of `seed_summary.compare`, if there is one.
    others: folder of the other seeds.

  Returns:
    Lines that end in a newline. All metrics are in percent, except the loss.
  """
  lines = [
    f"{summary['data_set']}, epoch chosen by {summary['chosen_on']}: epochs "
    f"{_listed(summary['best_epochs'])} of seeds {_listed(summary['seeds'])}",
    f"commit {_listed(summary['commits'])}",
  ]

  for name, split in summary["splits"].items():
    official = f" ({split['official_split']})" if split["official_split"] else ""
    lines += ["", f"{name}{official}, {split['num_examples']:,} images"]
    labels = list(split["figures"])
    rows = [["seed", *labels]]
    for i, seed in enumerate(summary["seeds"]):
      rows.append(
        [str(seed), *(_number(f, split["figures"][f]["values"][i]) for f in labels)]
      )
    rows.append(["mean", *(_number(f, split["figures"][f]["mean"]) for f in labels)])
    if len(summary["seeds"]) > 1:
      deviations = (_number(f, split["figures"][f]["deviation"]) for f in labels)
      rows.append(["deviation", *deviations])
    lines += text_table.align(rows)

  lines += ["", "All metrics are in percent, except the loss."]
  if len(summary["seeds"]) == 1:
    lines.append(
      "One seed: no standard deviation; the variation over seeds is unknown."
    )
  else:
    lines.append(
      "The deviation is the sample standard deviation (n - 1) over "
      f"{len(summary['seeds'])} seeds, not the standard error; it does not cover the "
      "sampling of test images."
    )

  if comparison:
    lines += ["", *_comparison_lines(comparison, others)]
  return "\n".join(lines) + "\n"


def _comparison_lines(comparison, others):
  seeds = comparison["seeds"]
  lines = [f"Difference from {others}, paired by seeds {_listed(seeds)}:"]
  for name, figures in comparison["splits"].items():
    for label, difference in figures.items():
      text = f"{name}, {label}: {_number(label, difference['mean'], sign='+')}"
      if difference["low"] is not None:
        low, high = (_number(label, difference[k], sign="+") for k in ("low", "high"))
        test = statistics.describe_p_value(difference["p_value"])
        text += f", 95 % interval {low} to {high}, {test}"
      lines.append(text)

  if len(seeds) == 1:
    lines.append("One pair: no interval; the difference may be due to chance.")
  else:
    lines.append(
      "Student's t interval and two-sided test over seeds, not corrected for multiple "
      "comparisons."
    )

  return lines


def _number(label, value, sign=""):
  scale, digits = (1, 4) if label == "loss" else (100, 2)
  return f"{scale * value:{sign}.{digits}f}"


def _listed(values):
  return ", ".join(map(str, values))
