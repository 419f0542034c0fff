"""Noise-robust losses: bounded losses, and combinations with one."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses.classification import (
  cross_entropy,
  expectation,
  log_one_minus_p,
  log_softmax,
)
from emosynth_jax.utils import arguments, errors

# Replaces log 0 in reverse cross-entropy: log 1e-4.
LOG_ZERO = -9.210340371976182


def mean_absolute_error(logits: ArrayLike, labels: ArrayLike) -> Array:
  """`1 - p_y`: half of the absolute error between label and probabilities.

  Bounded, which limits the effect of wrong labels, but slow to train for the same
  reason: a confidently wrong example has no gradient. Named in the thesis's section
  2.2.1.2.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.

  Returns:
    The loss of each example, `(N,)`, in [0, 1].

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Ghosh et al., `Robust Loss Functions under Label Noise for Deep Neural Networks
    <https://arxiv.org/abs/1712.09482>`_, 2017
  """
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  # The complement of a probability near 1 is exact as a logarithm.
  return expectation(targets, jnp.exp(log_one_minus_p(logits)))


def reverse_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Array:
  """Cross-entropy with label and prediction exchanged: `-A (1 - p_y)`.

  `A = log 1e-4` stands for the logarithm of the zeros in a one-hot label. It is thus
  9.21 times `mean_absolute_error`.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.

  Returns:
    The loss of each example, `(N,)`, in [0, 9.22].

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Wang et al., `Symmetric Cross Entropy for Robust Learning with Noisy Labels
    <https://arxiv.org/abs/1908.06112>`_, 2019
  """
  return -LOG_ZERO * mean_absolute_error(logits, labels)


def normalized_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Array:
  """Cross-entropy over its sum for all labels: `log p_y / sum_k log p_k`.

  In [0, 1], 1/K for uniform probabilities. The denominator cannot vanish, it is at most
  `-K log K`, unless all classes but one are masked by logits of -inf: then the loss
  is 0.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Ma et al., `Normalized Loss Functions for Deep Learning with Noisy Labels
    <https://arxiv.org/abs/2006.13554>`_, 2020
  """
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  log_p = log_softmax(logits, targets)
  total = jnp.minimum(jnp.sum(log_p, axis=-1), -1e-12)
  return expectation(targets, log_p) / total


_ACTIVE = {"ce": cross_entropy, "nce": normalized_cross_entropy}
_PASSIVE = {"mae": mean_absolute_error, "rce": reverse_cross_entropy}


def active_passive(
  logits: ArrayLike,
  labels: ArrayLike,
  *,
  active: str = "nce",
  passive: str = "rce",
  active_weight: float | Array = 1.0,
  passive_weight: float | Array = 1.0,
) -> Array:
  """A loss that raises the label's probability plus one that lowers the others'.

    loss_i = active_weight active_i + passive_weight passive_i

  Equation 2.8. Weights of 1 and 1 are those of the paper for CIFAR-10.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    active: "nce" (`normalized_cross_entropy`) or "ce".
    passive: "rce" (`reverse_cross_entropy`) or "mae" (`mean_absolute_error`).
    active_weight: the active loss's weight, at least 0.
    passive_weight: the passive loss's weight, at least 0.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for an unknown part.

  References:
    Ma et al., `Normalized Loss Functions for Deep Learning with Noisy Labels
    <https://arxiv.org/abs/2006.13554>`_, 2020
  """
  errors.check_choice("active", active, _ACTIVE)
  errors.check_choice("passive", passive, _PASSIVE)
  arguments.check_number("active_weight", active_weight, low=0)
  arguments.check_number("passive_weight", passive_weight, low=0)
  return active_weight * _ACTIVE[active](logits, labels) + passive_weight * _PASSIVE[
    passive
  ](logits, labels)


def symmetric_cross_entropy(
  logits: ArrayLike,
  labels: ArrayLike,
  *,
  forward_weight: float | Array = 0.1,
  reverse_weight: float | Array = 1.0,
) -> Array:
  """Cross-entropy plus reverse cross-entropy.

    loss_i = forward_weight CE_i + reverse_weight RCE_i

  Reference 53 of the thesis, which calls its own loss by this name: that one is
  `sce_loss` here.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    forward_weight: the weight of `cross_entropy` (the paper's alpha).
    reverse_weight: the weight of `reverse_cross_entropy` (the paper's beta).

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Wang et al., `Symmetric Cross Entropy for Robust Learning with Noisy Labels
    <https://arxiv.org/abs/1908.06112>`_, 2019
  """
  arguments.check_number("forward_weight", forward_weight, low=0)
  arguments.check_number("reverse_weight", reverse_weight, low=0)
  forward = cross_entropy(logits, labels)
  return forward_weight * forward + reverse_weight * reverse_cross_entropy(
    logits, labels
  )


def _box_cox(log_p: Array, q: float | Array) -> Array:
  """`(1 - p^q) / q`, which goes to `-log p` as q goes to 0, and is that at 0."""
  q = jnp.asarray(q, log_p.dtype)
  nonzero = jnp.where(q == 0, 1.0, q)
  return jnp.where(q == 0, -log_p, -jnp.expm1(nonzero * log_p) / nonzero)


def generalized_cross_entropy(
  logits: ArrayLike, labels: ArrayLike, *, q: float | Array = 0.7
) -> Array:
  """Generalized cross-entropy, L_q: between cross-entropy and absolute error.

    loss_i = (1 - p_y^q) / q

  Computed as `-expm1(q log p_y) / q`, which is accurate for small q. q = 0 is
  `cross_entropy` and q = 1 `mean_absolute_error`. Part of the thesis's equation 2.4.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    q: in [0, 1].

  Returns:
    The loss of each example, `(N,)`, in [0, 1/q].

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Zhang and Sabuncu, `Generalized Cross Entropy Loss for Training Deep Neural
    Networks with Noisy Labels <https://arxiv.org/abs/1805.07836>`_, 2018
  """
  arguments.check_number("q", q, low=0, high=1)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  return expectation(targets, _box_cox(log_softmax(logits, targets), q))


def truncated_generalized_cross_entropy(
  logits: ArrayLike,
  labels: ArrayLike,
  *,
  q: float | Array = 0.7,
  threshold: float | Array = 0.5,
) -> Array:
  """Generalized cross-entropy that is constant where the label is improbable.

    loss_i = L_q(threshold) if p_y <= threshold else L_q(p_y)

  A truncated example has no gradient: examples of LOW loss continue to train. The text
  around equations 2.4-2.5 says the reverse. A network that starts with all p_y below
  the threshold does not train at all: start with another loss.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    q: in [0, 1].
    threshold: the thesis's k, in [0, 1].

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Zhang and Sabuncu, `Generalized Cross Entropy Loss for Training Deep Neural
    Networks with Noisy Labels <https://arxiv.org/abs/1805.07836>`_, 2018
  """
  arguments.check_number("q", q, low=0, high=1)
  arguments.check_number("threshold", threshold, low=0, high=1)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  log_p = log_softmax(logits, targets)
  log_threshold = jnp.log(jnp.asarray(threshold, log_p.dtype))
  log_p = jnp.where(log_p <= log_threshold, log_threshold, log_p)
  return expectation(targets, _box_cox(log_p, q))
