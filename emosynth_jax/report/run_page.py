"""Report of one run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from emosynth_jax.config import defaults
from emosynth_jax.metrics import plots, statistics
from emosynth_jax.report import (
  charts,
  data_section,
  examples,
  loss_surface,
  predictions,
  render,
  run_summary,
  saliency_checks,
  tables,
)
from emosynth_jax.report.run_files import RunFiles
from emosynth_jax.workdir import digests, seed_summary

_EPOCH_COLUMNS = {
  "train loss": "train/loss",
  "validation loss": "validation/loss",
  "train accuracy": "train/accuracy",
  "validation accuracy": "validation/accuracy",
  "learning rate": "learning_rate",
}


def build(
  run: RunFiles,
  *,
  audit: Mapping[str, Any] | None,
  answered: predictions.Answers | None,
  options: examples.ExampleOptions,
  made_by: Mapping[str, Any],
) -> str:
  """The HTML of a run.

  Args:
    run: the run.
    audit: of its data set, if there is one.
    answered: its network's predictions on the reported split; None for a page without
      example images.
    options: number of examples to show.
    made_by: of `provenance.provenance`.

  Returns:
    The page.

  Raises:
    ValueError: if the predictions are of another network than the report's, or the
      layer is unknown.
  """
  report, head = run.report, run_summary.headline(run)
  summary = head["summary"]
  caveats = run_summary.caveats(run, audit)
  images = embedding = crc32 = None
  if answered is not None:
    caveats += check_answers(run, answered)
    images = examples.images(answered, options)
    embedding = examples.embedding(answered, options)
    crc32 = digests.checksum(answered.network.state.evaluation_variables)
  surfaces, left_out, stored = loss_surface.stored_plots(run, crc32)
  checks = saliency_checks.map_checks(run, crc32)
  config = report["config"]
  context = {
    "kind": "Report of a run",
    "title": f"{config['model']['name']} on {report['data_set']}, "
    f"{config['loss']['name']}",
    "sections": _sections(
      images=images is not None,
      checks=any(checks.values()),
      surfaces=bool(surfaces or left_out),
    ),
    "made_by": made_by,
    "data_set": report["data_set"],
    "seed": report["seed"],
    "chosen_on": report["chosen_on"],
    "best_epoch": report["best_epoch"],
    "head": head,
    "protocol": run_summary.protocol(run),
    "origin": run_summary.origin(run),
    "caveats": caveats,
    "changes": tables.config_changes(config),
    "settings": sorted(defaults.flatten(config).items()),
    "curves": training_curves(run),
    **_epochs(run),
    "votes": _votes(run),
    **_splits(run),
    "absent": summary["absent_classes"],
    "class_names": summary["class_names"],
    "confusion": tables.confusion(summary),
    "classes": tables.classes(summary),
    **_calibration(summary["calibration"]),
    "images": images,
    "embedding": embedding,
    "checks": checks,
    "colors": charts.COLORS,
    "balance": data_section.balance(run, audit),
    "forms": data_section.forms(run),
    "audit": data_section.findings(audit),
    "stored": surfaces,
    "stored_note": " ".join(left_out),
    "invariance": _invariance(report["batch_invariance"]),
    "not_run": run_summary.not_run(
      run,
      audit,
      network=answered is not None,
      checks=checks,
      surfaces=stored,
    ),
  }

  return render.render("run.html", context)


def check_answers(run: RunFiles, answered: predictions.Answers) -> list[str]:
  """Compares the predictions with the report.

  Args:
    run: the run.
    answered: the network's predictions on the reported split.

  Returns:
    A sentence if some predictions differ from the report's, as by rounding on other
    hardware.

  Raises:
    ValueError: if the checkpoint is of another epoch than the report.
  """
  epoch = int(answered.network.state.best_epoch)
  if epoch != run.report["best_epoch"]:
    raise ValueError(
      f"{run.workdir}: report.json is of epoch {run.report['best_epoch']}, the best "
      f"checkpoint of epoch {epoch}: evaluate the run again, with --mode=eval"
    )

  told = np.asarray(run.report["splits"][run.reported_split]["confusion_matrix"])
  classes = range(answered.probabilities.shape[1])
  found = confusion_matrix(answered.labels, answered.predicted, labels=classes)
  if told.shape == found.shape and (told == found).all():
    return []

  accuracy = (answered.predicted == answered.labels).mean()
  return [
    "Predictions recomputed for this page differ slightly from the report's, as "
    f"rounding on other hardware does: their accuracy is {render.percent(accuracy)}. "
    "Images, Grad-CAM and embedding below use them; all metrics are the report's."
  ]


def training_curves(run: RunFiles) -> list[tuple[str, Any]]:
  """Loss, accuracy and learning rate by epoch, as title and chart."""
  rate = charts.series_of(run.records, "learning_rate", "s2")
  found = []
  for title, name, factor in (("Loss", "loss", 1.0), ("Accuracy (%)", "accuracy", 100)):
    lines = [
      charts.series_of(run.records, f"{split}/{name}", style, factor)
      for split, style in (("train", "s0 dash"), ("validation", "s1"))
    ]
    description = f"{title} of train and validation by epoch; values below"
    chart = charts.curves(lines, description, best_epoch=run.report["best_epoch"])
    found.append((title, chart))

  log = plots.suits_log_scale(rate.values)
  chart = charts.curves([rate], "Learning rate by epoch", log=log, steps=True)
  found.append(("Learning rate", chart))
  return [(title, chart) for title, chart in found if chart is not None]


def _epochs(run: RunFiles) -> dict[str, Any]:
  columns = {
    label: key
    for label, key in _EPOCH_COLUMNS.items()
    if any(key in record for record in run.records)
  }

  def cell(record, key):
    if key not in record:
      return ""
    if key == "learning_rate":
      return f"{record[key]:.2e}"
    return render.figure(record[key], key.partition("/")[2])

  by_epoch = {record["epoch"]: record for record in run.records}
  selected, last = run.report["best_epoch"], max(by_epoch, default=0)
  shown = [epoch for epoch in dict.fromkeys((selected, last)) if epoch in by_epoch]
  return {
    "selected_epochs": [
      (f"selected, {epoch}" if epoch == selected else f"last, {epoch}")
      for epoch in shown
    ],
    "selected_values": [
      (label, [cell(by_epoch[epoch], key) for epoch in shown])
      for label, key in columns.items()
    ],
    "epoch_labels": list(columns),
    "epochs": [
      {
        "epoch": record["epoch"],
        "values": [cell(record, key) for key in columns.values()],
      }
      for record in run.records
    ],
  }


def _votes(run: RunFiles) -> list[tuple[str, list[str]]]:
  """Metrics under the raters' votes, a row each: label and text by split."""
  splits = [summary.get("votes") for summary in run.report["splits"].values()]
  if not any(splits):
    return []
  rows = (
    ("expected accuracy", "expected_accuracy", render.percent),
    ("highest possible", "highest_expected_accuracy", render.percent),
    ("agreement of two raters", "rater_agreement", render.percent),
    ("KL divergence from the votes", "kl_divergence", render.decimal),
    ("votes", "num_votes", render.count),
  )

  def cell(votes, key, form):
    value = (votes or {}).get(key)
    return "\u2013" if value is None else form(value)

  return [
    (label, [cell(votes, key, form) for votes in splits]) for label, key, form in rows
  ]


