"""Plots of loss landscapes: lines, contours and surfaces, with a common scale."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from emosynth_jax.utils import plotting

_NUM_LEVELS = 21
# Ceiling as a multiple of the chance-level loss, ln K: values above have one color. At
# the edge of a plane losses reach thousands, and levels up to there would leave none
# for the basin.
_CEILING = 5
# Round numbers of a decade, for ticks of a logarithmic scale.
_ROUND = (1, 1.2, 1.5, 2, 3, 4, 5, 7)
_OVER, _NOT_FINITE = "#fff3b0", "#9a9a9a"
# Maximum line length of a panel's title.
_LETTERS = 52
_LINES = (("-", plotting.BLUE), ("--", plotting.ORANGE), ("-.", plotting.GREEN))


def draw(
  stem: pathlib.Path,
  landscapes: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]],
) -> list[pathlib.Path]:
  """Draws one landscape, or several on the same axes, levels and colors.

  Args:
    stem: the plots' path without suffix.
    landscapes: pairs of a record of loss_landscape.json and its arrays.

  Returns:
    The PNG files: STEM.png for lines, STEM_contour.png and STEM_surface.png for planes.
  """
  titles = [describe_run(record) for record, _ in landscapes]
  axis = landscapes[0][1]["axis"]
  losses = [
    np.ma.masked_invalid(np.asarray(arrays["loss"], np.float64))
    for _, arrays in landscapes
  ]
  accuracies = [arrays["accuracy"] for _, arrays in landscapes]
  if losses[0].ndim == 1:
    path = stem.with_name(f"{stem.name}.png")
    plot_lines(axis, losses, accuracies, titles, path)
    return [path]

  paths = [stem.with_name(f"{stem.name}_{kind}.png") for kind in ("contour", "surface")]
  most = max(record["num_classes"] for record, _ in landscapes)
  levels = common_levels(losses, ceiling=_CEILING * float(np.log(max(most, 2))))
  plot_contours(axis, losses, titles, levels, paths[0])
  plot_surfaces(axis, losses, titles, levels, paths[1])
  return paths


def plot_lines(
  axis: np.ndarray,
  losses: Sequence[np.ndarray],
  accuracies: Sequence[np.ndarray],
  titles: Sequence[str],
  path: pathlib.Path,
) -> None:
  """Draws loss (logarithmic) and accuracy along one direction.

  Args:
    axis: steps along the direction, `(n,)`; 1 is each filter's own norm.
    losses: of each run, `(n,)`.
    accuracies: of each run, in [0, 1], `(n,)`.
    titles: of each run.
    path: the PNG file.
  """
  figure = plotting.new_figure(6.4, 6.0)
  top, bottom = figure.subplots(2, 1, sharex=True)
  for i, title in enumerate(titles):
    line, color = _LINES[i % len(_LINES)]
    style = {"linestyle": line, "color": color, "label": title}
    top.plot(axis, losses[i], **style)
    bottom.plot(axis, 100 * accuracies[i], **style)

  top.set_yscale("log")
  top.set_ylabel("cross-entropy")
  bottom.set_ylabel("accuracy (%)")
  bottom.set_xlabel("step along the direction, 1 = each filter's own norm")
  for a in (top, bottom):
    plotting.clean(a)
  legend = top.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
  for text in legend.get_texts():
    text.set_parse_math(False)
  plotting.save(figure, path)


def plot_contours(
  axis: np.ndarray,
  losses: Sequence[np.ndarray],
  titles: Sequence[str],
  levels: np.ndarray,
  path: pathlib.Path,
) -> None:
  """Draws each plane in `levels`, with lines at round numbers; one color is above them.

  Args:
    axis: steps along both directions, `(n,)`.
    losses: of each run, `(n, n)`, the first direction first; masked where not finite.
    titles: of each run.
    levels: bounds of the colors, ascending, see `common_levels`.
    path: the PNG file.
  """
  norm, ticks = LogNorm(levels[0], levels[-1]), round_ticks(levels[0], levels[-1])
  colors = colormaps["viridis"].with_extremes(over=_OVER)
  above = _is_cut(losses, levels)
  figure = plotting.new_figure(4.6 * len(losses) + 1.2, 4.8)
  panels = figure.subplots(1, len(losses), squeeze=False, sharex=True, sharey=True)[0]
  for panel, loss, title in zip(panels, losses, titles, strict=True):
    panel.set_facecolor(_NOT_FINITE)
    # The first index belongs to the first direction, which is drawn to the right.
    filled = panel.contourf(
      axis,
      axis,
      loss.T,
      levels,
      cmap=colors,
      norm=norm,
      extend="max" if above else "neither",
    )
    inside = [tick for tick in ticks if loss.min() < tick < loss.max()]
    if inside:
      lines = panel.contour(axis, axis, loss.T, inside, colors="white", linewidths=0.6)
      panel.clabel(lines, fmt="%g", fontsize=7)
    panel.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 5, 10]))
    panel.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 5, 10]))
    panel.plot(0, 0, "o", color="white", markeredgecolor="black", markersize=5)
    panel.set_aspect("equal")
    panel.set_title(title, fontsize=10, parse_math=False)
    panel.set_xlabel("first direction")

  panels[0].set_ylabel("second direction")
  bar = figure.colorbar(filled, ax=list(panels), fraction=0.046, pad=0.03)
  highest = max(float(loss.max()) for loss in losses)
  bar.set_label("cross-entropy" + (f", up to {highest:.2g} beyond" if above else ""))
  bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
  bar.minorticks_off()
  plotting.save(figure, path)


def plot_surfaces(
  axis: np.ndarray,
  losses: Sequence[np.ndarray],
  titles: Sequence[str],
  levels: np.ndarray,
  path: pathlib.Path,
) -> None:
  """Draws each plane as a surface of the loss's logarithm, within `levels`.

  Args:
    axis, losses, titles, levels, path: as of `plot_contours`.
  """
  ticks = round_ticks(levels[0], levels[-1])
  above = _is_cut(losses, levels)
  low, high = np.log10(levels[[0, -1]])
  figure = plotting.new_figure(5.0 * len(losses), 4.6)
  first, second = np.meshgrid(axis, axis, indexing="ij")
  for i, (loss, title) in enumerate(zip(losses, titles, strict=True)):
    panel = figure.add_subplot(1, len(losses), i + 1, projection="3d")
    height = np.log10(np.ma.filled(loss, np.nan).clip(levels[0], levels[-1]))
    panel.plot_surface(
      first,
      second,
      height,
      cmap="viridis",
      vmin=low,
      vmax=high,
      rcount=200,
      ccount=200,
      linewidth=0,
    )
    panel.set_zlim(low, high)
    panel.set_title(title, fontsize=10, parse_math=False)

    # The rotated labels need space.
    panel.set_xlabel("first direction", labelpad=8)
    panel.set_ylabel("second direction", labelpad=8)
    for side in (panel.xaxis, panel.yaxis):
      side.set_major_locator(MaxNLocator(4))
    panel.set_zticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
    panel.set_zlabel(
      "cross-entropy" + (f", clipped at {levels[-1]:.2g}" if above else "")
    )
    panel.view_init(elev=32, azim=-55)
    panel.set_box_aspect(None, zoom=0.85)

  plotting.save(figure, path)


def common_levels(
  losses: Sequence[np.ndarray], ceiling: float = float("inf")
) -> np.ndarray:
  """Geometrically spaced levels from the least to the greatest loss of all planes.

  Args:
    losses: losses of each plane; masked values are ignored.
    ceiling: the highest level, if a loss is above it; but at least five times the least
      loss, so that the levels cover the relevant range.

  Returns:
    `(21,)`, ascending. A loss of zero counts as a thousandth of a nat at most.

  Raises:
    ValueError: if no loss is finite.
  """
  finite = np.concatenate([np.ma.compressed(loss) for loss in losses])
  if not finite.size:
    raise ValueError("losses: expected a finite one, got none")

  low = max(float(finite.min()), 1e-3)
  # A flat plane still needs levels that ascend.
  high = max(min(float(finite.max()), max(ceiling, 5 * low)), low * 1.01)
  levels = np.geomspace(low, high, _NUM_LEVELS)
  # Rounding must not exclude the ends.
  levels[0], levels[-1] = min(low, float(finite.min())), high * (1 + 1e-6)
  levels[0] = max(levels[0] * (1 - 1e-6), 1e-12)
  return levels


def round_ticks(low: float, high: float) -> list[float]:
  """Chooses about six round numbers within a logarithmic scale.

  Args:
    low: the scale's lower end, above 0.
    high: its upper end.

  Returns:
    Ascending numbers from `low` to `high`; never fewer than two.
  """
  decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  for wanted in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5), _ROUND):
    # Not 10.0**-3 * 2, whose last digits are rounding.
    found = [float(f"{digit}e{power}") for power in decades for digit in wanted]
    found = [tick for tick in found if low <= tick <= high]
    if len(found) >= 5:
      return found

  if len(found) >= 3:
    return found
  # Less than a decade, where a linear scale's round numbers are as good.
  ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
  inside = [float(tick) for tick in ticks if low <= tick <= high]
  return inside if len(inside) >= 2 else [low, high]


def _is_cut(losses, levels):
  return any(float(loss.max()) > levels[-1] for loss in losses)


def describe_run(record: Mapping[str, Any]) -> str:
  """Title of a panel: network, training loss and seed, images, BatchNorm's mode."""
  settings = record["settings"]
  split = f"{settings['data_set']} {settings['official_split'] or settings['split']}"
  how = f"{settings['num_images']:,} images, BatchNorm {settings['batch_norm']}"
  # "8,000 of the 28,709 images of Training" would overlap the next panel's title.
  joined = f"{split}, {how}"
  lines = joined if len(joined) <= _LETTERS else f"{split},\n{how}"
  return f"{record['name']}, seed {settings['training_seed']}\n{lines}"
