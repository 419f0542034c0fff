"""Exact products of a loss's Hessian with vectors."""

from collections.abc import Callable
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from emosynth_jax import mapped

Array = jax.Array


def hessian_vector_product(
  loss_fn: Callable[[Any, Any], Array], params: Any, batches: Any, vector: Any
) -> Any:
  """The product of the mean loss's Hessian with a vector.

    H v = grad <grad L, v>

  Reverse over reverse, since the networks' convolutions have a rule for reverse mode
  alone. Batch by batch: the memory is that of one batch. Where the loss has kinks
  (ReLU, maximum), it is the Hessian of the smooth piece that the parameters lie in.

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

  return mapped.mean_over_batches(lambda batch: jax.grad(slope)(params, batch), batches)


def hessian_matvec(
  loss_fn: Callable[[Any, Any], Array], params: Any, batches: Any
) -> tuple[Callable[[Array], Array], Array]:
  """The Hessian as a function of flat vectors.

  Args:
    loss_fn: as for `hessian_vector_product`.
    params: as there.
    batches: as there.

  Returns:
    `(n,) -> (n,)`, and the parameters as a flat vector `(n,)`.
  """
  flat, unravel = ravel_pytree(params)

  def matvec(vector):
    product = hessian_vector_product(loss_fn, params, batches, unravel(vector))
    return ravel_pytree(product)[0]

  return matvec, flat
