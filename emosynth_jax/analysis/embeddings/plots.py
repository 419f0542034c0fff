"""Plots of projected embeddings, annotated with metrics of the full embeddings."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from emosynth_jax.utils import plotting

# Petroff, "Accessible Color Sequences for Data Visualization", 2021: ten colors that
# stay apart for readers with any of the three color-vision deficiencies. The markers
# distinguish classes in grayscale print, and classes beyond the tenth.
COLORS = (
  "#3f90da",
  "#ffa90e",
  "#bd1f01",
  "#94a4a2",
  "#832db6",
  "#a96b59",
  "#e76300",
  "#b9ac70",
  "#717581",
  "#92dadd",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LAYERS = 8
_CAUTION = (
  "t-SNE preserves neighborhoods only: distances between clusters, their sizes and "
  "densities are not meaningful. The metrics are of the embeddings before projection."
)


class Panel(NamedTuple):
  """One panel of a plot.

  Attributes:
    title: title of the panel.
    points: `(N, 2)`.
    labels: int `(N,)`.
    figures: lines of metrics below the title.
  """

  title: str
  points: np.ndarray
  labels: np.ndarray
  figures: str


def plot_embedding(
  axis: Axes,
  points: np.ndarray,
  labels: np.ndarray,
  class_names: Sequence[str],
) -> None:
  """Draws points in a plane, with a color and a marker for each class.

  Args:
    axis: matplotlib's, to draw on.
    points: floating `(N, 2)`, of `embeddings.project`.
    labels: int `(N,)`.
    class_names: K names, in label order.

  Raises:
    ValueError: if shapes or labels do not fit.
  """
  points, labels = np.asarray(points), np.asarray(labels)
  if points.ndim != 2 or points.shape[1] != 2 or labels.shape != points.shape[:1]:
    raise ValueError(
      f"points and labels: expected (N, 2) and (N,), got {points.shape} and "
      f"{labels.shape}"
    )
  if len(labels) and not 0 <= labels.min() <= labels.max() < len(class_names):
    raise ValueError(
      f"labels: expected 0 to {len(class_names) - 1} for {len(class_names)} class "
      f"names, got {labels.min()} to {labels.max()}"
    )

  # In interleaved layers: otherwise the last class would cover the others.
  layer_of = np.random.Generator(np.random.PCG64(0)).integers(0, _LAYERS, len(labels))
  size = float(np.clip(9000 / max(len(labels), 1), 4, 26))
  for layer in range(_LAYERS):
    for k in range(len(class_names)):
      x, y = points[(layer_of == layer) & (labels == k)].T
      axis.scatter(
        x,
        y,
        s=size,
        color=COLORS[k % len(COLORS)],
        marker=MARKERS[k % len(MARKERS)],
        edgecolor="white",
        linewidth=0.25,
        alpha=0.85,
      )

  axis.set_aspect("equal", adjustable="datalim")
  axis.set_xticks([])
  axis.set_yticks([])
  axis.spines[:].set_color("#cccccc")


def legend_handles(class_names: Sequence[str]) -> list[Line2D]:
  """The classes' markers, for one legend of all panels."""
  return [
    Line2D(
      [],
      [],
      linestyle="",
      color=COLORS[k % len(COLORS)],
      marker=MARKERS[k % len(MARKERS)],
      markersize=6,
      label=name,
    )
    for k, name in enumerate(class_names)
  ]


def draw(
  path: str | os.PathLike,
  rows: Sequence[Sequence[Panel | None]],
  class_names: Sequence[str],
  title: str,
) -> None:
  """Draws panels in rows and columns, with one legend.

  Args:
    path: the PNG file.
    rows: of panels, all of one length; None leaves a place empty.
    class_names: K names.
    title: data set, split and number of images.
  """
  number = len(rows[0])
  width = 4.4 * number + 1.1
  figure = plotting.new_figure(width, 4.7 * len(rows) + 0.7)
  axes = figure.subplots(len(rows), number, squeeze=False)
  for axis, panel in zip(axes.flat, [p for row in rows for p in row], strict=True):
    if panel is None:
      axis.set_axis_off()
      continue
    plot_embedding(axis, panel.points, panel.labels, class_names)
    axis.set_title(panel.title, fontsize=10, parse_math=False)
    axis.set_xlabel(panel.figures, fontsize=8.5, parse_math=False)

  legend = figure.legend(
    handles=legend_handles(class_names), loc="outside right center", frameon=False
  )
  for text in legend.get_texts():
    text.set_parse_math(False)
  figure.suptitle(title, fontsize=11, parse_math=False)
  figure.supxlabel(
    textwrap.fill(_CAUTION, int(14 * width)),
    fontsize=8,
    color=plotting.GRAY,
    parse_math=False,
  )
  plotting.save(figure, path)


def describe(figures: Mapping[str, Any], kept: Mapping[str, float]) -> str:
  """Formats the metrics of a panel.

  Args:
    figures: of `separation.separation`, with "accuracy".
    kept: of `embeddings.faithfulness`.

  Returns:
    Four lines; three where there are too few classes for an order of their distances.
  """
  # Read from JSON, NaN is text.
  number = {
    key: float(value)
    for key, value in {**figures, **kept}.items()
    if key != "per_class"
  }
  order = number["center_distances"]
  text = (
    f"accuracy {100 * number['accuracy']:.1f} %, silhouette "
    f"{number['silhouette']:.3f}, intra / inter {number['intra_inter_ratio']:.2f}\n"
    f"angle to own class mean {number['angle_to_own']:.1f}°, to the nearest other "
    f"{number['angle_to_other']:.1f}°\n"
    f"of the projection: trustworthiness {number['trustworthiness']:.2f}"
  )
  if order == order:
    text += f", rank correlation\nof class distances {order:.2f}"
  return text
