"""Classification losses of logits and labels: the standard ones and the thesis's.

All except `mse` and `sce_loss` are linear in the labels: the loss of class
probabilities y is `sum_k y_k loss(k)`. Their logarithms of probabilities are for other
losses too.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.utils import arguments, errors

# What the thesis's SCE loss may mean, see `sce_loss`.
SCE_READINGS = ("batch", "box", "example", "intent")


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
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  return -expectation(targets, jax.nn.log_softmax(logits))


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
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
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
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
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

  The label-smoothing regularization (LSR) of the thesis's chapter 2. The minimum is
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
  arguments.check_number("smoothing", smoothing, low=0, high=1)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  present = (~jnp.isneginf(logits)).astype(logits.dtype)
  uniform = present / jnp.sum(present, axis=-1, keepdims=True)
  smoothed = (1.0 - smoothing) * targets + smoothing * uniform
  return -expectation(smoothed, log_softmax(logits, smoothed))


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
  arguments.check_number("gamma", gamma, low=0)
  arguments.check_number("alpha", alpha, low=0)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  fading = jnp.exp(gamma * log_one_minus_p(logits))
  log_p = log_softmax(logits, targets)
  return -alpha * expectation(targets, fading * log_p)


def poly(
  logits: ArrayLike, labels: ArrayLike, *, epsilon: float | Array = 1.0
) -> Array:
  """PolyLoss, in its form Poly-1: cross-entropy with another first coefficient.

    loss_i = -log p_y + epsilon (1 - p_y)

  Cross-entropy is the series `sum_j (1 - p_y)^j / j`; Poly-1 changes the coefficient of
  its first term, 1, to 1 + epsilon. Below epsilon = -1 the loss rises with p_y near
  p_y = 1, and such an epsilon is refused.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
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
  arguments.check_number("epsilon", epsilon, low=-1)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  first_term = jnp.exp(log_one_minus_p(logits))
  log_p = log_softmax(logits, targets)
  return expectation(targets, epsilon * first_term - log_p)


def sce_loss(
  logits: ArrayLike,
  labels: ArrayLike,
  *,
  reading: str = "batch",
  ce_weight: float | Array = 0.5,
  sce_weight: float | Array = 0.5,
) -> Array:
  """The thesis's SCE loss (not `symmetric_cross_entropy`, which has the same acronym).

  With `p = softmax(logits)`, targets y and CE the cross-entropy:

    loss_i = ce_weight CE_i + sce_weight stop_gradient(alpha w_i) L_i

    batch:    alpha = mean_i sum_k (y_ik - p_ik)^2, w_i = |(1 - y_i) - p_i|_2, L = CE
    example:  alpha of each example by itself; near a scaled `focal` of gamma 2
    intent:   w_i = |(1 - y_i) p_i|_2, 0 for a correct prediction, as the text describes
    box:      L_i = -sum_k log10 p_ik, over all classes, as the box of figure 4.1
              prints it; for documentation: its minimum is the uniform distribution

  Equations 4.3-4.6. The printed formula lacks its minus sign and is unbounded below;
  "batch" is the repaired version. Its w rises as the predictions get better, from 2.83
  to 3.16 at K = 10, the reverse of what the text says; "intent" does not. The
  factors carry no gradient: if they did, at K = 2 the product would have the wrong
  gradient sign below p_y = 0.175.

  Warning: except for "example", alpha is a mean over the batch, so that an example's
  loss depends on its batch, padding included.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    reading: which of the thesis's statements is meant.
    ce_weight: the weight of cross-entropy.
    sce_weight: the weight of the weighted cross-entropy; 0 leaves `ce_weight` CE.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for an unknown reading or a
      negative weight.
  """
  errors.check_choice("reading", reading, SCE_READINGS)
  arguments.check_number("ce_weight", ce_weight, low=0)
  arguments.check_number("sce_weight", sce_weight, low=0)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  ce = cross_entropy(logits, targets)

  # Detached here; so are the factors alpha and w, which are computed from them.
  y, p = jax.lax.stop_gradient((targets, jax.nn.softmax(logits)))
  alpha = jnp.sum(jnp.square(y - p), axis=-1)
  if reading != "example":
    alpha = jnp.mean(alpha)
  if reading == "intent":
    wrong = (1.0 - y) * p
  else:
    wrong = 1.0 - y - p

  # A class masked by a logit of -inf is none.
  wrong = jnp.where(jnp.isneginf(logits), 0.0, wrong)
  base = ce
  if reading == "box":
    log_p = log_softmax(logits, targets)
    base = -jnp.sum(log_p, axis=-1) / math.log(10)

  return ce_weight * ce + sce_weight * alpha * jnp.linalg.norm(wrong, axis=-1) * base


def expectation(targets: Array, values: Array) -> Array:
  """`sum_k targets_k values_k` `(N,)`, where a class of probability 0 contributes 0.

  A class masked by a logit of -inf has a logarithm of -inf, and 0 * -inf is NaN.
  """
  return jnp.sum(jnp.where(targets == 0, 0.0, targets * values), axis=-1)


def log_softmax(logits: Array, targets: Array) -> Array:
  """`log softmax(logits)`, `(N, K)`, with 0 at masked classes that no target names.

  A class is masked by a logit of -inf. The losses weigh its logarithm with a target of
  0, but 0 * -inf is NaN, in values and in gradients. Where a masked class is the label
  its logarithm stays -inf: so does the loss not stay finite.
  """
  unused = jnp.isneginf(logits) & (targets == 0)
  return jnp.where(unused, 0.0, jax.nn.log_softmax(logits))


def log_one_minus_p(logits: Array) -> Array:
  """`log(1 - softmax(logits))`, `(N, K)`, exact where the probability rounds to 1.

  Only the largest probability of a row can exceed 1/2. Its complement is the sum of
  the others, taken as a logsumexp; for the rest `log1p(-p)` loses nothing. Where all
  others are masked by logits of -inf, it is -1e30 instead of -inf.
  """
  top = jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1], dtype=bool)
  rest = jnp.where(top, -jnp.inf, logits)
  alone = jnp.all(jnp.isneginf(rest), axis=-1, keepdims=True)
  others = jax.nn.logsumexp(
    jnp.where(alone, 0.0, rest), axis=-1, keepdims=True
  ) - jax.nn.logsumexp(logits, axis=-1, keepdims=True)
  others = jnp.where(alone, -1e30, others)

  # The inner `where` keeps the unused branch's infinite slope at p = 1 out of the
  # gradient.
  p = jnp.where(top, 0.0, jax.nn.softmax(logits))
  return jnp.where(top, others, jnp.log1p(-p))
