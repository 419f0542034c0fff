"""Plots of curvature: spectral densities, and the eigenvalue ratio over the plane."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from emosynth_jax.analysis.curvature import spectrum
from emosynth_jax.analysis.loss_landscape import plots as landscape_plots
from emosynth_jax.utils import plotting

# The colors' scale goes from 1 / r to r, with r between these.
_LEAST_REACH, _MOST_REACH = 2.0, 20.0
_ROUND = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)

Found = tuple[Mapping[str, Any], Mapping[str, np.ndarray]]


def plot_densities(found: Sequence[Found], path: str | os.PathLike) -> None:
  """Plots the spectral density of each run, one above the other, on the same axes.

  Args:
    found: pairs of a record of curvature.json and its arrays.
    path: the PNG file.
  """
  figure = plotting.new_figure(7.0, 2.6 * len(found) + 0.8)
  panels = figure.subplots(len(found), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
  highest = max(float(arrays["density"].max()) for _, arrays in found)
  # A single eigenvalue, one of n, must be visible; below are the Gaussians' tails.
  n = max(record["settings"]["num_parameters"] for record, _ in found)
  lowest = highest * 0.05 / n
  for panel, (record, arrays) in zip(panels, found, strict=True):
    x, y = arrays["eigenvalues"], np.maximum(arrays["density"], lowest)
    panel.fill_between(x, lowest, y, color=plotting.BLUE, alpha=0.3)
    panel.plot(x, y, color=plotting.BLUE, linewidth=1)
    panel.axvline(0, color=plotting.GRAY, linewidth=0.6, linestyle=":")
    for end in ("smallest", "largest"):
      panel.axvline(record[end], color=plotting.ORANGE, linewidth=1, linestyle="--")
    panel.set_yscale("log")
    panel.set_ylim(lowest, highest * 3)
    panel.set_ylabel("density")
    sure = "" if record["converged"] else ", NOT converged"
    panel.set_title(
      f"{landscape_plots.describe_run(record)}\neigenvalues {record['smallest']:.3g} "
      f"to {record['largest']:.3g}{sure}; trace {record['trace']:.3g}, standard error "
      f"{spectrum.describe_error(record['trace_standard_error'])}",
      fontsize=9,
      parse_math=False,
    )
    plotting.clean(panel)

  panels[-1].set_xlabel("eigenvalue of the Hessian (dashed: the extreme ones)")
  plotting.save(figure, path)


def plot_ratios(found: Sequence[Found], path: str | os.PathLike) -> None:
  """Plots |smallest / largest eigenvalue| over each plane, logarithmically around 1.

  Blue where the largest eigenvalue has the larger magnitude, red where the smallest
  has. A plus marks a converged point whose smallest eigenvalue is 0 up to rounding,
  where the loss is convex: it has flat directions everywhere, since adding a constant
  to all logits does not change it, and thus the smallest eigenvalue is never above 0 by
  more than rounding. A cross marks a point that has not converged; gray marks a point
  without a finite ratio.

  Args:
    found: pairs of a record of curvature_map.json and its arrays.
    path: the PNG file.
  """
  reach = _reach([arrays["ratio"] for _, arrays in found])
  norm = LogNorm(1 / reach, reach)
  figure = plotting.new_figure(4.6 * len(found) + 1.2, 5.0)
  panels = figure.subplots(1, len(found), squeeze=False, sharex=True, sharey=True)[0]
  for panel, (record, arrays) in zip(panels, found, strict=True):
    axis = arrays["axis"]
    # A ratio of 0 has no logarithm, and is clipped to the lower end of the scale.
    ratio = np.ma.masked_invalid(np.maximum(arrays["ratio"], 1e-12))
    half = (axis[1] - axis[0]) / 2
    ends = axis[0] - half, axis[-1] + half
    panel.set_facecolor("#999999")

    # Each point as a square: contours would interpolate between few points.
    image = panel.imshow(
      ratio.T, origin="lower", extent=(*ends, *ends), cmap="RdBu_r", norm=norm
    )
    is_convex = arrays["smallest"] >= -arrays["absolute_tolerance"]
    marks = {"+": is_convex & arrays["converged"], "x": ~arrays["converged"]}
    for marker, where in marks.items():
      rows, columns = np.nonzero(where)
      panel.plot(axis[rows], axis[columns], marker, color="black", markersize=6)

    panel.plot(0, 0, "o", color="white", markeredgecolor="black", markersize=5)
    panel.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 5, 10]))
    panel.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 5, 10]))
    panel.set_title(
      f"{landscape_plots.describe_run(record)}\n{_describe_points(record, marks)}",
      fontsize=9,
      parse_math=False,
    )
    panel.set_xlabel("first direction")

  panels[0].set_ylabel("second direction")
  bar = figure.colorbar(image, ax=list(panels), fraction=0.046, pad=0.03, extend="both")
  bar.set_label("|smallest / largest eigenvalue|, white at 1")
  ticks = [tick for tick in _ROUND if 1 / reach <= tick <= reach]
  bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
  bar.minorticks_off()
  plotting.save(figure, path)


def _reach(ratios):
  """Range of the color scale around 1, from the 95th percentile of the points."""
  every = np.concatenate([np.ravel(ratio) for ratio in ratios])
  every = every[np.isfinite(every) & (every > 0)]
  if not every.size:
    return _LEAST_REACH
  far = float(np.exp(np.quantile(np.abs(np.log(every)), 0.95)))
  return min(max(far, _LEAST_REACH), _MOST_REACH)


def _describe_points(record, marks):
  convex, unsure = int(marks["+"].sum()), int(marks["x"].sum())
  total = record["points"]
  text = f"convex but for rounding at {convex} of {total} points"
  text += " (+)" if convex else ""
  return text + (f"\nnot converged at {unsure} of them (x)" if unsure else "")
