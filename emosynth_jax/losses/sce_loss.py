"""The thesis's SCE loss: cross-entropy weighted by how wrong the probabilities are."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _checks
from emosynth_jax.losses.classification import cross_entropy

READINGS = ("batch",)


def sce_loss(
  logits: ArrayLike,
  labels: ArrayLike,
  *,
  reading: str = "batch",
  ce_weight: float | Array = 0.5,
  sce_weight: float | Array = 0.5,
) -> Array:
  """The thesis's SCE loss (not symmetric cross-entropy, which shares its letters).

  With `p = softmax(logits)`, targets y and CE the cross-entropy:

    loss_i = ce_weight CE_i + sce_weight stop_gradient(alpha w_i) CE_i

    batch: alpha = mean_i sum_k (y_ik - p_ik)^2,  w_i = |(1 - y_i) - p_i|_2

  Equations 4.3-4.6. The printed formula lacks its minus sign and is unbounded below;
  this is the repaired one. The factors carry no gradient: at K=2 the product pushes
  the wrong way below p_y = .175 when they do.

  Hazard: alpha is a mean over the batch, so that an example's loss depends on the
  batch that it is in, padding included.

  Args:
    logits: unnormalised log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    reading: which of the thesis's statements is meant.
    ce_weight: the weight of cross-entropy.
    sce_weight: the weight of the weighted cross-entropy; 0 leaves `ce_weight` CE.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for an unknown reading or a
      negative weight.
  """
  _checks.check_choice("reading", reading, READINGS)
  _checks.check_number("ce_weight", ce_weight, low=0)
  _checks.check_number("sce_weight", sce_weight, low=0)
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  p = jax.lax.stop_gradient(jax.nn.softmax(logits))
  alpha = jnp.mean(jnp.sum(jnp.square(targets - p), axis=-1))
  wrongness = jnp.linalg.norm(1.0 - targets - p, axis=-1)
  factor = ce_weight + sce_weight * jax.lax.stop_gradient(alpha * wrongness)
  return factor * cross_entropy(logits, targets)
