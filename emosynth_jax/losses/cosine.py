"""Cosine similarities of embeddings and class weights, and logits computed from them.

Angular margins are applied to them, and a model trained with an angular margin is
evaluated by them. The class weights are the kernel of the model's last layer: they are
parameters of the model, and the layer's bias is not used.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.utils import arguments

# Inside of the square root of a norm: a zero vector then has a finite gradient.
NORM_EPSILON = 1e-12


def cosines_and_norms(
  embeddings: ArrayLike, weights: ArrayLike
) -> tuple[Array, Array, Array]:
  """Cosines `(N, K)`, embedding norms `(N, 1)` and weight norms `(1, K)`."""
  embeddings = _inputs.as_float("embeddings", embeddings, ("N", "D"))
  weights = _inputs.as_float("weights", weights, ("D", "K"))
  if embeddings.shape[1] != weights.shape[0] or weights.shape[1] < 2:
    raise ValueError(
      f"weights: expected shape ({embeddings.shape[1]}, K) with K >= 2 for embeddings "
      f"of shape {embeddings.shape}, got {weights.shape}"
    )

  unit_embeddings, embedding_norms = unit_and_norm(embeddings, axis=1)
  unit_weights, weight_norms = unit_and_norm(weights, axis=0)
  cosines = matmul(unit_embeddings, unit_weights)
  return cosines, embedding_norms, weight_norms


def cosine_logits(
  embeddings: ArrayLike, weights: ArrayLike, *, scale: float | Array
) -> Array:
  """`scale cos(theta)`: the margin-free logits of CosFace, ArcFace and similar losses.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`.
    scale: the logit of a perfect match, at least 0.

  Returns:
    Logits `(N, K)`.
  """
  arguments.check_number("scale", scale, low=0)
  return scale * cosines_and_norms(embeddings, weights)[0]


def norm_cosine_logits(embeddings: ArrayLike, weights: ArrayLike) -> Array:
  """`|x| cos(theta)`: the margin-free logits of SphereFace.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`.

  Returns:
    Logits `(N, K)`.
  """
  cosines, norms, _ = cosines_and_norms(embeddings, weights)
  return norms * cosines


def linear_logits(embeddings: ArrayLike, weights: ArrayLike) -> Array:
  """`|W| |x| cos(theta) = x W`: the margin-free logits of L-Softmax.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`.

  Returns:
    Logits `(N, K)`.
  """
  cosines, norms, weight_norms = cosines_and_norms(embeddings, weights)
  return weight_norms * norms * cosines


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
