"""Center loss (Wen et al., 2016)."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses.classification import cross_entropy
from emosynth_jax.losses.cosine import matmul
from emosynth_jax.utils import arguments


def center_loss(
  logits: ArrayLike,
  embeddings: ArrayLike,
  labels: ArrayLike,
  state: ArrayLike,
  *,
  center_weight: float | Array = 0.003,
  center_rate: float | Array = 0.5,
) -> tuple[Array, Array]:
  """Cross-entropy plus half of the squared distance to the class's center.

    loss_i = CE_i + center_weight 1/2 |x_i - c_y|^2
    c_k <- c_k - center_rate sum_{i: y_i = k} (c_k - x_i) / (1 + n_k)

  with n_k the examples of class k in the batch. The centers are state, not parameters:
  they receive no gradient, and the loss uses those from before the update. The center
  term alone is minimized by constant embeddings. The distance grows with the number of
  dimensions and the square of the embedding's norm: check that center_weight suits the
  model. Section 2.2.2 of the thesis, in its text.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    embeddings: floating `(N, D)`.
    labels: integer `(N,)`.
    state: the centers `(K, D)`; see `center_loss_state`.
    center_weight: weight of the center term, at least 0; 0 is `cross_entropy`.
    center_rate: update rate of the centers, in [0, 1].

  Returns:
    The loss of each example, `(N,)`, and the new centers `(K, D)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for embeddings or a state of
      another shape.

  References:
    Wen et al., `A Discriminative Feature Learning Approach for Deep Face Recognition
    <https://doi.org/10.1007/978-3-319-46478-7_31>`_, 2016
  """
  arguments.check_number("center_weight", center_weight, low=0)
  arguments.check_number("center_rate", center_rate, low=0, high=1)
  logits = _inputs.as_logits(logits)
  embeddings = _inputs.as_embeddings(embeddings, logits)
  k, d = logits.shape[1], embeddings.shape[1]
  centers = _inputs.as_state("centers", state, (k, d))
  is_label = _inputs.as_mask(labels, logits).astype(embeddings.dtype)
  offsets = embeddings - jax.lax.stop_gradient(matmul(is_label, centers))
  pull = 0.5 * jnp.sum(jnp.square(offsets), axis=-1)
  count = jnp.sum(is_label, axis=0)[:, None]
  towards = matmul(is_label.T, offsets) / (1.0 + count)
  new_centers = jax.lax.stop_gradient(centers + center_rate * towards)
  losses = cross_entropy(logits, labels) + center_weight * pull
  return losses, new_centers.astype(centers.dtype)


def center_loss_state(num_classes: int, dim: int) -> Array:
  """The centers before the first step: zeros `(num_classes, dim)`."""
  return jnp.zeros((num_classes, dim), jnp.float32)
