"""Tables of a report, as rows of plain values for the templates."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emosynth_jax.config import defaults
from emosynth_jax.metrics import statistics
from emosynth_jax.report import charts
from emosynth_jax.utils import files, plotting

# The ends of the scale of a confusion matrix, on paper and on a dark screen.
_SCALES = {"l": ((255, 255, 255), (0, 76, 122)), "d": ((30, 33, 41), (124, 196, 240))}


def confusion(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
  """A confusion matrix by true class.

  Args:
    summary: of `classification.summarize`.

  Returns:
    For each class "name", "support" and "cells", each with "count", "share" (of its
    row, None in an empty one), "right" and "style", its colors as CSS variables.
  """
  counts = np.asarray(summary["confusion_matrix"])
  rows = []
  for k, name in enumerate(summary["class_names"]):
    total = int(counts[k].sum())
    cells = []
    for j, count in enumerate(counts[k].tolist()):
      share = count / total if total else None
      cells.append(
        {
          "count": count,
          "share": share,
          "right": j == k,
          "style": heat(share or 0.0),
        }
      )
    rows.append({"name": name, "support": total, "cells": cells})

  return rows


def classes(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Precision, recall, F1 and support by class, with Wilson's intervals of the shares.

  F1 is not a proportion, and has none.

  Args:
    summary: of `classification.summarize`.

  Returns:
    For each class "name", "precision", "recall", "f1", "support",
    "precision_interval", "recall_interval" (None if undefined) and "strip", a chart of
    the recall.
  """
  counts = np.asarray(summary["confusion_matrix"])
  rows = []
  for k, name in enumerate(summary["class_names"]):
    figures = summary["per_class"][name]
    hits = int(counts[k, k])
    recall = _interval(hits, int(counts[k].sum()))
    strip = charts.interval(recall[0], figures["recall"], recall[1]) if recall else ""
    rows.append(
      {
        "name": name,
        **figures,
        "precision_interval": _interval(hits, int(counts[:, k].sum())),
        "recall_interval": recall,
        "strip": strip,
      }
    )

  return rows


def bins(calibration: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The non-empty bins of a calibration."""
  edges, columns = calibration["bin_edges"], ("confidence", "accuracy", "count")
  return [
    {
      "low": edges[i],
      "high": edges[i + 1],
      **{name: calibration[name][i] for name in columns},
    }
    for i, count in enumerate(calibration["count"])
    if count
  ]


def config_changes(config: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
  """Settings that differ from the defaults: path, value, default (None for none)."""
  default = files.to_jsonable(defaults.get_default_config().to_dict())
  before = defaults.flatten(default)
  return [
    (path, value, before.get(path))
    for path, value in sorted(defaults.flatten(config).items())
    if path not in before or before[path] != value
  ]


def class_balance(
  counts: Mapping[str, Mapping[str, int]],
) -> tuple[list[dict[str, Any]], list[int]]:
  """Images by class and split.

  Args:
    counts: by split, the number of images of each class.

  Returns:
    For each class "name" and "cells" (of each split "count" and "share"), and each
    split's number of images.
  """
  totals = [sum(split.values()) for split in counts.values()]
  names = list(next(iter(counts.values())))
  rows = [
    {
      "name": name,
      "cells": [
        {"count": split.get(name, 0), "share": split.get(name, 0) / max(total, 1)}
        for split, total in zip(counts.values(), totals, strict=True)
      ],
    }
    for name in names
  ]

  return rows, totals


def heat(share: float) -> str:
  """The color of a cell and of its text, in both schemes, as CSS variables."""
  parts = []
  for scheme, (low, high) in _SCALES.items():
    mixed = [round(a + share * (b - a)) for a, b in zip(low, high, strict=True)]
    ink = "#000" if plotting.text_color(np.divide(mixed, 255)) == "black" else "#fff"
    color = "".join(f"{channel:02x}" for channel in mixed)
    parts.append(f"--{scheme}:#{color};--{scheme}i:{ink}")
  return ";".join(parts)


def _interval(successes: int, total: int) -> tuple[float, float] | None:
  return statistics.proportion_interval(successes, total) if total else None
