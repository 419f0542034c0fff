"""Supervised contrastive loss: embeddings of one class together, others apart."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses.classification import cross_entropy
from emosynth_jax.losses.cosine import matmul, unit_and_norm
from emosynth_jax.utils import arguments


def supervised_contrastive(
  logits: ArrayLike,
  embeddings: ArrayLike,
  labels: ArrayLike,
  *,
  ce_weight: float | Array = 1.0,
  contrastive_weight: float | Array = 1.0,
  temperature: float | Array = 0.1,
) -> Array:
  """Cross-entropy plus the supervised contrastive loss (SupCon).

  With the cosines c_ij between the batch's embeddings and P_i the other examples of the
  label of i:

    loss_i = ce_weight CE_i + contrastive_weight SupCon_i
    SupCon_i = -mean_{j in P_i} log(e^(c_ij / temperature) /
                                    sum_{l != i} e^(c_il / temperature))

  The paper's L_out. It trains embeddings alone, in a stage of its own, and the last
  layer afterwards: `ce_weight=0` is that first stage. Both terms in one stage are this
  project's default, since the last layer has no gradient otherwise. An example without
  another of its label in the batch has no SupCon; an example's loss depends on its
  batch, and a batch should be large beside the number of classes.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    embeddings: floating `(N, D)`.
    labels: integer `(N,)`.
    ce_weight: the weight of `cross_entropy`, at least 0.
    contrastive_weight: the weight of SupCon, at least 0; 0 is cross-entropy.
    temperature: the divisor of the cosines, at least 0.001.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for embeddings of another shape.

  References:
    Khosla et al., `Supervised Contrastive Learning
    <https://arxiv.org/abs/2004.11362>`_, 2020
  """
  arguments.check_number("ce_weight", ce_weight, low=0)
  arguments.check_number("contrastive_weight", contrastive_weight, low=0)
  arguments.check_number("temperature", temperature, low=1e-3)
  logits = _inputs.as_logits(logits)
  embeddings = _inputs.as_embeddings(embeddings, logits)
  is_label = _inputs.as_mask(labels, logits).astype(embeddings.dtype)

  unit, _ = unit_and_norm(embeddings, axis=1)
  similarities = matmul(unit, unit.T) / temperature
  itself = jnp.eye(len(unit), dtype=bool)
  positives = jnp.where(itself, 0.0, matmul(is_label, is_label.T))
  count = jnp.sum(positives, axis=-1)
  alone = count == 0

  # A batch of one has nothing to sum over: without positives, keep the example itself.
  others = jnp.where(itself & ~alone[:, None], -jnp.inf, similarities)
  log_p = similarities - jax.nn.logsumexp(others, axis=-1, keepdims=True)
  mean_log_p = jnp.sum(positives * log_p, axis=-1) / jnp.where(alone, 1.0, count)

  return ce_weight * cross_entropy(logits, labels) - contrastive_weight * mean_log_p
