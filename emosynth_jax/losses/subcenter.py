"""Sub-center ArcFace: several weight vectors a class, of which the nearest counts."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses._angle import MAX_MARGIN, add_angle
from emosynth_jax.losses._inputs import under_margin
from emosynth_jax.losses.classification import cross_entropy
from emosynth_jax.losses.cosine import cosines_and_norms
from emosynth_jax.utils import arguments


def _nearest_cosines(
  embeddings: ArrayLike, weights: ArrayLike, sub_centers: int
) -> Array:
  """The largest cosine of each class `(N, K)`, over its C columns of `(D, K C)`."""
  sub_centers = arguments.as_integer("sub_centers", sub_centers, low=1)
  cosines, _, _ = cosines_and_norms(embeddings, weights)
  num_classes, remainder = divmod(cosines.shape[1], sub_centers)
  if remainder or num_classes < 2:
    raise ValueError(
      f"weights: expected sub_centers={sub_centers} columns for each of at least 2 "
      f"classes, got {cosines.shape[1]} columns; the last layer of "
      "the network needs num_classes * sub_centers outputs"
    )
  return jnp.max(cosines.reshape(-1, num_classes, sub_centers), axis=-1)


def subcenter_cosine_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  *,
  scale: float | Array,
  sub_centers: int,
) -> Array:
  """`scale max_c cos(theta_jc)`: the margin-free logits of sub-center ArcFace.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K C)`, a class's sub-centers in adjacent columns.
    scale: the logit of a perfect match, at least 0.
    sub_centers: C.

  Returns:
    Logits `(N, K)`.
  """
  arguments.check_number("scale", scale, low=0)
  return scale * _nearest_cosines(embeddings, weights, sub_centers)


def subcenter_arcface_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  *,
  sub_centers: int,
  scale: float | Array = 64.0,
  margin: float | Array = 0.5,
) -> Array:
  """Sub-center ArcFace: `arcface_logits` of each class's nearest sub-center.

    c_j = max_{c < C} cos(theta_jc)

  Wrong labels and hard examples can gather at sub-centers of their own. Class j's are
  columns j C to j C + C - 1 of the weights, so the network's last layer has K C outputs
  (its own logits are not the classes', and no loss of logits applies to them).

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K C)`, the kernel of the last layer.
    labels: integer `(N,)`, below K.
    sub_centers: C, at least 1; 1 is `arcface_logits`.
    scale: s, at least 0.
    margin: an angle in radians, in [0, 2.331]; 0 gives `subcenter_cosine_logits`.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `arcface_logits` does, and for a number of columns that C
      does not divide.

  References:
    Deng et al., `Sub-center ArcFace: Boosting Face Recognition by Large-scale Noisy Web
    Faces <https://doi.org/10.1007/978-3-030-58621-8_43>`_, 2020
  """
  arguments.check_number("scale", scale, low=0)
  arguments.check_number("margin", margin, low=0, high=MAX_MARGIN)
  cosines = _nearest_cosines(embeddings, weights, sub_centers)
  is_label = _inputs.as_mask(labels, cosines)
  return scale * jnp.where(is_label, add_angle(cosines, margin), cosines)


subcenter_arcface = under_margin(
  subcenter_arcface_logits, cross_entropy, "subcenter_arcface"
)
