"""The thesis's SCE loss: cross-entropy weighted by the error of the probabilities."""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _checks, _math
from emosynth_jax.losses.classification import cross_entropy

READINGS = ("batch", "box", "example", "intent")


def sce_loss(
  logits: ArrayLike,
  labels: ArrayLike,
  *,
  reading: str = "batch",
  ce_weight: float | Array = 0.5,
  sce_weight: float | Array = 0.5,
) -> Array:
  """The thesis's SCE loss (not `symmetric_cross_entropy`, which has the same acronym).

  With `p = softmax(logits)`, targets y and CE the cross-entropy:

    loss_i = ce_weight CE_i + sce_weight stop_gradient(alpha w_i) L_i

    batch:    alpha = mean_i sum_k (y_ik - p_ik)^2, w_i = |(1 - y_i) - p_i|_2, L = CE
    example:  alpha of each example by itself; near a scaled `focal` of gamma 2
    intent:   w_i = |(1 - y_i) p_i|_2, 0 for a correct prediction, as the text describes
    box:      L_i = -sum_k log10 p_ik, over all classes, as the box of figure 4.1
              prints it; for documentation: its minimum is the uniform distribution

  Equations 4.3-4.6. The printed formula lacks its minus sign and is unbounded below;
  "batch" is the repaired version. Its w rises as the predictions get better, from 2.83
  to 3.16 at K = 10, the reverse of what the text says; "intent" does not. The
  factors carry no gradient: if they did, at K = 2 the product would have the wrong
  gradient sign below p_y = 0.175.

  Warning: except for "example", alpha is a mean over the batch, so that an example's
  loss depends on its batch, padding included.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
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
  ce = cross_entropy(logits, targets)

  # Detached here; so are the factors alpha and w, which are computed from them.
  y, p = jax.lax.stop_gradient((targets, jax.nn.softmax(logits)))
  alpha = jnp.sum(jnp.square(y - p), axis=-1)
  if reading != "example":
    alpha = jnp.mean(alpha)
  if reading == "intent":
    wrong = (1.0 - y) * p
  else:
    wrong = 1.0 - y - p

  # A class masked by a logit of -inf is none.
  wrong = jnp.where(jnp.isneginf(logits), 0.0, wrong)
  base = ce
  if reading == "box":
    log_p = _math.log_softmax(logits, targets)
    base = -jnp.sum(log_p, axis=-1) / math.log(10)

  return ce_weight * ce + sce_weight * alpha * jnp.linalg.norm(wrong, axis=-1) * base
