"""Loss surface of a trained network along filter-normalized random directions."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from emosynth_jax.analysis import cli
from emosynth_jax.analysis import directions as of_params
from emosynth_jax.analysis.result_cache import Found
from emosynth_jax.parallel import batched_map

# By the number of dimensions: a line and a plane are separate analyses.
FILES = {1: "loss_line", 2: "loss_landscape"}


def axis_coordinates(radius: float, size: int) -> np.ndarray:
  """Evenly spaced coordinates from -radius to radius, with the network in the middle.

  Args:
    radius: largest coordinate, more than 0.
    size: number of points, at least 3 and odd, so that 0 is one of them.

  Returns:
    float32 `(size,)`.

  Raises:
    ValueError: for another radius or size.
  """
  if not 0 < radius < float("inf"):
    raise ValueError(f"range: expected a number above 0, got {radius}")
  if size < 3 or size % 2 == 0:
    raise ValueError(
      "grid: expected an odd number from 3 on, so that the network is a grid point "
      f"with neighbors; got {size}"
    )

  # Whole numbers first: the middle is then 0 and not a rounding error.
  steps = np.arange(size) - size // 2
  return (radius * steps / (size // 2)).astype(np.float32)


def grid_points(axis: np.ndarray, dimensions: int) -> np.ndarray:
  """All points of a grid, `(size^dimensions, dimensions)`, the last index fastest."""
  axes = np.meshgrid(*[axis] * dimensions, indexing="ij")
  return np.stack([a.ravel() for a in axes], axis=-1)


def at_point(measure: Callable[..., Any]) -> Callable[..., Any]:
  """Metrics at a point of the plane, for `batched_map.compile_map`.

  Args:
    measure: `(params, constants, batch) -> pytree`, means over the batch.

  Returns:
    `(coordinates, params, directions, constants, batches) -> pytree`, the means over
    all batches at the point `directions.move` leads to.
  """

  def function(coordinates, params, directions, constants, batches):
    moved = of_params.move(params, directions, coordinates)
    return batched_map.mean_over_batches(
      lambda batch: measure(moved, constants, batch), batches
    )

  return function


def landscapes_of(workdirs: Sequence[str], args: Any) -> list[Found]:
  """The landscapes of runs that can be compared, computed or read.

  Args:
    workdirs: the runs' folders.
    args: the command's flags.

  Returns:
    For each, the content of loss_landscape.json, or of loss_line.json, and the arrays
    "axis", "loss", "accuracy".

  Raises:
    ValueError: before anything is computed, if a run was evaluated on other images than
      the first, or for flags out of their range.
  """
  axis_coordinates(args.range, args.grid)
  runs = cli.load_runs(workdirs, args, count=args.dimensions)
  return [_landscape_of(run, args) for run in runs]


def _landscape_of(run: Any, args: Any) -> Found:
  """Computes and writes the landscape of a run, or reads it."""
  axis = axis_coordinates(args.range, args.grid)
  points = grid_points(axis, args.dimensions)

  def compute(report):
    directions, raw = cli.directions_for(run.params, args, args.dimensions)
    values = batched_map.run_in_chunks(
      batched_map.compile_map(at_point(run.measure), args.mapping),
      points,
      (run.params, directions, run.constants, run.batches),
      chunk=max(1, 16 // jax.device_count()) * jax.device_count(),
      report=report,
    )
    shape = (len(axis),) * args.dimensions
    arrays = {"axis": axis} | {k: v.reshape(shape) for k, v in values.items()}
    middle = (len(axis) // 2,) * args.dimensions
    record = {
      "loss_at_network": float(arrays["loss"][middle]),
      "accuracy_at_network": float(arrays["accuracy"][middle]),
      "non_finite_points": int((~np.isfinite(arrays["loss"])).sum()),
    }

    return record, arrays, raw

  return cli.read_or_compute(
    run,
    file=FILES[args.dimensions],
    settings=cli.plane_settings(args) | {"dimensions": args.dimensions},
    compute=compute,
    total=len(points),
  )


def share_below(loss: np.ndarray, factor: float) -> float:
  """The share of the grid where the loss is below `factor` times its middle's."""
  middle = loss[tuple(n // 2 for n in loss.shape)]
  return float(np.mean(loss < factor * middle))
