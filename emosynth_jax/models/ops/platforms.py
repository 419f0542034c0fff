"""Platform-dependent implementations: one for CPUs, another elsewhere."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.sharding import Mesh

Array = jax.Array


def fast_on_cpu(
  fast: Callable[..., Array], plain: Callable[..., Array]
) -> Callable[..., Array]:
  """A function that is `fast` on CPUs and `plain` elsewhere, each with its gradient.

  The choice is made when a program is lowered for its platform, so that a program for a
  GPU holds the plain form alone. The gradient rule is for reverse mode; second
  derivatives are taken by reverse over reverse.

  Args:
    fast: of arrays, computing the same as `plain`.
    plain: the form that XLA compiles well for a GPU or TPU.

  Returns:
    The function of the same arrays.
  """

  @jax.custom_vjp
  def function(*arrays):
    return lax.platform_dependent(*arrays, cpu=fast, default=plain)

  # Without a gradient rule, the choice would keep the residuals of both forms.
  def forward(*arrays):
    return function(*arrays), arrays

  def backward(arrays, cotangent):
    def gradients(form):
      return lambda *operands: jax.vjp(form, *operands[:-1])[1](operands[-1])

    return lax.platform_dependent(
      *arrays, cotangent, cpu=gradients(fast), default=gradients(plain)
    )

  function.defvjp(forward, backward)
  return function


def on_mesh(mesh: Mesh | None, function: Callable[..., Any]) -> Callable[..., Any]:
  """Makes the number of devices that share a batch known to a function's CPU forms.

  Args:
    mesh: with an axis "data", over which the batch is split; None for a single device.
    function: to be compiled.

  Returns:
    The function, traced with the mesh around it.
  """
  if mesh is None:
    return function

  @functools.wraps(function)
  def traced(*arguments, **keywords):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return function(*arguments, **keywords)

  return traced


def by_device(batch: Array) -> Array:
  """Reshapes a batch to one part per device, see `on_mesh`.

  A loop over a sharded axis would be executed in full on every device. A loop over the
  images of a part runs on each device's own images.

  Args:
    batch: `(N, ...)`.

  Returns:
    `(D, N / D, ...)`; D is 1 if no mesh is known or N is not a multiple of it.
  """
  devices = jax.sharding.get_abstract_mesh().shape.get("data", 1)
  if batch.shape[0] % devices:
    devices = 1
  return batch.reshape(devices, batch.shape[0] // devices, *batch.shape[1:])
