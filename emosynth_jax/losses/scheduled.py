"""Noise-robust losses with a schedule."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses.classification import cross_entropy
from emosynth_jax.utils import arguments


def mixed_cross_entropy(
  logits: ArrayLike,
  labels: ArrayLike,
  step: ArrayLike,
  *,
  total_steps: int,
  max_mix: float | Array = 0.5,
) -> Array:
  """Mixed cross-entropy: the label and, increasingly, the model's own prediction.

  With `yhat = argmax_k p_k`, held constant, and `a = max_mix step / total_steps`:

    loss_i = -(1 - a) log p_y - a log p_yhat

  Equation 2.7, which writes it for sequences.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    step: training steps done, a scalar.
    total_steps: steps of the whole training; later steps use the final mix.
    max_mix: the prediction's share at the end, in [0, 1].

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Li and Lu, `Mixed Cross Entropy Loss for Neural Machine Translation
    <https://arxiv.org/abs/2106.15880>`_, 2021
  """
  arguments.check_number("total_steps", total_steps, low=1)
  arguments.check_number("max_mix", max_mix, low=0, high=1)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  share = max_mix * jnp.minimum(_inputs.as_step(step) / total_steps, 1.0)
  predicted = jnp.argmax(logits, axis=-1)
  return (1.0 - share) * cross_entropy(logits, targets) + share * cross_entropy(
    logits, jax.nn.one_hot(predicted, logits.shape[-1], dtype=logits.dtype)
  )


def sample_ratio(
  step: ArrayLike, *, noise_rate: float | Array, warmup_steps: int
) -> Array:
  """The share of examples to keep: `1 - noise_rate min(step / warmup_steps, 1)`.

  From 1 down to `1 - noise_rate`. Equation 2.11; co-teaching warms up for 10 epochs.

  Args:
    step: training steps done, a scalar.
    noise_rate: the share of wrong labels, in [0, 1].
    warmup_steps: steps until the full share is dropped.

  Returns:
    A scalar in [0, 1].

  References:
    Han et al., `Co-teaching: Robust Training of Deep Neural Networks with Extremely
    Noisy Labels <https://arxiv.org/abs/1804.06872>`_, 2018
  """
  arguments.check_number("noise_rate", noise_rate, low=0, high=1)
  arguments.check_number("warmup_steps", warmup_steps, low=1)
  return 1.0 - noise_rate * jnp.minimum(_inputs.as_step(step) / warmup_steps, 1.0)


def small_loss_cross_entropy(
  logits: ArrayLike,
  labels: ArrayLike,
  step: ArrayLike,
  *,
  noise_rate: float | Array,
  warmup_steps: int,
) -> Array:
  """Cross-entropy of the batch's examples of smallest loss; 0 for the others.

  `R N` examples are kept, rounded down and at least one, with R the `sample_ratio`.
  The kept losses are multiplied by N / kept, so that the mean over the batch is the
  mean over them. An example's loss depends on its batch.

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    step: training steps done, a scalar.
    noise_rate: the share of wrong labels, in [0, 1].
    warmup_steps: steps until the full share is dropped.

  Returns:
    The loss of each example, `(N,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does.

  References:
    Han et al., `Co-teaching: Robust Training of Deep Neural Networks with Extremely
    Noisy Labels <https://arxiv.org/abs/1804.06872>`_, 2018
  """
  ratio = sample_ratio(step, noise_rate=noise_rate, warmup_steps=warmup_steps)
  losses = cross_entropy(logits, labels)
  n = losses.shape[0]
  # 0.8 * 5 is below 4 in float32.
  kept = jnp.maximum(jnp.floor(ratio * n + 1e-3), 1.0)
  rank = jnp.argsort(jnp.argsort(losses))
  # A product, not a `where`: a NaN sorts last, and must propagate.
  return losses * jax.lax.stop_gradient((rank < kept) * n / kept)
