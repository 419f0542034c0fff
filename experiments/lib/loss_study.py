"""The study of losses on few classes: which runs, and what they show.

docs/notes/loss_study.md is the protocol, written before the first run.
"""

import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from emosynth_jax import losses
from emosynth_jax.config import defaults, recipes
from emosynth_jax.data.datasets import fer2013
from emosynth_jax.data.images import pixel_form
from emosynth_jax.metrics import statistics
from emosynth_jax.utils.json_files import check_fields, read_json

# Learning rates of which each loss gets its own.
RATES = (2e-3, 8e-3, 3.2e-2)
# Seeds that no later stage uses.
RATE_SEED = 100
SCREEN_SEEDS = (101, 102)
FEWEST_SEEDS, MOST_SEEDS = 5, 12
# Of Training, so that the rates take hours instead of a day.
RATE_IMAGES = 9000
FULL_EPOCHS = 20
EPOCHS = {
  "rates": 4,
  "screen": 10,
  **dict.fromkeys(("strength", "full", "fer_plus", "cifar10"), FULL_EPOCHS),
}
# Accuracy on PublicTest that cross-entropy has to reach at full length.
STRENGTH = 0.6
# Stages that repeat the comparison on other data: its recipe and training images.
OTHER_DATA = {
  "fer_plus": (recipes.fer_plus, 25060),
  "cifar10": (recipes.cifar10, 45000),
}
OTHER_SEEDS = 3
# Stages that compare losses at full length -> their fewest seeds.
COMPARED = {"full": FEWEST_SEEDS, **dict.fromkeys(OTHER_DATA, OTHER_SEEDS)}
NUM_CLASSES = {"full": 7, "fer_plus": 8, "cifar10": 10}
# Balanced accuracy on validation, in multiples of chance, below which a run collapsed.
COLLAPSE = 1.5
# File of all finished runs in the study's folder, and what it has of each split.
RESULTS = "loss_study.json"
MEASURES = ("accuracy", "balanced_accuracy", "loss")
_MEASURED = dict.fromkeys(MEASURES, float)
# As `files.write_report` writes it.
_NUMBER = (float, "NaN", "Infinity", "-Infinity")
# Files of a run's further metrics in its folder.
SECONDARY = "secondary.json"
SHARPNESS = "sharpness.json"
# Cross-entropy of the fixed training images at which sharpness is compared.
SHARPNESS_LOSS = 1.1
# What is compared of it, and how it is called.
SHARPNESS_MEASURES = {
  "sam": "SAM's sharpness",
  "rise": "rise along random directions",
  "eigenvalue": "largest eigenvalue",
  "sam_at_target": "SAM's sharpness at equal loss",
  "rise_at_target": "rise at equal loss",
  "eigenvalue_at_target": "largest eigenvalue at equal loss",
}
# Those that "flatter" rests on.
FLATNESS = ("sam_at_target", "rise_at_target")
# Losses that are compared at full length, whatever the screening finds.
BASELINE = "cross_entropy"
FIXED = ("mam_softmax", "sce_loss", "mam_softmax+sce_loss")
# Losses whose networks' sharpness is measured.
MEASURED_SHARPNESS = (BASELINE, "mam_softmax", "mam_softmax+sce_loss")
NUM_CHOSEN = 5
# Loss -> why it is not in the study.
EXCLUDED = {
  "supervised_contrastive": "it trains no last layer, and needs two views of an image",
  "real_world_weight_cross_entropy": "with its default weights it is cross_entropy",
  "logit_adjustment": "with its default tau it is balanced_softmax",
  "reverse_cross_entropy": "it is a multiple of mean_absolute_error, and the steps of "
  "Adam do not depend on the scale",
}
# Angular margins with what docs/results/ablations.md found for seven classes.
SMALL_SCALE = {
  "arcface_scale8": {"name": "arcface", "scale": 8.0, "margin": 0.1},
  "cosface_scale8": {"name": "cosface", "scale": 8.0, "margin": 0.1},
  "dynamic_am_softmax_scale8": {
    "name": "dynamic_am_softmax",
    "scale": 8.0,
    "margin": 0.2,
  },
}
# Points of accuracy within which a difference counts as none.
EQUIVALENCE = 0.8