def _calibration(calibration: Mapping[str, Any]) -> dict[str, Any]:
  """The charts of the calibration, and their numbers."""
  return {
    "reliability": charts.reliability(
      [("s1", calibration)],
      "Reliability diagram; the values are in the table below",
    ),
    "confidences": charts.confidences(
      [("s1", calibration)], "Fraction of images by confidence"
    ),
    "bins": tables.bins(calibration),
  }


def _invariance(invariance: Mapping[str, Any]) -> dict[str, Any]:
  """The check of batch invariance, with the order of a difference in words."""
  differences = invariance["max_abs_difference_of_logits"].items()
  return {
    **invariance,
    "differences": [(order.replace("_", " "), value) for order, value in differences],
  }


def _splits(run: RunFiles) -> dict[str, Any]:
  splits = []
  for name, summary in run.report["splits"].items():
    hits = int(np.trace(np.asarray(summary["confusion_matrix"])))
    splits.append(
      {
        "described": run_summary.described(run.report, name),
        "num_examples": summary["num_examples"],
        "figures": seed_summary.metrics_of(summary),
        "interval": statistics.proportion_interval(hits, summary["num_examples"]),
      }
    )

  labels = dict.fromkeys(label for split in splits for label in split["figures"])
  for late in ("deduplicated accuracy", "accuracy with test-time augmentation"):
    labels.setdefault(late)
  return {"splits": splits, "figure_labels": list(labels)}


def _sections(
  *, images: bool, checks: bool, surfaces: bool
) -> Sequence[tuple[str, str]]:
  return [
    ("protocol", "Protocol"),
    ("metrics", "Metrics"),
    ("config", "Config"),
    ("training", "Training"),
    ("confusion", "Confusion"),
    ("classes", "Classes"),
    ("calibration", "Calibration"),
    *(
      [("mistakes", "Errors"), ("grad-cam", "Grad-CAM"), ("embedding", "Embedding")]
      if images
      else []
    ),
    *([("map-checks", "Checks of the saliency maps")] if checks else []),
    ("data", "Data"),
    *([("stored", "Loss surface")] if surfaces else []),
    ("invariance", "Batch invariance"),
    ("not-run", "Not computed"),
  ]
