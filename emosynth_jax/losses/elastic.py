"""ElasticFace: CosFace and ArcFace with random margins, new ones at each step."""

import math

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


def draw_margins(
  label_cosines: Array,
  step: ArrayLike,
  margin: float | Array,
  sigma: float | Array,
  sort_margins: bool,
) -> Array:
  """Margins `(N,)` from the normal distribution, a function of the step and the row.

  The key is the step's, the same in every run, so that two runs differ by their seeds
  alone. Drawn in float32 whatever the cosines' dtype.

  Args:
    label_cosines: `(N,)`, of each example with its label's weight.
    step: training steps done, a scalar.
    margin: the mean.
    sigma: the standard deviation.
    sort_margins: whether the smaller cosine gets the larger margin.
  """
  _inputs.as_step(step)
  key = jax.random.fold_in(jax.random.key(0), jnp.asarray(step).astype(jnp.uint32))
  noise = jax.random.normal(key, label_cosines.shape, jnp.float32)
  if sort_margins:
    rank = jnp.argsort(jnp.argsort(jax.lax.stop_gradient(label_cosines)))
    noise = jnp.sort(noise)[::-1][rank]
  return margin + sigma * noise.astype(label_cosines.dtype)


def _cosines_labels_margins(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  step: ArrayLike,
  margin: float | Array,
  sigma: float | Array,
  sort_margins: bool,
  *,
  largest: float = math.inf,
) -> tuple[Array, Array, Array]:
  """Cosines and the labels' mask `(N, K)`, and margins `(N, 1)` of 0 to `largest`."""
  arguments.check_number("margin", margin, low=0, high=largest)
  arguments.check_number("sigma", sigma, low=0)
  cosines, _, _ = cosines_and_norms(embeddings, weights)
  is_label = _inputs.as_mask(labels, cosines)
  of_label = jnp.sum(jnp.where(is_label, cosines, 0.0), axis=-1)
  margins = draw_margins(of_label, step, margin, sigma, sort_margins)
  return cosines, is_label, jnp.clip(margins, 0.0, largest)[:, None]


def elastic_cosface_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  step: ArrayLike,
  *,
  scale: float | Array = 64.0,
  margin: float | Array = 0.35,
  sigma: float | Array = 0.0125,
  sort_margins: bool = False,
) -> Array:
  """ElasticFace-Cos: `cosface_logits` with margins from a normal distribution.

    m_i ~ Normal(margin, sigma), not below 0

  The key of the random numbers is a function of the step alone, the same in every run,
  so that the loss is pure; an example's margin is that of its place in the batch.
  `sort_margins` is the paper's ElasticFace+: the batch's margins in order, the largest
  for the example of the smallest c_y.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    step: training steps done, a scalar.
    scale: s, at least 0.
    margin: the margins' mean, at least 0.
    sigma: their standard deviation, at least 0; 0 gives `cosface_logits`.
    sort_margins: whether harder examples get the larger margins.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `cosface_logits` does.

  References:
    Boutros et al., `ElasticFace: Elastic Margin Loss for Deep Face Recognition
    <https://arxiv.org/abs/2109.09416>`_, 2022
  """
  arguments.check_number("scale", scale, low=0)
  cosines, is_label, margins = _cosines_labels_margins(
    embeddings, weights, labels, step, margin, sigma, sort_margins
  )
  return scale * jnp.where(is_label, cosines - margins, cosines)


def elastic_arcface_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  step: ArrayLike,
  *,
  scale: float | Array = 64.0,
  margin: float | Array = 0.5,
  sigma: float | Array = 0.0125,
  sort_margins: bool = False,
) -> Array:
  """ElasticFace-Arc: `arcface_logits` with margins from a normal distribution.

    m_i ~ Normal(margin, sigma), within [0, 2.331]

  Drawn as in `elastic_cosface_logits`. Where theta + m exceeds pi the label's logit
  keeps falling, as ArcFace's does; the authors' code has cos(theta + m), which rises.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    step: training steps done, a scalar.
    scale: s, at least 0.
    margin: the margins' mean, an angle in radians, in [0, 2.331].
    sigma: their standard deviation, at least 0; 0 gives `arcface_logits`.
    sort_margins: whether harder examples get the larger margins.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `arcface_logits` does.

  References:
    Boutros et al., `ElasticFace: Elastic Margin Loss for Deep Face Recognition
    <https://arxiv.org/abs/2109.09416>`_, 2022
  """
  arguments.check_number("scale", scale, low=0)
  cosines, is_label, margins = _cosines_labels_margins(
    *(embeddings, weights, labels, step, margin, sigma, sort_margins),
    largest=MAX_MARGIN,
  )
  return scale * jnp.where(is_label, add_angle(cosines, margins), cosines)


elastic_cosface = under_margin(elastic_cosface_logits, cross_entropy, "elastic_cosface")
elastic_arcface = under_margin(elastic_arcface_logits, cross_entropy, "elastic_arcface")
