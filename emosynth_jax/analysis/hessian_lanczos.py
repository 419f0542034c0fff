"""Lanczos on a network's Hessian, as programs that `mapped.compile_map` maps."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def at_point(
  measure: Callable[..., Mapping[str, Any]], num_steps: int, tolerance: float
) -> Callable[..., Any]:
  """Lanczos on the Hessian at a point of the plane, for `mapped.compile_map`.

  Args:
    measure: `(params, constants, batch) -> {"loss": (), ...}`, means over the batch.
    num_steps: at most so many products with the Hessian.
    tolerance: of `lanczos.Extremes.converged`.

  Returns:
    `(coordinates, params, directions, constants, batches, probe) -> Tridiagonal`, of
    the Hessian of the mean loss in all parameters; `probe` is `(n,)`.
  """
  from emosynth_jax.analysis import directions as of_params

  def function(coordinates, params, directions, constants, batches, probe):
    moved = of_params.move(params, directions, coordinates)
    return _tridiagonalize(
      measure, moved, constants, batches, probe, num_steps, tolerance
    )

  return function


def at_network(measure: Callable[..., Mapping[str, Any]], num_steps: int) -> Callable:
  """Lanczos from one probe at the network, for `mapped.compile_map`.

  Args:
    measure: as for `at_point`.
    num_steps: as there.

  Returns:
    `(key, params, constants, batches) -> Tridiagonal`; the probe has random signs,
    whose estimate of the trace has the least variance.
  """
  import jax

  def function(key, params, constants, batches):
    n = sum(x.size for x in jax.tree.leaves(params))
    probe = jax.random.rademacher(key, (n,), np.float32)
    return _tridiagonalize(measure, params, constants, batches, probe, num_steps, 0.0)

  return function


def _tridiagonalize(measure, params, constants, batches, probe, num_steps, tolerance):
  from emosynth_jax.analysis import hessian, lanczos

  def loss_fn(params, batch):
    return measure(params, constants, batch)["loss"]

  matvec, _ = hessian.hessian_matvec(loss_fn, params, batches)
  return lanczos.lanczos(matvec, probe, num_steps, tolerance=tolerance)
