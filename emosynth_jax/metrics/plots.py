"""Plots of a run as PNG files: training curves, confusion matrix, reliability."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from emosynth_jax.utils import plotting

_PALE_BLUE = "#9CC7E3"
# Color and line of each split: they differ in both, for grayscale print.
_SPLITS = {"train": (plotting.BLUE, "--"), "validation": (plotting.ORANGE, "-")}
# With more classes than this there is no room for numbers in the cells.
_MAX_ANNOTATED_CLASSES = 20
# Smallest ratio of the learning rates of two epochs that a plateau schedule causes.
_SMALLEST_RATIO = 0.01


def suits_log_scale(rates: Sequence[float] | np.ndarray) -> bool:
  """Returns whether learning rates by epoch are best shown on a logarithmic scale.

  Not where they decay to 0, as a cosine does: its last epoch would take up the axis.
  """
  values = np.asarray(rates, float)
  if not values.size or not np.all(values > 0):
    return False
  return bool(np.all(values[1:] >= _SMALLEST_RATIO * values[:-1]))


def plot_curves(
  records: Sequence[Mapping[str, Any]],
  path: str | os.PathLike[str],
  *,
  best_epoch: int | None = None,
) -> None:
  """Plots loss, accuracy and learning rate by epoch.

  Args:
    records: one dictionary an epoch, with ``epoch`` and any of ``train/loss``,
      ``validation/loss``, ``train/accuracy``, ``validation/accuracy`` (0 to 1) and
      ``learning_rate``. Non-finite values leave a gap.
    path: the PNG file.
    best_epoch: the epoch of the selected checkpoint; marked if given.

  Raises:
    ValueError: if no record has an epoch and one of these values.
  """
  known = [
    *(f"{split}/{name}" for name in ("loss", "accuracy") for split in _SPLITS),
    "learning_rate",
  ]
  lines = {key: series(records, key) for key in known}
  if not any(len(epochs) for epochs, _ in lines.values()):
    raise ValueError(
      f"records: expected records with 'epoch' and any of {known}, got {len(records)} "
      f"records with {sorted({key for r in records for key in r})}"
    )

  figure = plotting.new_figure(9.5, 5.2)
  axes = figure.subplot_mosaic(
    [["loss", "accuracy"], ["rate", "rate"]], height_ratios=[3.2, 1], sharex=True
  )

  for name, factor, label in (("loss", 1, "loss"), ("accuracy", 100, "accuracy (%)")):
    for split, (color, style) in _SPLITS.items():
      epochs, values = lines[f"{split}/{name}"]
      if len(epochs):
        marker = "o" if len(epochs) <= 40 else None
        axes[name].plot(
          epochs,
          factor * values,
          style,
          color=color,
          marker=marker,
          markersize=3.5,
          label=split,
        )
    axes[name].set_ylabel(label)
    axes[name].tick_params(labelbottom=True)

  epochs, values = lines["learning_rate"]
  if len(epochs):
    marker = "o" if len(epochs) == 1 else None
    axes["rate"].step(epochs, values, where="mid", color=plotting.GREEN, marker=marker)
    if suits_log_scale(values):
      axes["rate"].set_yscale("log")
      # Within less than a decade the axis would have one label or none.
      axes["rate"].set_ylim(values.min() / 4, values.max() * 4)
      axes["rate"].yaxis.set_minor_formatter(NullFormatter())

  axes["rate"].set_ylabel("learning rate")
  axes["rate"].set_xlabel("epoch")
  axes["rate"].xaxis.set_major_locator(MaxNLocator(integer=True))
  first, last = axes["rate"].get_xlim()
  if last - first < 1:  # a single epoch: no fractions of it as ticks
    axes["rate"].set_xlim(first - 1, last + 1)

  for axis in axes.values():
    plotting.clean(axis)
    if best_epoch is not None:
      axis.axvline(
        best_epoch, color=plotting.GRAY, linewidth=1, linestyle=":", zorder=1
      )

  if best_epoch is not None:
    axes["accuracy"].plot(
      [], [], ":", color=plotting.GRAY, label=f"chosen: epoch {best_epoch}"
    )

  for name in ("loss", "accuracy"):
    if axes[name].get_legend_handles_labels()[0]:
      axes[name].legend(frameon=False)

  plotting.save(figure, path)


def plot_confusion_matrix(
  matrix: Any,
  class_names: Sequence[str],
  path: str | os.PathLike[str],
  title: str = "",
) -> None:
  """Plots a confusion matrix, colored by the share of each row.

  Each cell holds the percentage of its true class and the count below it; with more
  than 20 classes there are only colors. The row of a class without examples has no
  percentages and is hatched.

  Args:
    matrix: counts, ``(K, K)``, rows are true classes.
    class_names: K names.
    path: the PNG file.
    title: title of the plot: data set, split, model.

  Raises:
    TypeError: if the matrix holds no integers.
    ValueError: if the matrix is not square, has a negative entry, or has another
      number of classes than there are names.
  """
  counts = np.asarray(matrix)
  size = len(class_names)
  if counts.shape != (size, size) or size == 0:
    raise ValueError(
      f"matrix: expected shape ({size}, {size}) for {size} class names, got "
      f"{counts.shape}"
    )
  if not np.issubdtype(counts.dtype, np.integer):
    raise TypeError(f"matrix: expected integer counts, got {counts.dtype}")
  if counts.min() < 0:
    raise ValueError(f"matrix: expected counts, got {counts.min()}")

  totals = counts.sum(axis=1, keepdims=True)
  shares = np.full(counts.shape, np.nan)
  np.divide(100 * counts, totals, out=shares, where=totals > 0)

  longest = max(len(str(name)) for name in class_names)
  annotated = size <= _MAX_ANNOTATED_CLASSES
  side = (0.72 * size if annotated else 0.2 * size) + 1.4 + 0.08 * longest
  side = max(side, 4.6)
  figure = plotting.new_figure(side + 0.9, side)
  axis = figure.subplots()
  axis.set_facecolor("#eeeeee")
  image = axis.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=100)
  bar = figure.colorbar(image, ax=axis, fraction=0.046, pad=0.03)
  bar.set_label("% of the true class" + (" (count below)" if annotated else ""))
  bar.outline.set_visible(False)

  for row, column in np.ndindex(*counts.shape) if annotated else ():
    share = shares[row, column]
    # Zeros would clutter the matrix.
    if not counts[row, column]:
      continue
    color = plotting.text_color(image.to_rgba(share))
    for shift, text, align, points in (
      (-0.04, f"{share:.1f}", "bottom", 10),
      (0.1, f"{counts[row, column]:,}", "top", 7.5),
    ):
      axis.text(
        column, row + shift, text, ha="center", va=align, fontsize=points, color=color
      )

  for row in np.flatnonzero(totals[:, 0] == 0):
    axis.axhspan(row - 0.5, row + 0.5, fill=False, hatch="///", edgecolor="#bbbbbb")
  rotation = 45 if longest > 5 or not annotated else 0
  axis.set_xticks(
    range(size),
    [str(name) for name in class_names],
    rotation=rotation,
    ha="right" if rotation else "center",
    rotation_mode="anchor",
  )
  axis.set_yticks(range(size), [str(name) for name in class_names])
  axis.set_xlabel("predicted")
  axis.set_ylabel("true")
  axis.set_title(plotting.wrap_title(title, side), fontsize=11)
  axis.tick_params(length=0)
  axis.spines[:].set_visible(False)
  axis.set_xticks(np.arange(size + 1) - 0.5, minor=True)
  axis.set_yticks(np.arange(size + 1) - 0.5, minor=True)
  axis.tick_params(which="minor", length=0)
  if annotated:
    axis.grid(which="minor", color="white", linewidth=1.5)
  for label in (axis.title, *axis.get_xticklabels(), *axis.get_yticklabels()):
    label.set_parse_math(False)  # a name may hold a dollar sign
  plotting.save(figure, path)


def plot_reliability(
  calibration: Mapping[str, Sequence[Any]],
  path: str | os.PathLike[str],
  title: str = "",
) -> None:
  """Plots a reliability diagram: accuracy by confidence, and a confidence histogram.

  Args:
    calibration: ``bin_edges`` (B + 1), ``confidence``, ``accuracy`` and ``count`` (B
      each), as in `classification.summarize`.
    path: the PNG file.
    title: title of the plot: data set, split, model.

  Raises:
    ValueError: if the lengths do not fit or all bins are empty.
  """
  left, width, confidence, accuracy, share = occupied_bins(calibration)
  error = float(np.sum(share * np.abs(accuracy - confidence))) / 100

  figure = plotting.new_figure(5.2, 6.2)
  top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
  bars = {"width": width, "align": "edge", "edgecolor": "white", "linewidth": 0.8}
  top.bar(left, accuracy, color=_PALE_BLUE, label="accuracy", **bars)
  top.plot(
    [0, 100], [0, 100], "--", color=plotting.GRAY, linewidth=1, label="calibrated"
  )
  top.vlines(confidence, accuracy, confidence, color=plotting.ORANGE, linewidth=2.5)
  top.plot(
    confidence,
    confidence,
    "o",
    color=plotting.ORANGE,
    markersize=4,
    label="mean confidence",
  )
  top.set_ylabel("accuracy (%)")
  top.set_ylim(0, 100)
  lines = [plotting.wrap_title(title, 5.2)] if title else []
  lines.append(f"expected calibration error {error:.2f} %")
  figure.suptitle("\n".join(lines), fontsize=11, parse_math=False)
  top.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
  bottom.bar(left, share, color=_PALE_BLUE, **bars)
  bottom.set_ylabel("examples (%)")
  bottom.set_xlabel("confidence (%)")
  bottom.set_xlim(0, 100)
  plotting.clean(top)
  plotting.clean(bottom)
  plotting.save(figure, path)


def series(
  records: Sequence[Mapping[str, Any]], key: str
) -> tuple[np.ndarray, np.ndarray]:
  """Epochs and values of a metric; records without it are skipped.

  Args:
    records: the lines of metrics.jsonl.
    key: as "train/loss".

  Returns:
    `(N,)` each; values that are not finite are NaN.
  """
  rows = [record for record in records if "epoch" in record and key in record]
  values = np.array([float(row[key]) for row in rows], np.float64)
  values[~np.isfinite(values)] = np.nan
  return np.array([row["epoch"] for row in rows]), values


def mean_series(
  runs: Sequence[Sequence[Mapping[str, Any]]], key: str
) -> tuple[np.ndarray, np.ndarray]:
  """As `series`, the mean over runs, of the epochs in which all have the metric."""
  found = [dict(zip(*series(records, key), strict=True)) for records in runs]
  epochs = [epoch for epoch in found[0] if all(epoch in one for one in found)]
  means = [np.mean([one[epoch] for one in found]) for epoch in epochs]
  return np.array(epochs), np.array(means)


def occupied_bins(calibration: Mapping[str, Sequence[Any]]) -> tuple[np.ndarray, ...]:
  """Extracts the bins of a reliability diagram that hold examples.

  Args:
    calibration: as `plot_reliability` takes it.

  Returns:
    Left edges, widths, mean confidences, accuracies and shares of the examples, all in
    percent.

  Raises:
    ValueError: if the lengths do not fit or all bins are empty.
  """
  # None, the mark of an empty bin, becomes NaN.
  names = ("bin_edges", "count", "confidence", "accuracy")
  edges, count, confidence, accuracy = (
    100 * np.asarray(calibration[name], np.float64) for name in names
  )
  lengths = [len(edges) - 1, len(count), len(confidence), len(accuracy)]
  if len(set(lengths)) > 1:
    raise ValueError(
      "calibration: expected bin_edges to be one longer than count, confidence and "
      f"accuracy, got lengths {[len(edges), *lengths[1:]]}"
    )
  if count.sum() == 0:
    raise ValueError("calibration: expected a non-empty bin, got none")

  shares = 100 * count / count.sum()
  columns = (edges[:-1], np.diff(edges), confidence, accuracy, shares)
  return tuple(column[count > 0] for column in columns)
