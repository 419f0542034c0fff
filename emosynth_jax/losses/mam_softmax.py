"""MAM-SoftMax: cross-entropy under a margin that each example's logits set.

The thesis states the margin M twice (equations 4.14-4.16 and the box of figure 4.1),
the two contradict each other, and neither works as printed: an ArgMax, an index,
where only Max has the unit of a logit; a sum over the batch, so that M grows with
the batch size; the clip after the logarithm in one and before it in the other;
ln against log10; the mean added after the clip, which breaks 0 <= M <= 4; "j = i"
in the box for j != i. It calls M learnable, but dL/dM = 1 - p_y > 0, so a margin
trained by gradient falls to its lower bound; and larger for rare classes, but no
class count enters. So each reading is a function here, chosen by name.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _checks
from emosynth_jax.losses.classification import cross_entropy

# The margins' upper bound, of both of the thesis's statements.
MAX_MARGIN = 4.0


def _clipped_log(x: Array) -> Array:
  """`clip(ln x, 0, 4)`, which needs no logarithm of a number below 1."""
  return jnp.log(jnp.clip(x, 1.0, jnp.exp(MAX_MARGIN)))


def centered_max(logits: Array, *, epsilon: float = 0.2) -> Array:
  """`M = clip(ln(max_k(z_k - mean z) + epsilon), 0, 4)`, the default reading.

  It sees no label, shifts with no constant added to the logits and permutes with no
  classes; constant logits give 0.

  Args:
    logits: floating `(N, K)`.
    epsilon: the constant inside of the logarithm.

  Returns:
    Margins `(N,)` in [0, 4].
  """
  centered = logits - jnp.mean(logits, axis=-1, keepdims=True)
  return _clipped_log(jnp.max(centered, axis=-1) + epsilon)


MARGIN_FNS: dict[str, Callable[..., Array]] = {
  "centered_max": centered_max,
}


def mam_softmax(
  logits: ArrayLike,
  labels: ArrayLike,
  *,
  reading: str = "centered_max",
  kappa: float | Array = 1.0,
) -> Array:
  """MAM-SoftMax.

  With the margin `M_i = stop_gradient(kappa * reading(logits_i))`:

    loss_i = cross_entropy(logits_i - M_i y_i, y_i)

  so that the label's logit has to win by M_i more. For class probabilities each
  class gives up its share of the margin, M_i y_ik. The margin belongs to training
  alone: evaluate with the plain logits. Probabilities passed for logits are a
  mistake that nothing can notice: their maximum over their mean is below 1, and
  the margin is always 0. Equations 4.14-4.16.

  Args:
    logits: unnormalised log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    reading: the name of the margin's formula, a key of `MARGIN_FNS`.
    kappa: the margin's factor, at least 0; 0 is `cross_entropy`.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for an unknown reading or a
      negative kappa.
  """
  _checks.check_choice("reading", reading, MARGIN_FNS)
  _checks.check_number("kappa", kappa, low=0)
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  margin = jax.lax.stop_gradient(kappa * MARGIN_FNS[reading](logits))
  return cross_entropy(logits - margin[:, None] * targets, targets)
