"""Additive margins of the softmax: on the logit, the cosine or the angle.

Each `*_logits` function returns logits with a margin at the label, for training only.
Any loss of logits can follow; the name without `_logits` is cross-entropy with that
margin. Evaluation uses the margin-free logits (`get_evaluation_logits`).

Where the margin acts on the angle it is defined for integer labels alone. The angle
itself is never taken (`_angle`).
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses._angle import MAX_MARGIN, add_angle
from emosynth_jax.losses._inputs import under_margin
from emosynth_jax.losses.classification import cross_entropy
from emosynth_jax.losses.cosine import cosines_and_norms
from emosynth_jax.utils import arguments


def sm_softmax_logits(
  logits: ArrayLike, labels: ArrayLike, *, margin: float | Array = 1.0
) -> Array:
  """Soft-margin softmax: `z - margin y`.

  An offset on the label's logit, without angle or norm. For class probabilities, each
  class is reduced by its share, `margin y_k`. Equations 2.19-2.21 and 4.12-4.13.

  On 7 classes margins of 0.5 to 2 trained as cross-entropy did
  (docs/results/ablations.md).

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    margin: at least 0; 0 leaves the logits unchanged.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for a negative margin.

  References:
    Liang et al., `Soft-Margin Softmax for Deep Classification
    <https://doi.org/10.1007/978-3-319-70096-0_43>`_, 2017
  """
  arguments.check_number("margin", margin, low=0)
  logits = _inputs.as_logits(logits)
  return logits - margin * _inputs.as_targets(labels, logits)


def cosface_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  *,
  scale: float | Array = 30.0,
  margin: float | Array = 0.35,
) -> Array:
  """CosFace, also called AM-Softmax and LMCL: `s (c - margin)` at the label.

    z_j = s c_j,  z_y = s (c_y - margin)

  One loss with three names, which the thesis presents as several losses. Equations
  2.16, 2.23 and 2.27-2.29.

  On 7 classes scales of 4 to 30 with margins of 0 to 0.35 trained; the highest means
  were at scales 4 and 8 (docs/results/ablations.md). The default scale is the paper's,
  for thousands of classes.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    scale: s, at least 0.
    margin: at least 0; 0 gives `cosine_logits`.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError: for embeddings or weights that are not floating, or labels that are not
      integers.
    ValueError: for weights that do not fit the embeddings, a label out of range (which
      gives NaN inside `jax.jit`), or a hyperparameter out of range.

  References:
    Wang et al., `CosFace: Large Margin Cosine Loss for Deep Face Recognition
    <https://arxiv.org/abs/1801.09414>`_, 2018

    Wang et al., `Additive Margin Softmax for Face Verification
    <https://arxiv.org/abs/1801.05599>`_, 2018
  """
  arguments.check_number("scale", scale, low=0)
  arguments.check_number("margin", margin, low=0)
  cosines, _, _ = cosines_and_norms(embeddings, weights)
  is_label = _inputs.as_mask(labels, cosines)
  return scale * jnp.where(is_label, cosines - margin, cosines)


def double_am_softmax_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  *,
  scale: float | Array = 30.0,
  margin: float | Array = 0.35,
) -> Array:
  """Double additive margin (DAMS): `c - margin` at the label, `c + margin` elsewhere.

  A constant on all logits drops out of the softmax, so that every loss of the
  softmax is exactly the one under CosFace with twice the margin: the second margin
  adds nothing. Equations 2.30-2.31.

  On 7 classes: the scales of `cosface_logits`, and half of its margins.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    scale: s, at least 0.
    margin: at least 0.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `cosface_logits` does.

  References:
    Zhou et al., `Double Additive Margin Softmax Loss for Face Recognition
    <https://doi.org/10.3390/app10010060>`_, 2020 (reference 63 of the thesis)
  """
  arguments.check_number("scale", scale, low=0)
  arguments.check_number("margin", margin, low=0)
  cosines, _, _ = cosines_and_norms(embeddings, weights)
  is_label = _inputs.as_mask(labels, cosines)
  return scale * jnp.where(is_label, cosines - margin, cosines + margin)


def dynamic_am_softmax_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  *,
  scale: float | Array = 30.0,
  margin: float | Array = 0.2,
  lam: float | Array = 2.0,
) -> Array:
  """Dynamic additive margin (DAM-Softmax): CosFace with a margin for each example.

    m_i = stop_gradient(margin exp(1 - c_y) / lam)

  The margin thus grows with the angle to the label's weight, from margin / lam at c_y =
  1. It carries no gradient: dL/dm > 0 would shrink it. The thesis names this loss by
  its reference 14 and gives no formula.

  On 7 classes scales of 8 and 30 with a margin of 0.2 trained, 8 with the higher mean
  (docs/results/ablations.md).

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    scale: s, at least 0.
    margin: at least 0; 0 gives `cosine_logits`.
    lam: the margin's divisor, above 0.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `cosface_logits` does.

  References:
    Zhou et al., `Dynamic Margin Softmax Loss for Speaker Verification
    <https://doi.org/10.21437/Interspeech.2020-1106>`_, 2020
  """
  arguments.check_number("scale", scale, low=0)
  arguments.check_number("margin", margin, low=0)
  arguments.check_number("lam", lam, low=1e-6)
  cosines, _, _ = cosines_and_norms(embeddings, weights)
  is_label = _inputs.as_mask(labels, cosines)
  margins = jax.lax.stop_gradient(margin * jnp.exp(1.0 - cosines) / lam)
  return scale * jnp.where(is_label, cosines - margins, cosines)


def arcface_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  *,
  scale: float | Array = 64.0,
  margin: float | Array = 0.5,
  easy_margin: bool = False,
) -> Array:
  """ArcFace, also called AAM-Softmax: `s cos(theta + margin)` at the label.

    z_y = s cos(theta_y + margin)     if c_y > cos(pi - margin)
    z_y = s (c_y - margin sin margin) otherwise

  with `cos(theta + m) = c cos m - sqrt(1 - c^2) sin m`; the second line keeps it
  decreasing where theta + m exceeds pi. `easy_margin` applies the margin only where c_y
  > 0, which is not monotone. The slope in c is infinite at c = 1 and clipped at 2000
  sin m. Equations 2.24-2.26.

  Warning for few classes: the label's logit decreases slower than its cosine where
  theta > (pi - margin) / 2, a right angle included, so that lowering all cosines
  together lowers the loss. With thousands of classes they cannot all be low; with few,
  all weights turn away from all embeddings, to about theta = pi - margin, where the
  label's slope is 0. On 7 classes margin 0.1 trained at scales 4 to 64, best at 4 to
  16; margin 0.3 collapsed at scales 4 and 8 (docs/results/ablations.md). The defaults
  are the paper's, for thousands of classes.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    scale: s, at least 0.
    margin: an angle in radians, in [0, 2.331]; 0 gives `cosine_logits`. A larger one
      would have the label's logit rise where theta + margin passes pi.
    easy_margin: whether obtuse angles go without a margin.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `cosface_logits` does.

  References:
    Deng et al., `ArcFace: Additive Angular Margin Loss for Deep Face Recognition
    <https://arxiv.org/abs/1801.07698>`_, 2018
  """
  arguments.check_number("scale", scale, low=0)
  arguments.check_number("margin", margin, low=0, high=MAX_MARGIN)
  cosines, _, _ = cosines_and_norms(embeddings, weights)
  is_label = _inputs.as_mask(labels, cosines)
  shifted = add_angle(cosines, margin, easy_margin)
  return scale * jnp.where(is_label, shifted, cosines)


sm_softmax = under_margin(sm_softmax_logits, cross_entropy, "sm_softmax")
cosface = under_margin(cosface_logits, cross_entropy, "cosface")
arcface = under_margin(arcface_logits, cross_entropy, "arcface")
double_am_softmax = under_margin(
  double_am_softmax_logits, cross_entropy, "double_am_softmax"
)
dynamic_am_softmax = under_margin(
  dynamic_am_softmax_logits, cross_entropy, "dynamic_am_softmax"
)
