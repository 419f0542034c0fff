"""Losses of logits and labels alone: cross-entropy and mean squared error."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _checks


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Array:
  """Softmax cross-entropy.

  With `log p = log_softmax(logits)` and targets `y` (one-hot for integer labels):

    loss_i = -sum_k y_ik log p_ik

  The value is finite for any finite logits: a probability of 0 in float32 still has
  its logarithm. Equations 2.2, 2.12-2.14 and 4.8 of the thesis; 2.12 lacks its
  minus sign, and the loss grows linearly in the margin by which a logit is wrong,
  logarithmically in 1/p, not exponentially as the text says.

  Args:
    logits: unnormalised log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.

  Returns:
    The loss of each example, `(N,)`, float32 for logits of 32 bits or fewer.

  Raises:
    TypeError: for a dtype that is none of these.
    ValueError: for a shape that is none of these, or a label out of range. Inside
      `jax.jit`, where no value is known, such a label gives NaN.
  """
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  log_p = jax.nn.log_softmax(logits)
  # A class masked by a logit of -inf has log p = -inf, and 0 * -inf is NaN.
  return -jnp.sum(jnp.where(targets == 0, 0.0, targets * log_p), axis=-1)


def mse(logits: ArrayLike, labels: ArrayLike) -> Array:
  """Mean squared error of the class probabilities (the Brier score over K).

    loss_i = sum_k (y_ik - p_ik)^2 / K,  p = softmax(logits)

  Bounded by 2/K, and its gradient vanishes for a confidently wrong example: it
  trains slowly where cross-entropy does not. Equation 2.1 of the thesis, which
  leaves the 1/K open.

  Args:
    logits: unnormalised log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.
  """
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  return jnp.mean(jnp.square(targets - jax.nn.softmax(logits)), axis=-1)
