"""Standard classification losses of logits and labels.

All except `mse` are linear in the labels: the loss of class probabilities y is
`sum_k y_k loss(k)`.
"""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _checks, _math


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Array:
  """Softmax cross-entropy.

  With `log p = log_softmax(logits)` and targets `y` (one-hot for integer labels):

    loss_i = -sum_k y_ik log p_ik

  The value is finite for any finite logits: the logarithm is exact even where the
  probability underflows to 0 in float32. Equations 2.2, 2.12-2.14 and 4.8 of the
  thesis; 2.12 lacks its minus sign, and the loss grows linearly in the margin by which
  a logit is wrong, logarithmically in 1/p, not exponentially as the text says.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.

  Returns:
    The loss of each example, `(N,)`, float32 for logits of 32 bits or fewer.

  Raises:
    TypeError: for a dtype that is none of these.
    ValueError: for a shape that is none of these, or a label out of range. Inside
      `jax.jit`, where no value is known, such a label gives NaN.

  References:
    Goodfellow et al., `Deep Learning <https://www.deeplearningbook.org>`_, 2016,
    section 6.2.2
  """
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  return -_math.expectation(targets, jax.nn.log_softmax(logits))


def mse(logits: ArrayLike, labels: ArrayLike) -> Array:
  """Mean squared error of the class probabilities (the Brier score over K).

    loss_i = sum_k (y_ik - p_ik)^2 / K,  p = softmax(logits)

  Bounded by 2/K, and its gradient vanishes for a confidently wrong example: it
  trains slowly where cross-entropy does not. K counts the classes whose logit is not
  -inf. Equation 2.1 of the thesis, which leaves the 1/K open.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Brier, "Verification of Forecasts Expressed in Terms of Probability",
    Monthly Weather Review 78, 1950
  """
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  errors = jnp.square(targets - jax.nn.softmax(logits))
  return jnp.sum(errors, axis=-1) / jnp.sum(~jnp.isneginf(logits), axis=-1)


def binary_cross_entropy(logits: ArrayLike, labels: ArrayLike) -> Array:
  """Sigmoid cross-entropy of each class against the rest, summed over the classes.

  With `q = sigmoid(logits)`:

    loss_i = -sum_k [y_ik log q_ik + (1 - y_ik) log(1 - q_ik)]

  It is not a function of the softmax: adding a constant to the logits changes it. The
  sum (not the mean) over K gives each logit the gradient `q - y`. Equation 4.1,
  which prints `(1 - y)(1 - p)`, without the second logarithm.

  Args:
    logits: log-odds of each class, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Goodfellow et al., `Deep Learning <https://www.deeplearningbook.org>`_, 2016,
    section 6.2.2.2
  """
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  unused = jnp.isneginf(logits) & (targets == 0)
  logits = jnp.where(unused, 0.0, logits)
  terms = targets * jax.nn.log_sigmoid(logits)
  terms += (1.0 - targets) * jax.nn.log_sigmoid(-logits)
  return -jnp.sum(jnp.where(unused, 0.0, terms), axis=-1)


def label_smoothing(
  logits: ArrayLike, labels: ArrayLike, *, smoothing: float | Array = 0.1
) -> Array:
  """Cross-entropy with label smoothing (Szegedy et al., 2015).

    loss_i = cross_entropy(logits_i, (1 - smoothing) y_i + smoothing / K)

  The label-smoothing regularisation (LSR) of the thesis's chapter 2. The minimum is
  the entropy of the smoothed label, not 0. The uniform distribution is that over the
  classes whose logit is not -inf, and K their number.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    smoothing: the share of the uniform distribution, in [0, 1].

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
    <https://arxiv.org/abs/1512.00567>`_, 2015
  """
  _checks.check_number("smoothing", smoothing, low=0, high=1)
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  present = (~jnp.isneginf(logits)).astype(logits.dtype)
  uniform = present / jnp.sum(present, axis=-1, keepdims=True)
  smoothed = (1.0 - smoothing) * targets + smoothing * uniform
  return -_math.expectation(smoothed, _math.log_softmax(logits, smoothed))


def focal(
  logits: ArrayLike,
  labels: ArrayLike,
  *,
  gamma: float | Array = 2.0,
  alpha: float | Array = 1.0,
) -> Array:
  """Focal loss: cross-entropy, down-weighted as the label's probability grows.

    loss_i = -alpha (1 - p_y)^gamma log p_y

  The power is taken as `exp(gamma log(1 - p_y))` with a logarithm that is finite at
  p_y = 1; taken directly, its slope there is infinite for gamma < 1. Equation 4.2;
  the thesis calls gamma learnable, but a gamma trained by gradient grows without
  bound, since every larger one has a smaller loss.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    gamma: the exponent, at least 0; 0 is `alpha` times `cross_entropy`.
    alpha: a factor on the whole loss, at least 0.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Lin et al., `Focal Loss for Dense Object Detection
    <https://arxiv.org/abs/1708.02002>`_, 2017
  """
  _checks.check_number("gamma", gamma, low=0)
  _checks.check_number("alpha", alpha, low=0)
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  fading = jnp.exp(gamma * _math.log_one_minus_p(logits))
  log_p = _math.log_softmax(logits, targets)
  return -alpha * _math.expectation(targets, fading * log_p)


def poly(
  logits: ArrayLike, labels: ArrayLike, *, epsilon: float | Array = 1.0
) -> Array:
  """PolyLoss, in its form Poly-1: cross-entropy with another first coefficient.

    loss_i = -log p_y + epsilon (1 - p_y)

  Cross-entropy is the series `sum_j (1 - p_y)^j / j`; Poly-1 changes the coefficient of
  its first term, 1, to 1 + epsilon. Below epsilon = -1 the loss rises with p_y near
  p_y = 1, and such an epsilon is refused.

  Args:
    logits: unnormalised log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    epsilon: at least -1; 0 is `cross_entropy`.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Leng et al., `PolyLoss: A Polynomial Expansion Perspective of Classification Loss
    Functions <https://arxiv.org/abs/2204.12511>`_, 2022
  """
  _checks.check_number("epsilon", epsilon, low=-1)
  logits = _checks.as_logits(logits)
  targets = _checks.as_targets(labels, logits)
  first_term = jnp.exp(_math.log_one_minus_p(logits))
  log_p = _math.log_softmax(logits, targets)
  return _math.expectation(targets, epsilon * first_term - log_p)
