"""Pictures of curvature: spectral densities, and the ratio over the plane."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from emosynth_jax import plots
from emosynth_jax.analysis import landscape_plots

Found = tuple[Mapping[str, Any], Mapping[str, np.ndarray]]


def plot_densities(found: Sequence[Found], path: str | os.PathLike) -> None:
  """The spectral density of each run, one above the other, on the same axes.

  Args:
    found: pairs of a record of curvature.json and its arrays.
    path: the PNG file.
  """
  figure = plots.new_figure(7.0, 2.6 * len(found) + 0.8)
  panels = figure.subplots(len(found), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
  highest = max(float(arrays["density"].max()) for _, arrays in found)
  # A single eigenvalue, one of n, is to be seen; below are the Gaussians' tails.
  n = max(record["settings"]["num_parameters"] for record, _ in found)
  lowest = highest * 0.05 / n
  for panel, (record, arrays) in zip(panels, found, strict=True):
    x, y = arrays["eigenvalues"], np.maximum(arrays["density"], lowest)
    panel.fill_between(x, lowest, y, color=plots.BLUE, alpha=0.3)
    panel.plot(x, y, color=plots.BLUE, linewidth=1)
    panel.axvline(0, color=plots.GREY, linewidth=0.6, linestyle=":")
    for end in ("smallest", "largest"):
      panel.axvline(record[end], color=plots.ORANGE, linewidth=1, linestyle="--")
    panel.set_yscale("log")
    panel.set_ylim(lowest, highest * 3)
    panel.set_ylabel("density")
    sure = "" if record["converged"] else ", NOT converged"
    panel.set_title(
      f"{landscape_plots.describe_run(record)}\neigenvalues {record['smallest']:.3g} "
      f"to {record['largest']:.3g}{sure}; trace {record['trace']:.3g}, standard error "
      f"{record['trace_standard_error']}",
      fontsize=9,
      parse_math=False,
    )
    plots.clean(panel)
  panels[-1].set_xlabel("eigenvalue of the Hessian (dashed: the extreme ones)")
  plots.save(figure, path)


def plot_ratios(found: Sequence[Found], path: str | os.PathLike) -> None:
  """|smallest / largest eigenvalue| over each plane, 0 to 1 in one colour scale.

  A cross marks a point that has not converged, and grey one without a finite number.

  Args:
    found: pairs of a record of curvature_map.json and its arrays.
    path: the PNG file.
  """
  figure = plots.new_figure(4.6 * len(found) + 1.2, 5.0)
  panels = figure.subplots(1, len(found), squeeze=False, sharex=True, sharey=True)[0]
  for panel, (record, arrays) in zip(panels, found, strict=True):
    axis, ratio = arrays["axis"], np.ma.masked_invalid(arrays["ratio"])
    half = (axis[1] - axis[0]) / 2
    ends = axis[0] - half, axis[-1] + half
    panel.set_facecolor("#bbbbbb")
    # Each point as a square: contours would make up values between few points.
    image = panel.imshow(
      ratio.T, origin="lower", extent=(*ends, *ends), cmap="viridis", vmin=0, vmax=1
    )
    rows, columns = np.nonzero(~arrays["converged"])
    panel.plot(axis[rows], axis[columns], "x", color="#ff5555", markersize=5)
    panel.plot(0, 0, "o", color="white", markeredgecolor="black", markersize=5)
    panel.set_title(
      f"{landscape_plots.describe_run(record)}\n{record['points_not_converged']} of "
      f"{record['points']} points not converged (crosses)",
      fontsize=9,
      parse_math=False,
    )
    panel.set_xlabel("first direction")
  panels[0].set_ylabel("second direction")
  bar = figure.colorbar(image, ax=list(panels), fraction=0.046, pad=0.03, extend="max")
  bar.set_label("|smallest / largest eigenvalue|")
  plots.save(figure, path)
