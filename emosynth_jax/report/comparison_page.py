"""Report that compares several runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emosynth_jax.metrics import batch_invariance, plots
from emosynth_jax.report import charts, config_groups, render, run_summary, tables
from emosynth_jax.report.config_groups import Arm
from emosynth_jax.report.run_files import RunFiles
from emosynth_jax.workdir import provenance

# Lines differ in dashes too, for color vision deficiency and grayscale print.
_DASHES = ("", "dash", "dash2", "dash3")
_CURVES = (
  ("Validation accuracy (%)", "validation/accuracy", 100.0),
  ("Validation loss", "validation/loss", 1.0),
  ("Training loss", "train/loss", 1.0),
  ("Learning rate", "learning_rate", 1.0),
)


def build(
  runs: Sequence[RunFiles],
  *,
  made_by: Mapping[str, Any],
  paired: Mapping[str, Any] | None = None,
) -> str:
  """The HTML that compares runs.

  Args:
    runs: at least two, evaluated on the same images; runs whose configs differ only in
      the seed are one arm.
    made_by: of `provenance.provenance`.
    paired: of `paired_images.compare`, of the second run against the first.

  Returns:
    The page.

  Raises:
    ValueError: for runs that cannot be compared.
  """
  arms = config_groups.group(runs)
  split = runs[0].reported_split
  for run in runs:
    if run.reported_split != split:
      raise ValueError(
        f"{run.workdir} reports the split {run.reported_split}, {runs[0].workdir} "
        f"{split}: not comparable"
      )

  differences = config_groups.differences(arms)
  different, shared = config_groups.config_differences(arms)
  report = runs[0].report
  summaries = [pooled(arm, split) for arm in arms]
  several = len(arms) > 1
  context = {
    "kind": "Comparison of runs" if several else "Report of several seeds",
    "title": f"{report['data_set']}: {_title(arms)}",
    "sections": _sections(several, paired is not None),
    "paired": paired,
    "made_by": made_by,
    "data_set": report["data_set"],
    "several": several,
    "arms": [{"label": arm.label, "style": _style(i)} for i, arm in enumerate(arms)],
    "described": run_summary.described(report, split),
    "num_images": report["splits"][split]["num_examples"],
    "head": [_headline(arm, split) for arm in arms],
    "caveats": _caveats(arms),
    "runs": [_row(arm, run) for arm in arms for run in arm.runs],
    "tables": [_figures(arms, name, report) for name in report["splits"]],
    "differences": differences,
    "num_tests": sum(
      row["p_value"] is not None for one in differences for row in one["rows"]
    ),
    "different": different,
    "shared": shared,
    "curves": curves(arms),
    "confusions": [tables.confusion(summary) for summary in summaries],
    "classes": class_rows(arms, split),
    **(_calibration([summary["calibration"] for summary in summaries])),
  }

  return render.render("comparison.html", context)


def _calibration(calibrations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The charts of the calibration of each arm, one above the other."""
  styled = [(_style(i), each) for i, each in enumerate(calibrations)]
  return {
    "reliability": charts.reliability(
      styled, "Reliability diagram of each config, seeds pooled"
    ),
    "confidences": charts.confidences(
      styled,
      "Fraction of images by confidence of each config, seeds pooled",
      height=330.0,
    ),
  }


def pooled(arm: Arm, split: str) -> dict[str, Any]:
  """Pooled confusion matrix and calibration of an arm's seeds.

  Args:
    arm: its runs.
    split: the split.

  Returns:
    "class_names", "confusion_matrix" (the sum of the seeds') and "calibration" (bins of
    all their predictions).
  """
  summaries = [run.report["splits"][split] for run in arm.runs]
  parts = [summary["calibration"] for summary in summaries]
  counts = np.array([part["count"] for part in parts])
  total = counts.sum(axis=0)

  def mean(name):
    # None, the mark of an empty bin, becomes NaN, which its count of 0 leaves out.
    values = np.array([part[name] for part in parts], np.float64)
    summed = (np.nan_to_num(values) * counts).sum(axis=0)
    return [
      float(s / n) if n else None for s, n in zip(summed, total.tolist(), strict=True)
    ]

  return {
    "class_names": summaries[0]["class_names"],
    "confusion_matrix": np.sum(
      [summary["confusion_matrix"] for summary in summaries], axis=0
    ).tolist(),
    "calibration": {
      "bin_edges": parts[0]["bin_edges"],
      "confidence": mean("confidence"),
      "accuracy": mean("accuracy"),
      "count": total.tolist(),
    },
  }


