"""Curves of an ablation's members by epoch: a CSV and a plot."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from emosynth_jax.utils import files, plotting, text_table

# More lines than this have the color of their verdict, and no names.
_MAX_NAMED = 10

_PANELS = {
  "train_accuracy": "accuracy, training (%)",
  "train_cross_entropy": "cross-entropy without margin, training",
  "accuracy": "accuracy, validation (%)",
  "loss": "cross-entropy, validation",
}
_MEASURES = ("train_loss", *_PANELS)


def write(
  rows: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]], workdir: pathlib.Path
) -> None:
  """Writes curves.csv and curves.png, if any member has curves.

  Args:
    rows: each row of `ablation_report.compare` with its records.
    workdir: the folder.
  """
  found = [
    (row, [record for record in records if "curves" in record]) for row, records in rows
  ]
  found = [(row, records) for row, records in found if records]
  if not found:
    return

  text = text_table.to_csv(_lines(found))
  files.write_atomically(workdir / "curves.csv", text.encode())
  _plot(found, workdir / "curves.png")


def _lines(found: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> list[Any]:
  """One line for each member and epoch."""
  validation = {"accuracy": "validation_accuracy", "loss": "validation_loss"}
  names = [validation.get(measure, measure) for measure in _MEASURES]
  lines: list[list[Any]] = [["setting", "seed", "epoch", *names]]
  for row, records in found:
    for record in records:
      curves = record["curves"]
      for i in range(len(curves["train_loss"])):
        values = [curves[m][i] if m in curves else "" for m in _MEASURES]
        lines.append([row["label"], record["seed"], i + 1, *values])
  return lines


def mean_curve(records: list[dict[str, Any]], measure: str) -> np.ndarray | None:
  """The mean of a measure over seeds, by epoch; None if not all have it."""
  if not all(measure in record["curves"] for record in records):
    return None
  # A number that is not finite is a string, as JSON has none.
  return np.mean([np.asarray(r["curves"][measure], float) for r in records], axis=0)


def _plot(
  found: list[tuple[dict[str, Any], list[dict[str, Any]]]], path: pathlib.Path
) -> None:
  """Plots the means over seeds, one line a setting, cross-entropy's in black."""
  measures = [
    m
    for m in _PANELS
    if any(mean_curve(records, m) is not None for _, records in found)
  ]
  figure = plotting.new_figure(9.5, 3.4 * (len(measures) // 2) + 0.6)
  panels = figure.subplots(len(measures) // 2, 2, squeeze=False).ravel()
  is_named = len(found) <= _MAX_NAMED
  by_verdict = {"better": plotting.GREEN, "no difference shown": plotting.GRAY}

  for axis, measure in zip(panels, measures, strict=True):
    styles = itertools.cycle(("-", "--", ":"))
    for i, (row, records) in enumerate(found):
      curve = mean_curve(records, measure)
      if curve is None:
        continue
      is_baseline = row["setting"] == {"loss": "cross_entropy"}
      verdict = row["verdict"] if row["verdict"] in by_verdict else "worse"
      style: dict[str, Any] = {"color": f"C{i}", "label": row["label"]}
      if is_baseline:
        style |= {"color": "black", "linestyle": next(styles), "zorder": 3}
      elif not is_named:
        style |= {"color": by_verdict.get(verdict, plotting.ORANGE), "alpha": 0.7}
      scale = 100 if measure.endswith("accuracy") else 1
      axis.plot(np.arange(1, len(curve) + 1), scale * curve, marker=".", **style)
    axis.set_xlabel("epoch")
    axis.set_title(_PANELS[measure], fontsize=10)
    axis.xaxis.get_major_locator().set_params(integer=True)
    plotting.clean(axis)

  handles, labels = panels[0].get_legend_handles_labels()
  if not is_named:
    axis = panels[0]
    handles = [axis.plot([], [], color="black", linewidth=2)[0]]
    labels = ["cross_entropy"]
    names = by_verdict | {"worse, collapses or not finite": plotting.ORANGE}
    for name, color in names.items():
      handles += axis.plot([], [], color=color)
      labels.append(name)
  figure.legend(
    handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False
  )
  plotting.save(figure, path)
