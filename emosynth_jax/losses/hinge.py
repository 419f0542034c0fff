"""Hinge losses for wrong labels: cut off above, or without the hinge.

Both are functions of differences between logits, not of the softmax. The thesis names
them in section 2.2 (references 39 and 40) without formulas; for two classes they are
those of the references.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses.classification import expectation
from emosynth_jax.utils import arguments


def ramp(
  logits: ArrayLike, labels: ArrayLike, *, ceiling: float | Array = 2.0
) -> Array:
  """Ramp loss: the multi-class hinge loss, truncated.

    loss_i = min(max(0, 1 - (z_y - max_{j != y} z_j)), ceiling)

  For two classes it is Brooks's, with the margin y f = z_y - z_j; the largest other
  logit for more classes is Wu and Liu's. Bounded, so that no wrong label costs more
  than `ceiling`, and without gradient there: an example that is far on the wrong side
  is given up. Where a network's logits start large, start with another loss.

  Args:
    logits: scores of the classes, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    ceiling: the largest loss, at least 0; a large one gives the hinge loss.

  Returns:
    The loss of each example, `(N,)`, in [0, ceiling].

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Brooks, `Support Vector Machines with the Ramp Loss and the Hard Margin Loss
    <https://doi.org/10.1287/opre.1100.0854>`_, 2011

    Wu and Liu, `Robust Truncated Hinge Loss Support Vector Machines
    <https://doi.org/10.1198/016214507000000617>`_, 2007
  """
  arguments.check_number("ceiling", ceiling, low=0)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)

  # The largest other logit: the second of the row at its top, the first elsewhere.
  top = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
  first = jnp.max(logits, axis=-1, keepdims=True)
  second = jnp.max(jnp.where(top, -jnp.inf, logits), axis=-1, keepdims=True)
  margins = logits - jnp.where(top, second, first)

  return expectation(targets, jnp.clip(1.0 - margins, 0.0, ceiling))


def unhinged(logits: ArrayLike, labels: ArrayLike) -> Array:
  """Unhinged loss: the hinge loss without its hinge, linear in the logits.

    loss_i = 1 - (z_y - mean_{j != y} z_j)

  For two classes it is van Rooyen et al.'s `1 - y f` with the margin y f = z_y - z_j;
  the mean over the other classes for more is this project's. Its sum over the labels is
  K whatever the logits are: symmetric label noise only scales its mean. Classes whose
  logit is -inf take no part in mean and K.

  Hazard: it has no lower bound, and its gradient by the logits is constant: a network
  whose scores can grow diverges. The authors bound them by an L2 penalty. Here a cosine
  margin of 0 bounds them, `get_loss("cosface+unhinged", margin=0.0, scale=1.0)`.

  Args:
    logits: scores of the classes, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.

  Returns:
    The loss of each example, `(N,)`, of either sign.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    van Rooyen et al., `Learning with Symmetric Label Noise: The Importance of Being
    Unhinged <https://arxiv.org/abs/1505.07634>`_, 2015
  """
  logits, targets = _inputs.as_logits_and_targets(logits, labels)

  # z_k - mean_{j != k} z_j = K / (K - 1) (z_k - mean_j z_j).
  present = ~jnp.isneginf(logits)
  count = jnp.sum(present, axis=-1, keepdims=True)
  centered = logits - jnp.mean(logits, axis=-1, keepdims=True, where=present)
  margins = count / jnp.maximum(count - 1, 1) * centered

  return expectation(targets, 1.0 - margins)
