"""Angular margins that adapt: CurricularFace, MagFace and AdaFace.

To the course of training, or to the quality of an image, of which they take the
embedding's norm for a measure. Defined for integer labels alone; the angle itself is
never taken (`_angle`).
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses._angle import MAX_MARGIN, add_angle, sine
from emosynth_jax.losses._inputs import under_margin
from emosynth_jax.losses.classification import cross_entropy
from emosynth_jax.losses.cosine import cosines_and_norms
from emosynth_jax.utils import arguments

# As in AdaFace's published code: the range to which norms are clipped, and the epsilon
# added to their standard deviation.
_LEAST_NORM, _LARGEST_NORM = 1e-3, 100.0
_DEVIATION_EPSILON = 1e-3


def curricularface_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  state: ArrayLike,
  *,
  scale: float | Array = 64.0,
  margin: float | Array = 0.5,
  decay: float | Array = 0.99,
) -> tuple[Array, Array]:
  """CurricularFace: ArcFace whose hard negatives gain weight during training.

    t <- decay t + (1 - decay) mean_i c_{i, y_i}
    z_y = s T(c_y),  T that of `arcface_logits`
    z_j = s c_j            if c_j <= T(c_y), an easy negative
    z_j = s c_j (t + c_j)  otherwise, a hard one

  t starts at 0, where a hard negative counts less than an easy one, and is near 1 at
  the end. The new t is used, without gradient, so that an example's loss depends on its
  batch. Where theta + margin passes pi, negatives are compared with T as the label's
  logit has it; the authors' code compares with cos(theta + margin), which rises there.
  With a margin of 0 hard negatives are modulated all the same.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    state: t, `()`; see `curricularface_state`.
    scale: s, at least 0.
    margin: an angle in radians, in [0, 2.331].
    decay: the running mean's memory, in [0, 1].

  Returns:
    Logits `(N, K)` and the new t.

  Raises:
    TypeError, ValueError: as `arcface_logits` does, and for a state of another shape.

  References:
    Huang et al., `CurricularFace: Adaptive Curriculum Learning Loss for Deep Face
    Recognition <https://arxiv.org/abs/2004.00288>`_, 2020
  """
  arguments.check_number("scale", scale, low=0)
  arguments.check_number("margin", margin, low=0, high=MAX_MARGIN)
  arguments.check_number("decay", decay, low=0, high=1)
  cosines, _, _ = cosines_and_norms(embeddings, weights)
  t = _inputs.as_state("t", state, ())
  is_label = _inputs.as_mask(labels, cosines)

  # A label out of range has no cosine.
  of_label = jnp.sum(jnp.where(is_label, cosines, 0.0))
  mean = of_label / jnp.maximum(jnp.sum(is_label), 1)
  new_t = jax.lax.stop_gradient(decay * t + (1.0 - decay) * mean)

  shifted = add_angle(cosines, margin)
  target = jnp.sum(jnp.where(is_label, shifted, 0.0), axis=-1, keepdims=True)
  negatives = jnp.where(cosines > target, cosines * (new_t + cosines), cosines)
  return scale * jnp.where(is_label, shifted, negatives), new_t.astype(t.dtype)


def curricularface_state(num_classes: int, dim: int) -> Array:
  """t before the first step: 0; neither `num_classes` nor `dim` is used."""
  del num_classes, dim
  return jnp.zeros((), jnp.float32)


def magface(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  *,
  scale: float | Array = 64.0,
  min_norm: float | Array = 10.0,
  max_norm: float | Array = 110.0,
  min_margin: float | Array = 0.45,
  max_margin: float | Array = 0.8,
  norm_weight: float | Array = 35.0,
  easy_margin: bool = False,
) -> Array:
  """MagFace: ArcFace whose margin grows with the embedding's norm, which is rewarded.

  With a = |x|, clipped to [min_norm, max_norm]:

    m = min_margin + (max_margin - min_margin) (a - min_norm) / (max_norm - min_norm)
    loss_i = ArcFace_i(m) + norm_weight (a / max_norm^2 + 1 / a)

  The margin has a gradient, which shrinks the norm; the last term, falling up to
  max_norm, lengthens it, less for hard examples: the norm measures an image's quality.
  For that the paper wants norm_weight to be at least scale (max_margin - min_margin) /
  (max_norm - min_norm) / (1 / min_norm^2 - 1 / max_norm^2), 22.6 with the defaults.

  Hazard: a norm outside of the bounds has no gradient, neither by the margin nor by the
  last term. The defaults suit embeddings of 512 dimensions; check the model's norms.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    scale: s, at least 0.
    min_norm: the norm of the smallest margin, at least 0.001.
    max_norm: the norm of the largest margin, at least `min_norm`.
    min_margin: an angle in radians, in [0, 2.331].
    max_margin: an angle in radians, from `min_margin` to 2.331.
    norm_weight: the weight of the last term, at least 0.
    easy_margin: as `arcface_logits` has it; the authors' code has it on.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `arcface_logits` does, and for bounds in the wrong order.

  References:
    Meng et al., `MagFace: A Universal Representation for Face Recognition and Quality
    Assessment <https://arxiv.org/abs/2103.06627>`_, 2021
  """
  arguments.check_number("scale", scale, low=0)
  arguments.check_number("min_norm", min_norm, low=1e-3)
  arguments.check_number("max_norm", max_norm, low=1e-3)
  arguments.check_order("min_norm", min_norm, "max_norm", max_norm)
  arguments.check_number("min_margin", min_margin, low=0, high=MAX_MARGIN)
  arguments.check_number("max_margin", max_margin, low=0, high=MAX_MARGIN)
  arguments.check_order("min_margin", min_margin, "max_margin", max_margin)
  arguments.check_number("norm_weight", norm_weight, low=0)
  cosines, norms, _ = cosines_and_norms(embeddings, weights)
  is_label = _inputs.as_mask(labels, cosines)

  norms = jnp.clip(norms, min_norm, max_norm)
  slope = (max_margin - min_margin) / jnp.maximum(max_norm - min_norm, 1e-6)
  margins = min_margin + slope * (norms - min_norm)
  shifted = add_angle(cosines, margins, easy_margin)
  logits = scale * jnp.where(is_label, shifted, cosines)

  reward = norms[:, 0] / max_norm**2 + 1.0 / norms[:, 0]
  return cross_entropy(logits, labels) + norm_weight * reward


def adaface_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  state: ArrayLike,
  *,
  scale: float | Array = 64.0,
  margin: float | Array = 0.4,
  concentration: float | Array = 0.333,
  decay: float | Array = 0.99,
) -> tuple[Array, Array]:
  """AdaFace: an angular margin for small embedding norms, a cosine's for large ones.

  With a = |x|, clipped to [0.001, 100], and running means of the batch's mean and
  standard deviation of it:

    mean <- decay mean + (1 - decay) mean_i a_i, and so the deviation
    q = clip(concentration (a - mean) / (deviation + 0.001), -1, 1)
    z_y = s (cos(theta_y - margin q) - margin (1 + q))

  the angle kept within [0, pi]. q = -1, an image of low quality, is ArcFace's margin;
  q = 0 CosFace's; q = 1 counts hard examples less than easy ones. The new means are
  used, and neither they nor q have a gradient, so that an example's loss depends on its
  batch. The deviation is that of N - 1. Where theta + margin passes pi, the logit is
  constant, as the authors have it, and not ArcFace's.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    state: mean and standard deviation of the norms, `(2,)`; see `adaface_state`.
    scale: s, at least 0.
    margin: an angle in radians and a cosine, in [0, pi]; 0 gives `cosine_logits`.
    concentration: the paper's h, at least 0; 0 gives `cosface_logits`.
    decay: the running means' memory, in [0, 1]; one less the authors' t_alpha.

  Returns:
    Logits `(N, K)` and the new state.

  Raises:
    TypeError, ValueError: as `arcface_logits` does, and for a state of another shape.

  References:
    Kim et al., `AdaFace: Quality Adaptive Margin for Face Recognition
    <https://arxiv.org/abs/2204.00964>`_, 2022
  """
  arguments.check_number("scale", scale, low=0)
  arguments.check_number("margin", margin, low=0, high=math.pi)
  arguments.check_number("concentration", concentration, low=0)
  arguments.check_number("decay", decay, low=0, high=1)
  cosines, norms, _ = cosines_and_norms(embeddings, weights)
  state = _inputs.as_state("norm statistics", state, (2,))
  is_label = _inputs.as_mask(labels, cosines)

  norms = jax.lax.stop_gradient(jnp.clip(norms, _LEAST_NORM, _LARGEST_NORM))
  deviation = jnp.sqrt(
    jnp.sum(jnp.square(norms - jnp.mean(norms))) / max(len(norms) - 1, 1)
  )
  of_batch = jnp.stack([jnp.mean(norms), deviation])
  new_state = decay * state + (1.0 - decay) * of_batch

  mean, deviation = new_state
  quality = concentration * (norms - mean) / (deviation + _DEVIATION_EPSILON)
  quality = jnp.clip(quality, -1.0, 1.0)
  target = _add_clipped_angle(cosines, -margin * quality) - margin * (1.0 + quality)
  logits = scale * jnp.where(is_label, target, cosines)
  return logits, jax.lax.stop_gradient(new_state).astype(state.dtype)


def _add_clipped_angle(cosines: Array, angles: Array) -> Array:
  """`cos(clip(theta + angle, 0, pi))` for angles of either sign, in [-pi, pi]."""
  cos_a, sin_a = jnp.cos(angles), jnp.sin(angles)
  shifted = cosines * cos_a - sine(cosines) * sin_a
  # theta + a < 0 where a < 0 and c > cos a; theta + a > pi where a > 0 and c < -cos a.
  shifted = jnp.where((angles < 0) & (cosines > cos_a), 1.0, shifted)
  return jnp.where((angles > 0) & (cosines < -cos_a), -1.0, shifted)


def adaface_state(num_classes: int, dim: int) -> Array:
  """Mean and deviation of the norms before the first step, the authors' `(20, 100)`."""
  del num_classes, dim
  return jnp.array([20.0, 100.0], jnp.float32)


curricularface = under_margin(curricularface_logits, cross_entropy, "curricularface")
adaface = under_margin(adaface_logits, cross_entropy, "adaface")
