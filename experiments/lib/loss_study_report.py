"""The study of losses on few classes: the tables of its results."""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from emosynth_jax.utils import files, text_table
from experiments.lib import (
  comparison_report,
  loss_study,
  loss_study_claims,
  loss_study_records,
)

Results = dict[loss_study.Run, Any]


def write_report(workdir: pathlib.Path, settings: Mapping[str, Any]) -> str:
  """Writes and returns the tables of what is there.

  Args:
    workdir: the study's folder, which gets loss_study.md and loss_study.json.
    settings: of all stages, kept in the JSON file.
  """
  known = loss_study_records.read_known(workdir)

  def read(runs: Iterable[loss_study.Run]) -> Results:
    return loss_study_records.read_results(workdir, runs, known)

  # What a stage has chosen decides which runs the next one has.
  tried = read(loss_study.rate_runs())
  rates = loss_study.choose_rates(tried)
  has_baseline = loss_study.BASELINE in rates
  strength = read([loss_study.strength_run(rates)] if has_baseline else [])
  screened = read(loss_study.screen_runs(rates))
  chosen = loss_study.choose_losses(screened)
  results = {
    stage: read(loss_study.full_runs(chosen, rates, data.most_seeds, stage))
    for stage, data in loss_study.COMPARISONS.items()
  }
  compared = {
    stage: loss_study_claims.compare(found, accuracy, claims=stage == "full")
    for stage, found in results.items()
    if found or stage == "full"
  }

  lines = [
    "# Losses on FER-2013, original pixels",
    "",
    f"FerVGG at {settings['width']:g} of its width, by the protocol of "
    "docs/notes/loss_study.md. Accuracies in percent.",
    "",
    *_rates_section(tried, rates),
    *_screening_section(strength, screened),
  ]
  for stage, verdicts in compared.items():
    split = "PrivateTest" if stage == "full" else f"test split of {stage}"
    lines += [f"## Full length, {split}", "", *comparison_table(verdicts), ""]
    lines += [f"### Further metrics, {split}, means over seeds", ""]
    lines += [*further_metrics(results[stage]), ""]
  lines += ["## Sharpness, training images", "", *sharpness_table(results["full"])]
  text = "\n".join(lines) + "\n"
  files.write_atomically(workdir / "loss_study.md", text.encode())

  # Also of runs that are no longer chosen.
  every = known | tried | strength | screened
  for found in results.values():
    every |= found
  runs = loss_study_records.to_records(every)
  record = {"settings": settings, "rates": rates, **compared, "runs": runs}
  files.write_report(workdir / loss_study_records.RESULTS, record)
  return text


def accuracy(result: Mapping[str, Any]) -> float:
  """Accuracy on PrivateTest in percent, the study's primary metric."""
  return 100 * result["test"]["accuracy"]


def _rates_section(tried: Results, rates: Mapping[str, float]) -> list[str]:
  """Each loss's accuracy at each learning rate, and the rate that it gets."""
  table: list[list[Any]] = [
    ["loss", *(f"{rate:g}" for rate in loss_study.RATES), "chosen"]
  ]
  for loss in dict.fromkeys(run.loss for run in tried):
    cells = [
      _cell(tried.get(loss_study.Run(loss, "rates", rate, loss_study.RATE_SEED)))
      for rate in loss_study.RATES
    ]
    chosen_rate = f"{rates[loss]:g}" if loss in rates else "diverged"
    table.append([loss, *cells, chosen_rate])
  return ["## Learning rates", "", *text_table.markdown(table), ""]


def _screening_section(strength: Results, screened: Results) -> list[str]:
  """Cross-entropy at full length, and each loss's seeds of the screening."""
  lines = ["## Screening, PublicTest", ""]
  for run, result in strength.items():
    lines += [f"{run.loss} at full length, seed {run.seed}: {_cell(result)}", ""]
  table = [["loss", "seeds"]]
  for loss in dict.fromkeys(run.loss for run in screened):
    cells = [_cell(result) for run, result in screened.items() if run.loss == loss]
    table.append([loss, ", ".join(cells)])
  return [*lines, *text_table.markdown(table), ""]


