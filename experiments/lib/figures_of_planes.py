"""Figures of the plane around trained networks: loss landscapes and curvature."""

import pathlib
from typing import Any

from emosynth_jax.analysis.curvature import eigenvalues
from emosynth_jax.analysis.curvature import plots as curvature_plots
from emosynth_jax.analysis.loss_landscape import plots as landscape_plots
from emosynth_jax.analysis.loss_landscape import surface
from experiments.lib import figures


def draw_landscape(args: Any, path: pathlib.Path) -> None:
  """Draws contours and surfaces of the loss of --workdir and --compare.

  Args:
    args: the flags.
    path: a PNG file; "_contour" and "_surface" are added to its name.
  """
  workdirs = [args.workdir, *args.compare]
  found = surface.landscapes_of(workdirs, args)
  landscape_plots.draw(path.with_suffix(""), found)
  figures.write_origin(path, workdirs)


def draw_curvature(args: Any, path: pathlib.Path) -> None:
  """Draws |smallest / largest| eigenvalue of the Hessian around each network.

  Args:
    args: the flags.
    path: the PNG file.

  Raises:
    ValueError: for a grid of a single point.
  """
  if args.grid < 3:
    raise ValueError(f"--grid: expected at least 3 points per side, got {args.grid}")
  workdirs = [args.workdir, *args.compare]
  found = eigenvalues.maps_of(workdirs, args)
  curvature_plots.plot_ratios(found, path)
  figures.write_origin(path, workdirs)
