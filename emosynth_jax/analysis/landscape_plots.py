"""Pictures of loss landscapes: lines, contours and surfaces, several on one scale."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emosynth_jax import plots

_NUM_LEVELS = 21
_LINES = (("-", plots.BLUE), ("--", plots.ORANGE), ("-.", plots.GREEN))


def draw(
  stem: pathlib.Path,
  landscapes: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]],
) -> list[pathlib.Path]:
  """Draws one landscape, or several on the same axes, levels and colours.

  Args:
    stem: the pictures' path without ending.
    landscapes: pairs of a record of loss_landscape.json and its arrays.

  Returns:
    The PNG files: STEM.png for lines, STEM_contour.png and STEM_surface.png for planes.
  """
  titles = [describe_run(record) for record, _ in landscapes]
  axis = landscapes[0][1]["axis"]
  losses = [_masked(arrays["loss"]) for _, arrays in landscapes]
  accuracies = [arrays["accuracy"] for _, arrays in landscapes]
  if losses[0].ndim == 1:
    path = stem.with_name(f"{stem.name}.png")
    plot_lines(axis, losses, accuracies, titles, path)
    return [path]
  paths = [stem.with_name(f"{stem.name}_{kind}.png") for kind in ("contour", "surface")]
  plot_contours(axis, losses, titles, paths[0])
  plot_surfaces(axis, losses, titles, paths[1])
  return paths


def plot_lines(axis, losses, accuracies, titles, path) -> None:
  """Loss (logarithmic) and accuracy along one direction."""
  figure = plots.new_figure(6.4, 6.0)
  top, bottom = figure.subplots(2, 1, sharex=True)
  for i, title in enumerate(titles):
    line, colour = _LINES[i % len(_LINES)]
    style = {"linestyle": line, "color": colour, "label": title}
    top.plot(axis, losses[i], **style)
    bottom.plot(axis, 100 * accuracies[i], **style)
  top.set_yscale("log")
  top.set_ylabel("cross-entropy")
  bottom.set_ylabel("accuracy (%)")
  bottom.set_xlabel("step along the direction, 1 = each filter's own norm")
  for a in (top, bottom):
    plots.clean(a)
  legend = top.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
  for text in legend.get_texts():
    text.set_parse_math(False)
  plots.save(figure, path)


def plot_contours(axis, losses, titles, path) -> None:
  """Level lines of each plane, evenly spaced in the loss's logarithm."""
  levels = common_levels(losses)
  norm = _norm(levels)
  figure = plots.new_figure(4.6 * len(losses) + 1.2, 4.8)
  panels = figure.subplots(1, len(losses), squeeze=False, sharex=True, sharey=True)[0]
  for panel, loss, title in zip(panels, losses, titles, strict=True):
    panel.set_facecolor("#eeeeee")  # What is not finite stays grey.
    # The first index belongs to the first direction, which is drawn to the right.
    filled = panel.contourf(axis, axis, loss.T, levels, cmap="viridis", norm=norm)
    panel.contour(
      axis, axis, loss.T, levels[::2], colors="white", linewidths=0.5, norm=norm
    )
    panel.plot(0, 0, "o", color="white", markeredgecolor="black", markersize=5)
    panel.set_aspect("equal")
    panel.set_title(title, fontsize=10, parse_math=False)
    panel.set_xlabel("first direction")
  panels[0].set_ylabel("second direction")
  bar = figure.colorbar(filled, ax=list(panels), fraction=0.046, pad=0.03)
  bar.set_label("cross-entropy")
  ticks = levels[:: (len(levels) - 1) // 5]
  bar.set_ticks(ticks.tolist(), labels=[f"{tick:.3g}" for tick in ticks])
  bar.minorticks_off()
  plots.save(figure, path)


def plot_surfaces(axis, losses, titles, path) -> None:
  """Each plane as a surface in three dimensions, its height the loss's logarithm."""
  from matplotlib.ticker import MaxNLocator

  levels = common_levels(losses)
  low, high = np.log10(levels[[0, -1]])
  figure = plots.new_figure(5.0 * len(losses), 4.6)
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
    # The slanted labels need room.
    panel.set_xlabel("first direction", labelpad=8)
    panel.set_ylabel("second direction", labelpad=8)
    for side in (panel.xaxis, panel.yaxis):
      side.set_major_locator(MaxNLocator(4))
    panel.set_zlabel("log10 of cross-entropy")
    panel.view_init(elev=32, azim=-55)
    panel.set_box_aspect(None, zoom=0.85)
  plots.save(figure, path)


def common_levels(losses: Sequence[np.ndarray]) -> np.ndarray:
  """Geometrically spaced levels from the least to the greatest loss of all planes.

  Args:
    losses: of each plane; what is masked does not count.

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
  high = max(float(finite.max()), low * 1.01)
  levels = np.geomspace(low, high, _NUM_LEVELS)
  # Rounding must not leave the ends out.
  levels[0], levels[-1] = min(low, float(finite.min())), high * (1 + 1e-6)
  levels[0] = max(levels[0] * (1 - 1e-6), 1e-12)
  return levels


def _norm(levels):
  from matplotlib.colors import LogNorm

  return LogNorm(levels[0], levels[-1])


def _masked(loss):
  return np.ma.masked_invalid(np.asarray(loss, np.float64))


def describe_run(record: Mapping[str, Any]) -> str:
  """What a panel shows: network, training loss and seed, images."""
  settings = record["settings"]
  return (
    f"{record['name']}, seed {settings['training_seed']}\n{settings['data_set']} "
    f"{settings['split']}, {settings['num_images']} images"
  )