def comparison_table(compared: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """A row for each loss, see `loss_study_claims.compare`."""
  claims = any("verdict" in row for row in compared.values())
  header = ["loss", "accuracy", "seeds", "diverged", "minus cross-entropy, 95 % CI"]
  table: list[list[Any]] = [header + ["p (Holm)", "verdict"] * claims]
  for loss, row in compared.items():
    difference = row.get("difference")
    against = (
      f"{difference['mean']:+.2f} [{difference['low']:+.2f}, {difference['high']:+.2f}]"
      if difference
      else ""
    )
    p_holm = _p_text(row["p_holm"]) if claims and difference else ""
    accuracy = comparison_report.mean_text((row["mean"], row["std"]))
    seeds = len(row["seeds"])
    said = [p_holm, row.get("verdict", "")] * claims
    table.append([loss, accuracy, seeds, row["diverged"], against, *said])
  return text_table.markdown(table, left=(0, 6))


def further_metrics(results: Mapping[loss_study.Run, Mapping[str, Any]]) -> list[str]:
  """A row for each loss; of what no run has, the cells are empty.

  Accuracy on the validation split is there to be compared with other trainings.
  """
  columns = {
    "validation_accuracy": ("accuracy, validation", 100, 2),
    "balanced_accuracy": ("balanced accuracy", 100, 2),
    "deduplicated": ("deduplicated accuracy", 100, 2),
    "calibrated_loss": ("negative log-likelihood, calibrated", 1, 4),
    "silhouette": ("silhouette", 1, 3),
    "angular_margin": ("angular margin, degrees", 1, 1),
  }
  table = [["loss", *(name for name, _, _ in columns.values())]]
  for loss in dict.fromkeys(run.loss for run in results):
    measured = [
      {"validation_accuracy": result["validation"]["accuracy"], **result["test"]}
      for run, result in results.items()
      if run.loss == loss and loss_study_claims.counts(run, result)
    ]
    row = [loss]
    for measure, (_, factor, digits) in columns.items():
      values = [factor * each[measure] for each in measured if measure in each]
      mean = f"{sum(values) / len(values):.{digits}f}" if values else ""
      is_of_all = not values or len(values) == len(measured)
      row.append(
        mean if is_of_all else f"{mean} ({len(values)} of {len(measured)} seeds)"
      )
    table.append(row)
  return text_table.markdown(table)


def sharpness_table(full: Mapping[loss_study.Run, Mapping[str, Any]]) -> list[str]:
  """A row for each measure and loss, as ratio to cross-entropy's, and what they show.

  The rows without a p-value are no part of the claim.
  """
  table = [["measure", "loss", "ratio to cross-entropy, 95 % CI", "seeds", "p (Holm)"]]
  rows = loss_study_claims.compare_sharpness(full)
  for (measure, loss), row in rows.items():
    ratio = f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    name = loss_study_claims.SHARPNESS_MEASURES[measure]
    left_out = f" ({row['left_out']} left out)" if row["left_out"] else ""
    seeds = f"{row['pairs']}{left_out}"
    has_p = "p_holm" in row and row["pairs"] >= loss_study_claims.FEWEST_SEEDS
    table.append([name, loss, ratio, seeds, _p_text(row["p_holm"]) if has_p else ""])
  verdicts = loss_study_claims.flatness(rows)
  said = ", ".join(f"{loss} {verdict}" for loss, verdict in verdicts.items())
  return [*text_table.markdown(table, left=(0, 1)), "", f"Flatter minima: {said}."]


def _p_text(value: float) -> str:
  return "<0.001" if value < 0.001 else f"{value:.3f}"


def _cell(result: dict[str, Any] | None) -> str:
  if result is None:
    return "not run"
  if result["state"] == "diverged":
    return "diverged"
  return f"{100 * result['validation']['accuracy']:.2f}"