def curves(arms: Sequence[Arm]) -> list[tuple[str, Any]]:
  """Each metric by epoch, all runs in one chart."""
  found = []
  for title, key, factor in _CURVES:
    lines = [
      charts.series_of(run.records, key, _style(i), factor)
      for i, arm in enumerate(arms)
      for run in arm.runs
    ]
    log = key == "learning_rate" and all(
      plots.suits_log_scale(one.values) for one in lines
    )
    labels = ", ".join(arm.label for arm in arms)
    chart = charts.curves(
      lines,
      f"{title} by epoch of {labels}",
      log=log,
      steps=key == "learning_rate",
    )
    if chart is not None:
      found.append((title, chart))

  return found


def class_rows(arms: Sequence[Arm], split: str) -> list[dict[str, Any]]:
  """Recall and F1 of each class, the mean over an arm's seeds, and the support."""
  first = arms[0].runs[0].report["splits"][split]
  rows = []
  for name in first["class_names"]:
    cells = []
    for arm in arms:
      figures = [run.report["splits"][split]["per_class"][name] for run in arm.runs]
      cells.append(
        {
          key: float(np.mean([figure[key] for figure in figures]))
          for key in ("recall", "f1")
        }
      )
    best = max(cell["f1"] for cell in cells)
    for cell in cells:
      cell["best"] = len(arms) > 1 and cell["f1"] == best > 0
    support = first["per_class"][name]["support"]
    rows.append({"name": name, "support": support, "cells": cells})

  return rows


def _headline(arm: Arm, split: str) -> dict[str, Any]:
  figure = arm.summary["splits"][split]["figures"]["accuracy"]
  return {
    "label": arm.label,
    "mean": figure["mean"],
    "deviation": figure["deviation"],
    "seeds": arm.summary["seeds"],
  }


def _figures(
  arms: Sequence[Arm], split: str, report: Mapping[str, Any]
) -> dict[str, Any]:
  """A table of a split: a row for each metric, a column for each arm."""
  labels = config_groups.figure_labels(arms, split)
  return {
    "described": run_summary.described(report, split),
    "rows": [
      {
        "label": label,
        "cells": [
          arm.summary["splits"].get(split, {}).get("figures", {}).get(label)
          for arm in arms
        ],
      }
      for label in labels
    ],
  }


def _row(arm: Arm, run: RunFiles) -> dict[str, Any]:
  """A run in the table of provenance."""
  report = run.report
  trained = report["trained_by"]

  def each(key):
    return provenance.each_once(trained, key) or ["not recorded"]

  return {
    "label": arm.label,
    "seed": report["seed"],
    "workdir": str(run.workdir),
    "epoch": f"{report['best_epoch']} of {report['epochs_trained']}",
    "parameters": report["num_parameters"],
    "commits": each("commit"),
    "evaluated_at": report["evaluated_by"]["commit"],
    "hardware": each("hardware"),
    "commands": each("command"),
    "invariance": batch_invariance.describe(report["batch_invariance"]),
  }


def _caveats(arms: Sequence[Arm]) -> list[str]:
  """Each caveat once, with the runs that it applies to."""
  about: dict[str, list[str]] = {}
  total = sum(len(arm.runs) for arm in arms)
  for arm in arms:
    for run in arm.runs:
      for sentence in run_summary.caveats(run):
        # Stated per arm below.
        if sentence != run_summary.ONE_SEED:
          name = f"{arm.label}, seed {run.report['seed']}"
          about.setdefault(sentence, []).append(name)

  found = [
    sentence if len(names) == total else f"{'; '.join(names)}: {sentence}"
    for sentence, names in about.items()
  ]
  few = [arm.label for arm in arms if len(arm.runs) == 1]
  if few:
    found.append(
      f"One seed of {', '.join(few)}: the variation over seeds is "
      "unknown, and a difference may be due to chance."
    )

  trained = [
    line for arm in arms for run in arm.runs for line in run.report["trained_by"]
  ]
  commits = provenance.each_once(trained, "commit")
  if len(commits) > 1:
    found.append(f"The runs were trained by {len(commits)} commits.")
  hardware = provenance.each_once(trained, "hardware")
  if len(hardware) > 1:
    found.append(
      f"The runs were trained on different hardware: {'; '.join(sorted(hardware))}."
    )

  return found


def _style(arm: int) -> str:
  return f"s{arm % charts.COLORS} {_DASHES[arm % len(_DASHES)]}".strip()


def _title(arms: Sequence[Arm]) -> str:
  if len(arms) == 1:
    return f"{arms[0].label}, {len(arms[0].runs)} seeds"
  if len(arms) > 4:
    return f"{len(arms)} configs"
  return (" against " if len(arms) == 2 else ", ").join(arm.label for arm in arms)


def _sections(several: bool, paired: bool) -> list[tuple[str, str]]:
  return [
    ("protocol", "Protocol"),
    ("metrics", "Metrics"),
    *([("differences", "Differences")] if several else []),
    *([("paired", "Image by image")] if paired else []),
    ("config", "Config"),
    ("training", "Training"),
    ("confusion", "Confusion"),
    ("classes", "Classes"),
    ("calibration", "Calibration"),
  ]
