"""Numerically stable arithmetic that the losses share."""

import jax
import jax.numpy as jnp
from jax import Array

# Inside of the square root of a norm: a zero vector then has a finite gradient.
NORM_EPSILON = 1e-12


def expectation(targets: Array, values: Array) -> Array:
  """`sum_k targets_k values_k` `(N,)`, where a class of probability 0 contributes 0.

  A class masked by a logit of -inf has a logarithm of -inf, and 0 * -inf is NaN.
  """
  return jnp.sum(jnp.where(targets == 0, 0.0, targets * values), axis=-1)


def log_softmax(logits: Array, targets: Array) -> Array:
  """`log softmax(logits)`, `(N, K)`, with 0 at masked classes that no target names.

  A class is masked by a logit of -inf. The losses weigh its logarithm with a target of
  0, but 0 * -inf is NaN, in values and in gradients. Where a masked class is the label
  its logarithm stays -inf: so does the loss not stay finite.
  """
  unused = jnp.isneginf(logits) & (targets == 0)
  return jnp.where(unused, 0.0, jax.nn.log_softmax(logits))


def log_one_minus_p(logits: Array) -> Array:
  """`log(1 - softmax(logits))`, `(N, K)`, exact where the probability rounds to 1.

  Only the largest probability of a row can exceed 1/2. Its complement is the sum of
  the others, taken as a logsumexp; for the rest `log1p(-p)` loses nothing. Where all
  others are masked by logits of -inf, it is -1e30 instead of -inf.
  """
  top = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
  rest = jnp.where(top, -jnp.inf, logits)
  alone = jnp.all(jnp.isneginf(rest), axis=-1, keepdims=True)
  others = jax.nn.logsumexp(
    jnp.where(alone, 0.0, rest), axis=-1, keepdims=True
  ) - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
  others = jnp.where(alone, -1e30, others)

  # The inner `where` keeps the unused branch's infinite slope at p = 1 out of the
  # gradient.
  p = jnp.where(top, 0.0, jax.nn.softmax(logits))
  return jnp.where(top, others, jnp.log1p(-p))


def unit_and_norm(x: Array, axis: int) -> tuple[Array, Array]:
  """Vectors of length 1 along `axis`, and the lengths they had (axis kept).

  The squares of components above 1e19 would overflow float32, so large vectors are
  first divided by their largest component, which cancels.
  """
  factor = jax.lax.stop_gradient(
    jnp.maximum(jnp.max(jnp.abs(x), axis=axis, keepdims=True), 1.0)
  )
  x = x / factor
  norm = jnp.sqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=True) + NORM_EPSILON)
  return x / norm, factor * norm


def matmul(a: Array, b: Array) -> Array:
  """A matrix product in full float32, which is not the default on a GPU."""
  return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
