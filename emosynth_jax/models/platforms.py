"""Functions that are computed in one form on CPUs and in another elsewhere."""

from collections.abc import Callable

import jax
from jax import lax

Array = jax.Array


def fast_on_cpu(
  fast: Callable[..., Array], plain: Callable[..., Array]
) -> Callable[..., Array]:
  """A function that is `fast` on CPUs and `plain` elsewhere, each with its gradient.

  The choice is made when a program is lowered for its platform, so that a program for a
  GPU holds the plain form alone. The rule for gradients is one for reverse mode;
  second derivatives are taken by reverse over reverse.

  Args:
    fast: of arrays, computing the same as `plain`.
    plain: the form that XLA compiles well for a GPU or TPU.

  Returns:
    The function of the same arrays.
  """

  @jax.custom_vjp
  def function(*arrays):
    return lax.platform_dependent(*arrays, cpu=fast, default=plain)

  # Without a rule of its own, a choice would keep what either form's gradient needs.
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
