"""Losses for class imbalance and unequal misclassification costs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses._inputs import under_margin
from emosynth_jax.losses.classification import (
  cross_entropy,
  expectation,
  log_one_minus_p,
  log_softmax,
)
from emosynth_jax.losses.cosine import cosines_and_norms, matmul
from emosynth_jax.utils import arguments, errors


def _as_costs(name: str, costs: ArrayLike, shape: tuple[int, ...]) -> Array:
  """Checks costs of `shape`, or one number for all."""
  costs = jnp.asarray(costs)
  if not jnp.issubdtype(costs.dtype, jnp.number):
    raise TypeError(f"{name}: expected numbers, got {costs.dtype}")
  if costs.shape not in ((), shape):
    raise ValueError(
      f"{name}: expected one number or shape {shape}, got shape {costs.shape}"
    )
  if not isinstance(costs, jax.core.Tracer) and not np.all(np.asarray(costs) >= 0):
    raise ValueError(f"{name}: expected numbers >= 0, got {costs}")
  return jnp.broadcast_to(costs.astype(jnp.float32), shape)


def real_world_weight_cross_entropy(
  logits: ArrayLike,
  labels: ArrayLike,
  *,
  fn_weights: ArrayLike = 1.0,
  fp_weights: ArrayLike = 0.0,
) -> Array:
  """Cross-entropy with costs of false negatives and false positives (RWWCE).

    loss_i = -[fn_y log p_y + sum_{j != y} fp_{y,j} log(1 - p_j)]

  `log(1 - p_j)` is a difference of logsumexps, finite at p_j = 1. With the defaults
  it is `cross_entropy`; for two classes, weighted binary cross-entropy. Equation
  2.6, which prints a plus sign before the sum and the binary form only.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    fn_weights: the cost of missing each class, `(K,)`, or one number.
    fp_weights: the cost of taking true class y for class j, `(K, K)` at `[y, j]`, or
      one number; the diagonal is not used.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for costs of other shapes.

  References:
    Ho and Wookey, `The Real-World-Weight Cross-Entropy Loss Function
    <https://arxiv.org/abs/2001.00570>`_, 2020
  """
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  k = logits.shape[-1]
  misses = _as_costs("fn_weights", fn_weights, (k,))[None, :] * targets
  alarms = _as_costs("fp_weights", fp_weights, (k, k)) * (1.0 - jnp.eye(k))
  missed = expectation(misses, log_softmax(logits, targets))
  false_alarms = expectation(matmul(targets, alarms), log_one_minus_p(logits))
  return -missed - false_alarms


def dynamically_weighted_balanced(
  logits: ArrayLike,
  labels: ArrayLike,
  class_counts: ArrayLike,
  *,
  regularizer: str = "target",
) -> Array:
  """Dynamically weighted balanced cross-entropy (DWB).

  With `w_j = log(max_k n_k / n_j) + 1`:

    loss_i = -w_y^(1 - p_y) log p_y + p_y (1 - p_y)

  The last term is the regularizer. Published code disagrees on whether it is that of
  the label only ("target") or the sum over all classes ("all"); the printed sum over j
  allows both. An empty class counts as one example. Equations 2.9-2.10.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    class_counts: training examples of each class, `(K,)`.
    regularizer: "target" or "all".

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, for class counts of another shape
      and for another regularizer.

  References:
    Fernando and Tsokos, `Dynamically Weighted Balanced Loss: Class Imbalanced
    Learning and Confidence Calibration of Deep Neural Networks
    <https://doi.org/10.1109/TNNLS.2020.3047335>`_, 2021
  """
  errors.check_choice("regularizer", regularizer, ("target", "all"))
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  counts = _inputs.as_class_counts(class_counts, logits.shape[-1])
  log_weight = jnp.log(jnp.log(jnp.max(counts) / counts) + 1.0)[None, :]
  log_p = log_softmax(logits, targets)
  p = jnp.exp(log_p)
  weighted = -jnp.exp((1.0 - p) * log_weight) * log_p
  doubt = p * (1.0 - p)
  if regularizer == "all":
    return expectation(targets, weighted) + jnp.sum(doubt, axis=-1)

  return expectation(targets, weighted + doubt)


def logit_adjustment(
  logits: ArrayLike,
  labels: ArrayLike,
  class_counts: ArrayLike,
  *,
  tau: float | Array = 1.0,
) -> Array:
  """Logit-adjusted cross-entropy: the class priors belong to training alone.

    loss_i = NLL(z_i + tau log prior, y_i),  prior_j = n_j / sum_k n_k

  Evaluation uses the model's logits without the prior, which favor no class for its
  frequency: the loss is consistent for balanced accuracy. An empty class counts as one
  example.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    class_counts: training examples of each class, `(K,)`.
    tau: the prior's exponent, at least 0; 0 is `cross_entropy`, 1 `balanced_softmax`.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for class counts of another
      shape.

  References:
    Menon et al., `Long-Tail Learning via Logit Adjustment
    <https://arxiv.org/abs/2007.07314>`_, 2021
  """
  arguments.check_number("tau", tau, low=0)
  logits = _inputs.as_logits(logits)
  counts = _inputs.as_class_counts(class_counts, logits.shape[-1])
  log_prior = jnp.log(counts / jnp.sum(counts))[None, :]
  return cross_entropy(logits + tau * log_prior, labels)


def balanced_softmax(
  logits: ArrayLike, labels: ArrayLike, class_counts: ArrayLike
) -> Array:
  """Balanced softmax: cross-entropy of a softmax that the class counts weigh.

    loss_i = -log(n_y e^(z_y) / sum_j n_j e^(z_j))

  It is `logit_adjustment` with tau = 1. Evaluated by the model's own logits.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    class_counts: training examples of each class, `(K,)`.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `logit_adjustment` does.

  References:
    Ren et al., `Balanced Meta-Softmax for Long-Tailed Visual Recognition
    <https://arxiv.org/abs/2007.10740>`_, 2020
  """
  return logit_adjustment(logits, labels, class_counts, tau=1.0)


def deferred_reweighting(
  logits: ArrayLike,
  labels: ArrayLike,
  class_counts: ArrayLike,
  step: ArrayLike,
  *,
  reweight_step: int,
  beta: float | Array = 0.9999,
) -> Array:
  """Cross-entropy that is weighted by class from a step on (DRW).

    loss_i = CE_i                                     before `reweight_step`
    loss_i = w_y CE_i                                 from it on
    w_j = K u_j / sum_k u_k,  u_j = (1 - beta) / (1 - beta^n_j)

  The weights are Cui et al.'s for the effective number of examples, with mean 1 over
  the classes; an empty class counts as one example. `"ldam+deferred_reweighting"` is
  the paper's LDAM-DRW. There, as in PyTorch, a batch's loss is divided by the sum of
  its weights; here each example's loss is returned and the caller divides by N.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    class_counts: training examples of each class, `(K,)`.
    step: training steps done, a scalar.
    reweight_step: the first step with weights; the authors' is after 80 % of training.
    beta: in [0, 1]; 0 gives weights of 1, and 1 weights in inverse proportion to the
      counts.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for class counts of another
      shape.

  References:
    Cao et al., `Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss
    <https://arxiv.org/abs/1906.07413>`_, 2019

    Cui et al., `Class-Balanced Loss Based on Effective Number of Samples
    <https://arxiv.org/abs/1901.05555>`_, 2019
  """
  arguments.check_number("reweight_step", reweight_step, low=0)
  arguments.check_number("beta", beta, low=0, high=1)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  counts = _inputs.as_class_counts(class_counts, logits.shape[-1])

  inverse = 1.0 / _effective_number(counts, beta)
  weights = logits.shape[-1] * inverse / jnp.sum(inverse)
  weights = jnp.where(_inputs.as_step(step) >= reweight_step, weights, 1.0)

  log_p = log_softmax(logits, targets)
  return -expectation(targets, weights[None, :] * log_p)


def _effective_number(counts: Array, beta: float | Array) -> Array:
  """`(1 - beta^n) / (1 - beta)`, which is n in the limit of beta = 1, and at 1."""
  # Of a Python number 1 - beta keeps the digits that a beta in float32 has lost.
  rest = jnp.asarray(1.0 - beta, counts.dtype)
  positive = jnp.where(rest == 0, 1.0, rest)
  number = -jnp.expm1(counts * jnp.log1p(-positive)) / positive
  return jnp.where(rest == 0, counts, number)


def ldam_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  class_counts: ArrayLike,
  *,
  scale: float | Array = 30.0,
  max_margin: float | Array = 0.5,
) -> Array:
  """Label-distribution-aware margin (LDAM): CosFace, with more for rare classes.

    z_j = s c_j,  z_y = s (c_y - m_y),  m_j = max_margin (min_k n_k / n_j)^(1/4)

  The fourth root minimizes the paper's bound on the balanced error. The authors
  defer class weights to the last epochs: `"ldam+deferred_reweighting"`. An empty class
  counts as one example, and sets the smallest count.

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    class_counts: training examples of each class, `(K,)`.
    scale: s, at least 0.
    max_margin: the rarest class's margin, at least 0; 0 gives `cosine_logits`.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `cosface_logits` does, and for class counts of another
      shape.

  References:
    Cao et al., `Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss
    <https://arxiv.org/abs/1906.07413>`_, 2019
  """
  arguments.check_number("scale", scale, low=0)
  arguments.check_number("max_margin", max_margin, low=0)
  cosines, _, _ = cosines_and_norms(embeddings, weights)
  is_label = _inputs.as_mask(labels, cosines)
  counts = _inputs.as_class_counts(class_counts, cosines.shape[-1])
  margins = max_margin * (jnp.min(counts) / counts)[None, :] ** 0.25
  return scale * jnp.where(is_label, cosines - margins, cosines)


ldam = under_margin(ldam_logits, cross_entropy, "ldam")
