"""The study of losses on few classes: what its results show, by the protocol."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from emosynth_jax.metrics import statistics
from experiments.lib import loss_study

# Runs of a loss, and of cross-entropy, below which nothing is claimed.
FEWEST_SEEDS = loss_study.COMPARISONS["full"].fewest_seeds
# Points of accuracy within which a difference counts as none.
EQUIVALENCE = 0.8
# Balanced accuracy on validation, in multiples of chance, below which a run collapsed.
COLLAPSE = 1.5
# What is compared of sharpness, and how it is called.
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


def counts(run: loss_study.Run, result: Mapping[str, Any]) -> bool:
  """Returns whether the metrics of a run at full length count.

  It has finished, and has not collapsed: a balanced accuracy on the validation split of
  at least `COLLAPSE` times chance.
  """
  if result["state"] != "finished":
    return False
  lowest = COLLAPSE / loss_study.COMPARISONS[run.stage].num_classes
  return bool(result["validation"]["balanced_accuracy"] >= lowest)


def compare(
  results: Mapping[loss_study.Run, Mapping[str, Any]],
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

  baseline = values.get(loss_study.BASELINE, {})
  compared: dict[str, dict[str, Any]] = {}
  for loss, by_seed in values.items():
    mean, std = statistics.mean_and_deviation(list(by_seed.values()) or [math.nan])
    row: dict[str, Any] = {"mean": mean, "std": std, "seeds": sorted(by_seed)}
    row["diverged"] = diverged[loss]
    pairs = sorted(set(by_seed) & set(baseline))
    if loss != loss_study.BASELINE and len(pairs) > 1:
      row["difference"] = statistics.paired_difference(
        [by_seed[seed] for seed in pairs], [baseline[seed] for seed in pairs]
      )
    compared[loss] = row
  if not claims:
    return compared

  tested = [row for loss, row in compared.items() if loss != loss_study.BASELINE]
  p_values = [row.get("difference", {"p_value": 1.0})["p_value"] for row in tested]
  absent = len(loss_study.FIXED[1:]) + loss_study.NUM_CHOSEN - len(tested)
  corrected = statistics.holm([*p_values, *[1.0] * absent])
  for row, p_holm in zip(tested, corrected, strict=False):
    row["p_holm"] = p_holm
    row["verdict"] = _verdict(row, compared.get(loss_study.BASELINE))
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
  results: Mapping[loss_study.Run, Mapping[str, Any]],
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
    baseline = values.get((measure, loss_study.BASELINE), {})
    for loss in loss_study.MEASURED_SHARPNESS[1:]:
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
          "left_out": len(seeds[loss] & seeds[loss_study.BASELINE]) - len(pairs),
          "ratio": ratio,
          "low": low,
          "high": high,
          "p_value": difference["p_value"],
        }

  claimed = [row for (measure, _), row in rows.items() if measure in FLATNESS]
  absent = len(FLATNESS) * len(loss_study.MEASURED_SHARPNESS[1:]) - len(claimed)
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
    for loss in loss_study.MEASURED_SHARPNESS[1:]
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
  if loss_study.BASELINE not in compared:
    return False
  return all(
    "difference" in row
    and len(set(row["seeds"]) & set(compared[loss_study.BASELINE]["seeds"]))
    >= FEWEST_SEEDS
    and row["difference"]["high"] - row["difference"]["mean"] <= EQUIVALENCE
    for loss, row in compared.items()
    if loss != loss_study.BASELINE and not row["diverged"]
  )