class Run(NamedTuple):
  """One training of the study."""

  loss: str
  stage: str
  rate: float
  seed: int

  @property
  def folder(self) -> pathlib.Path:
    """Its folder, relative to the study's."""
    return pathlib.Path(self.stage, self.loss, f"rate{self.rate:g}-seed{self.seed}")


def arguments(num_steps: int) -> dict[str, dict[str, Any]]:
  """The losses of the study, by name, with the arguments that have no default.

  Args:
    num_steps: steps of the whole training.

  Returns:
    Every loss of the library once, without its aliases and those of `EXCLUDED`, the
    thesis's joint loss, and `SMALL_SCALE`, of which "name" is the loss.
  """
  # The default of SphereFace and L-Softmax, at full length.
  lam_decay = 0.1 * FULL_EPOCHS * (fer2013.COUNTS["Training"] // 64) / num_steps
  required: dict[str, dict[str, Any]] = {
    "l_softmax": {"lam_decay": lam_decay},
    "sphereface": {"lam_decay": lam_decay},
    "deferred_reweighting": {"reweight_step": num_steps * 4 // 5},
    "mixed_cross_entropy": {"total_steps": num_steps},
    "small_loss_cross_entropy": {"noise_rate": 0.2, "warmup_steps": num_steps // 4},
    "subcenter_arcface": {"sub_centers": 3},
  }
  names: dict[Any, str] = {}
  for name, loss in losses.LOSSES.items():
    # The first name of a function is its own.
    names.setdefault(loss, name)
  names = {loss: getattr(loss, "__name__", name) for loss, name in names.items()}
  found = {name: required.get(name, {}) for name in names.values()}
  for name in EXCLUDED:
    del found[name]
  return dict(sorted({**found, "mam_softmax+sce_loss": {}, **SMALL_SCALE}.items()))


def build_config(
  run: Run,
  *,
  data_dir: str,
  width: float = 0.125,
  epochs: int | None = None,
  limit: int = 0,
) -> ml_collections.ConfigDict:
  """Builds the config of a run.

  Args:
    run: the run.
    data_dir: fer2013.csv or its folder, of original pixels; for the stages of
      `OTHER_DATA` that data set's.
    width: of FerVGG.
    epochs: instead of the stage's; for a rehearsal.
    limit: images a split; 0 for all.

  Returns:
    A checked config.
  """
  recipe, num_images = OTHER_DATA.get(
    run.stage, (recipes.fer2013, fer2013.COUNTS["Training"])
  )
  config = recipe("fer_vgg,small,ce")
  config.model.width = width
  config.num_epochs = epochs or EPOCHS[run.stage]
  config.seed = run.seed
  config.optimizer.learning_rate = run.rate
  config.data.data_dir = data_dir
  config.data.limit = limit
  config.evaluate_deduplicated = run.stage == "full"
  if run.stage not in COMPARED:
    # What is chosen is chosen without PrivateTest,
    config.data.test_split = ""
  if run.stage == "rates":
    # and a rate without PublicTest: these images are held out of Training.
    config.data.options.protocol = "thesis_28709_7178"
    config.data.limit = limit or RATE_IMAGES

  images = min(config.data.limit or num_images, num_images)
  steps = config.num_epochs * (images // config.batch_size)
  config.loss = ml_collections.ConfigDict(
    {"name": run.loss, **arguments(steps)[run.loss]}
  )
  defaults.check_config(config)
  return config


def rate_runs() -> list[Run]:
  """The runs by which each loss gets its learning rate."""
  return [
    Run(loss, "rates", rate, RATE_SEED) for loss in arguments(1) for rate in RATES
  ]


def choose_rates(results: Mapping[Run, Mapping[str, Any]]) -> dict[str, float]:
  """Chooses each loss's rate: the highest accuracy on the held-out training images.

  Args:
    results: of `rate_runs`, see `read_result`.

  Returns:
    Loss to rate, of equals the lowest; without a loss whose runs all diverged.
  """
  best: dict[str, tuple[float, float]] = {}
  for run, result in results.items():
    if result["state"] == "finished":
      found = (result["validation"]["accuracy"], -run.rate)
      best[run.loss] = max(best.get(run.loss, (-1.0, 0.0)), found)
  return {loss: -negative for loss, (_, negative) in best.items()}


def strength_run(rates: Mapping[str, float]) -> Run:
  """Cross-entropy at full length, before the screening: is it strong enough?"""
  return Run(BASELINE, "strength", rates[BASELINE], RATE_SEED)


def screen_runs(rates: Mapping[str, float]) -> list[Run]:
  """The runs of the screening, one seed after the other."""
  return [
    Run(loss, "screen", rate, seed)
    for seed in SCREEN_SEEDS
    for loss, rate in rates.items()
  ]


def choose_losses(results: Mapping[Run, Mapping[str, Any]]) -> list[str]:
  """Chooses the losses for full length: the best mean accuracy on PublicTest.

  Args:
    results: of `screen_runs`.

  Returns:
    `BASELINE`, the losses of `FIXED`, and the best of the others of which no run
    diverged.
  """
  by_loss: dict[str, list[float]] = {}
  for run, result in results.items():
    finished = result["state"] == "finished"
    accuracy = result["validation"]["accuracy"] if finished else -math.inf
    by_loss.setdefault(run.loss, []).append(accuracy)
  means = {
    loss: sum(values) / len(values)
    for loss, values in by_loss.items()
    if min(values) > -math.inf
  }
  others = [loss for loss in means if loss not in (BASELINE, *FIXED)]
  best = sorted(others, key=lambda loss: -means[loss])[:NUM_CHOSEN]
  return [BASELINE, *FIXED, *best]


def full_runs(
  chosen: Sequence[str], rates: Mapping[str, float], seeds: int, stage: str = "full"
) -> list[Run]:
  """The runs at full length, or of a stage of `OTHER_DATA`, seed after seed."""
  return [
    Run(loss, stage, rates[loss], seed)
    for seed in range(seeds)
    for loss in chosen
    if loss in rates
  ]


def read_result(folder: pathlib.Path) -> dict[str, Any] | None:
  """Reads what a run's folder says: finished with its metrics, diverged, or None.

  Raises:
    ValueError: if a file is damaged, or the run was trained on equalized pixels.
  """
  if (folder / "diverged.json").is_file():
    return {"state": "diverged", **read_json(folder / "diverged.json")}
  path = folder / "report.json"
  if not path.is_file():
    return None
  splits = {"validation": _MEASURED, "*": _MEASURED}
  fields = {"best_epoch": int, "splits": splits, "trained_by": [{"commit": str}]}
  report = read_json(path, fields)
  forms = report.get("pixel_forms") or {}
  if pixel_form.main_form(forms.get("validation")) == "equalized":
    raise ValueError(
      f"{folder}: trained on equalized images; the study is of fer2013.csv, with "
      "original pixels. Use another --workdir"
    )

  found = {"state": "finished", "best_epoch": report["best_epoch"]}
  for split, summary in report["splits"].items():
    found[split] = {measure: summary[measure] for measure in MEASURES}
    # None where every image has a near-duplicate, as in a rehearsal with few images.
    if summary.get("deduplicated"):
      found[split]["deduplicated"] = summary["deduplicated"]["accuracy"]
  if "test" in found and (folder / SECONDARY).is_file():
    found["test"] |= _read_numbers(folder / SECONDARY)
  if (folder / SHARPNESS).is_file():
    found["sharpness"] = _read_numbers(folder / SHARPNESS)
  return found | {"commits": sorted({r["commit"] for r in report["trained_by"]})}


def _read_numbers(path: pathlib.Path) -> dict[str, float]:
  return _numbers(read_json(path, {"*": _NUMBER}))


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
  """Converts JSON's numbers, of which NaN is a string."""
  return {name: float(value) for name, value in content.items()}


def counts(run: Run, result: Mapping[str, Any]) -> bool:
  """Returns whether the metrics of a run at full length count.

  It has finished, and has not collapsed: a balanced accuracy on the validation split of
  at least `COLLAPSE` times chance.
  """
  if result["state"] != "finished":
    return False
  lowest = COLLAPSE / NUM_CLASSES[run.stage]
  return bool(result["validation"]["balanced_accuracy"] >= lowest)


def is_complete(run: Run, result: Mapping[str, Any]) -> bool:
  """Returns whether a run's result has all that the protocol measures."""
  if run.stage not in COMPARED or result["state"] != "finished":
    return True
  needs_sharpness = run.stage == "full" and run.loss in MEASURED_SHARPNESS
  has_sharpness = "sharpness" in result or not needs_sharpness
  return has_sharpness and "silhouette" in result["test"]


def read_known(workdir: pathlib.Path) -> dict[Run, Any]:
  """Reads the results that `RESULTS` has, of all runs; none without the file.

  Raises:
    ValueError: if the file is damaged.
  """
  path = workdir / RESULTS
  if not path.is_file():
    return {}
  run = {"loss": str, "stage": str, "rate": float, "seed": int}
  result = {"state": ("finished", "diverged")}
  known = {}
  for record in read_json(path, {"runs": [run | result]})["runs"]:
    parts = record.keys() & {"validation", "test", "sharpness"}
    fields: dict[str, Any] = {part: {"*": _NUMBER} for part in parts}
    if record["state"] == "finished":
      splits = {"validation", *{"test"} & parts}
      fields |= {split: {"*": _NUMBER, **_MEASURED} for split in splits}
    check_fields(record, f"{path} is damaged", fields)
    for part in parts:
      record[part] = _numbers(record[part])
    key = Run(*(record.pop(field) for field in Run._fields))
    known[key] = record
  return known


def read_results(
  workdir: pathlib.Path, runs: Iterable[Run], known: Mapping[Run, Any] | None = None
) -> dict[Run, Any]:
  """Reads the results of the runs that are finished or diverged.

  Args:
    workdir: the study's folder. A result is that of the run's own folder or, where it
      is gone, that of `RESULTS`: a study resumes without the folders of earlier runs.
    runs: the runs.
    known: of `read_known`, if it has been read.

  Returns:
    Run to result, see `read_result`, in the order of the runs.

  Raises:
    ValueError: as `read_result` and `read_known`.
  """
  known = read_known(workdir) if known is None else known
  found = {run: read_result(workdir / run.folder) or known.get(run) for run in runs}
  return {run: result for run, result in found.items() if result is not None}


def read_settings(workdir: pathlib.Path) -> dict[str, Any] | None:
  """Reads the settings of all runs from `RESULTS`; None without the file or runs.

  Raises:
    ValueError: if the file is damaged.
  """
  if not (workdir / RESULTS).is_file():
    return None
  remedy = (
    "restore the file, which has the results of all runs, or use another --workdir"
  )
  fields = {"settings": {"width": float}, "runs": list}
  content = read_json(workdir / RESULTS, fields, remedy=remedy)
  return content["settings"] if content["runs"] else None


def check_settings(workdir: pathlib.Path, settings: Mapping[str, Any]) -> None:
  """Checks the settings of all runs against those of `RESULTS`, if there are any.

  Raises:
    ValueError: if they differ.
  """
  stored = read_settings(workdir)
  if stored is None:
    return
  before, now = defaults.flatten(stored), defaults.flatten(settings)
  # The length of a stage that has no runs yet may change.
  stages = {run.stage for run in read_known(workdir)}
  for key in (key for key in now if key in before):
    part, _, stage = key.rpartition(".")
    if now[key] != before[key] and (not part or stage in stages):
      raise ValueError(
        f"{workdir / RESULTS} has runs with {key} {before[key]}, now {now[key]}; use "
        "another --workdir"
      )


def to_records(results: Mapping[Run, Mapping[str, Any]]) -> list[dict[str, Any]]:
  """The results of `read_results` as `RESULTS` has them, one record a run."""
  return [{**run._asdict(), **result} for run, result in results.items()]


def compare(
  results: Mapping[Run, Mapping[str, Any]],
  measure: Callable[[Mapping[str, Any]], float],
  *,
  claims: bool = True,
) -> dict[str, dict[str, Any]]:
  """Compares each loss with cross-entropy, paired by seed, with Holm's correction.

  Args:
    results: of `full_runs`.
    measure: the metric of a finished result, in points.
    claims: whether the rows say what they show; otherwise they are estimates.

  Returns:
    Loss to "mean", "std", "seeds", the number "diverged" (collapsed runs included),
    "difference" (of `statistics.paired_difference`, where two pairs have finished) and,
    with `claims`, "p_holm" (over all losses that the study compares: one without a
    difference, or without a run yet, counts with a p-value of 1) and "verdict", see
    `_verdict`.
  """
  values: dict[str, dict[int, float]] = {}
  diverged: dict[str, int] = {}
  for run, result in results.items():
    values.setdefault(run.loss, {})
    diverged.setdefault(run.loss, 0)
    if counts(run, result):
      values[run.loss][run.seed] = measure(result)
    else:
      diverged[run.loss] += 1

  baseline = values.get(BASELINE, {})
  compared: dict[str, dict[str, Any]] = {}
  for loss, by_seed in values.items():
    mean, std = statistics.mean_and_deviation(list(by_seed.values()) or [math.nan])
    row: dict[str, Any] = {"mean": mean, "std": std, "seeds": sorted(by_seed)}
    row["diverged"] = diverged[loss]
    pairs = sorted(set(by_seed) & set(baseline))
    if loss != BASELINE and len(pairs) > 1:
      row["difference"] = statistics.paired_difference(
        [by_seed[seed] for seed in pairs], [baseline[seed] for seed in pairs]
      )
    compared[loss] = row
  if not claims:
    return compared

  tested = [row for loss, row in compared.items() if loss != BASELINE]
  p_values = [row.get("difference", {"p_value": 1.0})["p_value"] for row in tested]
  absent = len(FIXED) + NUM_CHOSEN - len(tested)
  corrected = statistics.holm([*p_values, *[1.0] * absent])
  for row, p_holm in zip(tested, corrected, strict=False):
    row["p_holm"] = p_holm
    row["verdict"] = _verdict(row, compared.get(BASELINE))
  return compared


def _verdict(row: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
  """What a row of `compare` claims.

  Returns:
    "better", "worse" (the corrected p-value is below 0.05), "no difference" (the
    interval lies within `EQUIVALENCE`), or "undecided". What diverged has no accuracy,
    which flatters its side: a loss with such a run is not better, cross-entropy with
    one is not, and neither is without difference. "not finished" below
    `FEWEST_SEEDS` runs.
  """
  both = (row, baseline or {"seeds": (), "diverged": 0})
  if min(len(each["seeds"]) + each["diverged"] for each in both) < FEWEST_SEEDS:
    return "not finished"
  if "difference" not in row:
    return "undecided"
  loss_diverged, baseline_diverged = (each["diverged"] > 0 for each in both)
  difference = row["difference"]
  if row["p_holm"] < 0.05:
    is_better = difference["mean"] > 0
    flattered = loss_diverged if is_better else baseline_diverged
    return "undecided" if flattered else "better" if is_better else "worse"
  inside = -EQUIVALENCE < difference["low"] and difference["high"] < EQUIVALENCE
  is_whole = not (loss_diverged or baseline_diverged)
  return "no difference" if inside and is_whole else "undecided"


def compare_sharpness(
  results: Mapping[Run, Mapping[str, Any]],
) -> dict[tuple[str, str], dict[str, Any]]:
  """Compares sharpness with cross-entropy's, paired by seed, with Holm's correction.

  Args:
    results: of `full_runs`.

  Returns:
    Measure of `SHARPNESS_MEASURES` and loss to "pairs", their number; "ratio" to
    cross-entropy, the geometric mean, with "low" and "high" of its 95 % interval and
    "p_value" (of differences of logarithms); "left_out", the number of seeds that
    diverged or collapsed, or of which a value is not above 0 and has no logarithm; and,
    of the measures of `FLATNESS`, "p_holm" over these rows, one that is not there
    counting with a p-value of 1. A row has at least two pairs.
  """
  values: dict[tuple[str, str], dict[int, float]] = {}
  seeds: dict[str, set[int]] = {}
  for run, result in results.items():
    seeds.setdefault(run.loss, set()).add(run.seed)
    if counts(run, result) and "sharpness" in result:
      for measure in SHARPNESS_MEASURES:
        value = result["sharpness"].get(measure, math.nan)
        if value > 0:
          values.setdefault((measure, run.loss), {})[run.seed] = math.log(value)

  rows: dict[tuple[str, str], dict[str, Any]] = {}
  for measure in SHARPNESS_MEASURES:
    baseline = values.get((measure, BASELINE), {})
    for loss in MEASURED_SHARPNESS[1:]:
      by_seed = values.get((measure, loss), {})
      pairs = sorted(set(by_seed) & set(baseline))
      if len(pairs) > 1:
        difference = statistics.paired_difference(
          [by_seed[seed] for seed in pairs], [baseline[seed] for seed in pairs]
        )
        ratio, low, high = (
          math.exp(difference[key]) for key in ("mean", "low", "high")
        )
        rows[measure, loss] = {
          "pairs": len(pairs),
          "left_out": len(seeds[loss] & seeds[BASELINE]) - len(pairs),
          "ratio": ratio,
          "low": low,
          "high": high,
          "p_value": difference["p_value"],
        }

  claimed = [row for (measure, _), row in rows.items() if measure in FLATNESS]
  absent = len(FLATNESS) * len(MEASURED_SHARPNESS[1:]) - len(claimed)
  p_values = [row["p_value"] for row in claimed] + [1.0] * absent
  for row, p_holm in zip(claimed, statistics.holm(p_values), strict=False):
    row["p_holm"] = p_holm
  return rows


def flatness(rows: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[str, str]:
  """What the rows of `compare_sharpness` claim of each loss.

  Returns:
    Loss to "flatter" or "sharper" (by both measures of `FLATNESS` the corrected p-value
    is below 0.05, with no seed left out), "not shown", or "not finished" below
    `FEWEST_SEEDS` seeds.
  """
  return {
    loss: _flatness_of(
      [rows[measure, loss] for measure in FLATNESS if (measure, loss) in rows]
    )
    for loss in MEASURED_SHARPNESS[1:]
  }


def _flatness_of(rows: Sequence[Mapping[str, Any]]) -> str:
  """What a loss's rows of `FLATNESS` claim, see `flatness`."""
  seeds = min((row["pairs"] + row["left_out"] for row in rows), default=0)
  if seeds < FEWEST_SEEDS:
    return "not finished"
  is_whole = len(rows) == len(FLATNESS) and not any(row["left_out"] for row in rows)
  if not is_whole or any(row["p_holm"] >= 0.05 for row in rows):
    return "not shown"
  if all(row["ratio"] < 1 for row in rows):
    return "flatter"
  return "sharper" if all(row["ratio"] > 1 for row in rows) else "not shown"


def is_decided(compared: Mapping[str, Mapping[str, Any]]) -> bool:
  """Returns whether every interval reaches at most `EQUIVALENCE` to either side.

  Each of at least `FEWEST_SEEDS` pairs with cross-entropy. A loss of which a run
  diverged or collapsed does not count: no further seed makes it better or equal.
  """
  if BASELINE not in compared:
    return False
  return all(
    "difference" in row
    and len(set(row["seeds"]) & set(compared[BASELINE]["seeds"])) >= FEWEST_SEEDS
    and row["difference"]["high"] - row["difference"]["mean"] <= EQUIVALENCE
    for loss, row in compared.items()
    if loss != BASELINE and not row["diverged"]
  )
