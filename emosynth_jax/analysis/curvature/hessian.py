"""Exact Hessian-vector products of a loss, and Lanczos iterations that use them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from emosynth_jax.analysis import directions as of_params
from emosynth_jax.analysis.curvature import lanczos
from emosynth_jax.parallel import batched_map

Array = jax.Array


def hessian_vector_product(
  loss_fn: Callable[[Any, Any], Array], params: Any, batches: Any, vector: Any
) -> Any:
  """Hessian-vector product of the mean loss.

    H v = grad <grad L, v>

  Computed reverse over reverse, since the networks' convolutions define a rule for
  reverse mode only; and batch by batch, so that the memory is that of one batch. Where
  the loss has kinks (ReLU, maximum), it is the Hessian of the smooth piece that the
  parameters lie in.

  Args:
    loss_fn: `(params, batch) -> ()`, the mean loss of a batch.
    params: pytree of float arrays.
    batches: pytree of arrays with a leading axis of batches, all of one size.
    vector: pytree as `params`.

  Returns:
    A pytree as `params`.
  """

  def slope(params, batch):
    gradient = jax.grad(loss_fn)(params, batch)
    products = jax.tree.map(lambda g, v: (g * v).sum(), gradient, vector)
    return sum(jax.tree.leaves(products))

  return batched_map.mean_over_batches(
    lambda batch: jax.grad(slope)(params, batch), batches
  )


def hessian_matvec(
  loss_fn: Callable[[Any, Any], Array], params: Any, batches: Any
) -> tuple[Callable[[Array], Array], Array]:
  """The Hessian as a function of flat vectors.

  Args:
    loss_fn: as for `hessian_vector_product`.
    params: likewise.
    batches: likewise.

  Returns:
    `(n,) -> (n,)`, and the parameters as a flat vector `(n,)`.
  """
  flat, unravel = ravel_pytree(params)

  def matvec(vector):
    product = hessian_vector_product(loss_fn, params, batches, unravel(vector))
    return ravel_pytree(product)[0]

  return matvec, flat


def at_point(
  measure: Callable[..., Mapping[str, Any]], num_steps: int, tolerance: float
) -> Callable[..., Any]:
  """Lanczos on the Hessian at a point of the plane, for `batched_map.compile_map`.

  Args:
    measure: `(params, constants, batch) -> {"loss": (), ...}`, means over the batch.
    num_steps: maximum number of Hessian-vector products.
    tolerance: of `lanczos.Extremes.converged`.

  Returns:
    `(coordinates, params, directions, constants, batches, probe) -> Tridiagonal`, of
    the Hessian of the mean loss in all parameters; `probe` is `(n,)`.
  """

  def function(coordinates, params, directions, constants, batches, probe):
    moved = of_params.move(params, directions, coordinates)
    return _tridiagonalize(
      measure, moved, constants, batches, probe, num_steps, tolerance
    )

  return function


def at_network(measure: Callable[..., Mapping[str, Any]], num_steps: int) -> Callable:
  """Lanczos from one probe at the network, for `batched_map.compile_map`.

  Args:
    measure: as for `at_point`.
    num_steps: likewise.

  Returns:
    `(key, params, constants, batches) -> Tridiagonal`; the probe has random signs,
    whose estimate of the trace has the least variance.
  """

  def function(key, params, constants, batches):
    n = sum(x.size for x in jax.tree.leaves(params))
    probe = jax.random.rademacher(key, (n,), np.float32)
    return _tridiagonalize(measure, params, constants, batches, probe, num_steps, 0.0)

  return function


def _tridiagonalize(measure, params, constants, batches, probe, num_steps, tolerance):
  def loss_fn(params, batch):
    return measure(params, constants, batch)["loss"]

  matvec, _ = hessian_matvec(loss_fn, params, batches)
  return lanczos.lanczos(matvec, probe, num_steps, tolerance=tolerance)
