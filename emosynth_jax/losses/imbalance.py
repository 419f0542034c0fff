"""Losses for class imbalance and unequal misclassification costs."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _checks, _math


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
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  k = logits.shape[-1]
  misses = _as_costs("fn_weights", fn_weights, (k,))[None, :] * targets
  alarms = _as_costs("fp_weights", fp_weights, (k, k)) * (1.0 - jnp.eye(k))
  return -_math.expectation(misses, jax.nn.log_softmax(logits)) - _math.expectation(
    _math.matmul(targets, alarms), _math.log_one_minus_p(logits)
  )


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
  _checks.check_choice("regularizer", regularizer, ("target", "all"))
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  counts = _checks.as_class_counts(class_counts, logits.shape[-1])
  log_weight = jnp.log(jnp.log(jnp.max(counts) / counts) + 1.0)[None, :]
  log_p = jax.nn.log_softmax(logits)
  p = jnp.exp(log_p)
  weighted = -jnp.exp((1.0 - p) * log_weight) * log_p
  doubt = p * (1.0 - p)
  if regularizer == "all":
    return _math.expectation(targets, weighted) + jnp.sum(doubt, axis=-1)
  return _math.expectation(targets, weighted + doubt)
