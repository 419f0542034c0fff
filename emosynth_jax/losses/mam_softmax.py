"""MAM-SoftMax: cross-entropy with a margin computed from each example's logits.

The thesis states the margin M twice (equations 4.14-4.16 and the box of figure 4.1),
the two contradict each other, and neither works as printed: an ArgMax, an index,
where only Max has the unit of a logit; a sum over the batch, so that M grows with
the batch size; the clip after the logarithm in one and before it in the other;
ln against log10; the mean added after the clip, which breaks 0 <= M <= 4; "j = i"
in the box for j != i. It calls M learnable, but dL/dM = 1 - p_y > 0, so a margin
trained by gradient falls to its lower bound; and larger for rare classes, but no
class count enters.

Therefore the formula of the margin is a function, chosen by name or passed: logits
`(N, K)` in, margins `(N,)` out. Two readings need more than logits, the class counts or
a running mean, and are separate losses.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses._inputs import under_margin
from emosynth_jax.losses.classification import cross_entropy
from emosynth_jax.utils import arguments, errors

# The margin's upper bound and the constant under its logarithm, of both statements.
MAX_MARGIN = 4.0
EPSILON = 0.2


def _clipped_log(x: Array) -> Array:
  """`clip(ln x, 0, 4)`, computed without the logarithm of a number below 1."""
  return jnp.log(jnp.clip(x, 1.0, jnp.exp(MAX_MARGIN)))


def _mean(logits: Array) -> Array:
  """The mean logit `(N,)` of the classes that no logit of -inf masks."""
  present = ~jnp.isneginf(logits)
  return jnp.mean(logits, axis=-1, where=present)


def _centered(logits: Array) -> Array:
  return logits - _mean(logits)[:, None]


def centered_max(logits: Array) -> Array:
  """`M = stop_gradient(clip(ln(max_k(z_k - mean z) + 0.2), 0, 4))`, the default.

  It is independent of the label, invariant to a constant added to the logits and to a
  permutation of the classes, and 0 for constant logits.
  """
  margin = _clipped_log(jnp.max(_centered(logits), axis=-1) + EPSILON)
  return jax.lax.stop_gradient(margin)


def printed_max(logits: Array) -> Array:
  """`M = clip(ln(max_k z_k + 0.2), 0, 4) + mean_k z_k`: 4.14 with Max for ArgMax.

  Below 0 for a fifth of standard normal logits. It has a trivial minimum, which its
  gradient leads to: logits all shifted by -20 have a loss of about 0.
  """
  return _clipped_log(jnp.max(logits, axis=-1) + EPSILON) + _mean(logits)


def printed_argmax(logits: Array) -> Array:
  """`M = clip(ln(sum_i argmax_k z_ik + 0.2), 0, 4) + mean_k z_k`: 4.14 as printed.

  Kept for documentation. The logarithm is of a sum of class indices over the batch: M
  is nearly always 4, and depends on the batch and on the order of the classes.
  """
  total = jnp.sum(jnp.argmax(logits, axis=-1)).astype(logits.dtype)
  return _clipped_log(total + EPSILON) + _mean(logits)


def box_repaired(logits: Array) -> Array:
  """The box of figure 4.1, made finite, with `x = z - mean z`:

  M = stop_gradient(clip(ln mean_k e^x_k + log10 clip(max_k x_k + 0.2, 1, 4), 0, 4))
  """
  x = _centered(logits)
  log_mean_exp = jax.nn.logsumexp(x, axis=-1) - jnp.log(
    jnp.sum(~jnp.isneginf(logits), axis=-1)
  )
  clipped = jnp.clip(jnp.max(x, axis=-1) + EPSILON, 1.0, MAX_MARGIN)
  return jax.lax.stop_gradient(
    jnp.clip(log_mean_exp + jnp.log10(clipped), 0.0, MAX_MARGIN)
  )


MARGIN_FNS: dict[str, Callable[[Array], Array]] = {
  "box_repaired": box_repaired,
  "centered_max": centered_max,
  "printed_argmax": printed_argmax,
  "printed_max": printed_max,
}


def mam_softmax_logits(
  logits: ArrayLike,
  labels: ArrayLike,
  *,
  margin_fn: str | Callable[[Array], Array] = "centered_max",
  kappa: float | Array = 1.0,
) -> Array:
  """MAM-SoftMax: `z - M y` with `M_i = kappa margin_fn(z_i)`.

  The label's logit has to exceed the others by M_i more. For class probabilities, each
  class is reduced by its share of the margin, `M_i y_ik`. Passing probabilities instead
  of logits cannot be detected: their maximum exceeds their mean by less than 1, and the
  margin vanishes. Equations 4.14-4.16; the module's docstring lists their errors.

  On 7 classes `centered_max` and `box_repaired` trained with kappa 0.5 to 2, as
  cross-entropy did and with no better accuracy; the `printed_*` formulas collapse
  (docs/results/ablations.md).

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    margin_fn: a key of `MARGIN_FNS`, or a function from logits `(N, K)` in float32
      to margins `(N,)`. Its gradient is used unless it stops it.
    kappa: the margin's factor, at least 0; 0 leaves the logits alone.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, for an unknown name, margins of
      another shape, or a negative kappa.
  """
  if not callable(margin_fn):
    errors.check_choice("margin_fn", margin_fn, MARGIN_FNS)
    margin_fn = MARGIN_FNS[margin_fn]

  arguments.check_number("kappa", kappa, low=0)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  margins = jnp.asarray(margin_fn(logits))
  if margins.shape != logits.shape[:1]:
    raise ValueError(
      f"margin_fn: expected margins of shape {logits.shape[:1]} for logits of shape "
      f"{logits.shape}, got {margins.shape}"
    )

  return logits - (kappa * margins)[:, None] * targets


def mam_softmax_class_count_logits(
  logits: ArrayLike,
  labels: ArrayLike,
  class_counts: ArrayLike,
  *,
  kappa: float | Array = 1.0,
  count_power: float | Array = 0.25,
) -> Array:
  """MAM-SoftMax with larger margins for rare classes, as the thesis's text describes.

    M_i = clip(kappa (max_k n_k / n_y)^count_power centered_max_i, 0, 4)

  This project's interpretation: no class count enters the thesis's formulas. An empty
  class counts as one example. On 7 classes kappa 0.5 to 2 trained, with no better
  accuracy than cross-entropy (docs/results/ablations.md).

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`, or class probabilities, floating `(N, K)`.
    class_counts: training examples of each class, `(K,)`.
    kappa: the margin's factor, at least 0; 0 leaves the logits alone.
    count_power: exponent of the class ratio; 0 is `centered_max`.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for counts of another shape.
  """
  arguments.check_number("kappa", kappa, low=0)
  arguments.check_number("count_power", count_power, low=0)
  logits, targets = _inputs.as_logits_and_targets(logits, labels)
  counts = _inputs.as_class_counts(class_counts, logits.shape[-1])
  rarity = (jnp.max(counts) / counts) ** count_power
  margins = kappa * rarity[None, :] * centered_max(logits)[:, None]
  return logits - jnp.clip(margins, 0.0, MAX_MARGIN) * targets


def mam_softmax_class_ema_logits(
  logits: ArrayLike,
  labels: ArrayLike,
  state: ArrayLike,
  *,
  kappa: float | Array = 1.0,
  decay: float | Array = 0.9,
) -> tuple[Array, Array]:
  """MAM-SoftMax with one margin for each class, a running mean over batches.

  With `x = z - mean z` and the examples i of class k in the batch:

    M_k <- decay M_k + (1 - decay) clip(ln(max_{i: y_i = k} max_j x_ij + 0.2), 0, 4)

  A class that is not in the batch keeps its margin. The new margins are used, without
  gradient. A reading of "depends on the class distribution": the maximum of more
  examples is larger, so that rare classes get SMALLER margins, and an example's loss
  depends on its batch. On 7 classes kappa 0.5 to 2 trained, with no better accuracy
  than cross-entropy (docs/results/ablations.md).

  Args:
    logits: unnormalized log-probabilities, floating `(N, K)`.
    labels: classes, integer `(N,)`.
    state: the margins `(K,)`, zeros at first; see `mam_softmax_class_ema_state`.
    kappa: the margin's factor, at least 0; 0 leaves the logits alone.
    decay: decay of the running mean, in [0, 1].

  Returns:
    Logits `(N, K)` and the new margins `(K,)`.

  Raises:
    TypeError, ValueError: as `cross_entropy` does, and for a state of another shape.
  """
  arguments.check_number("kappa", kappa, low=0)
  arguments.check_number("decay", decay, low=0, high=1)
  logits = _inputs.as_logits(logits)
  state = _inputs.as_state("margins", state, logits.shape[1:])
  is_label = _inputs.as_mask(labels, logits)
  tops = jnp.max(_centered(logits), axis=-1)[:, None]
  of_class = _clipped_log(
    jnp.max(jnp.where(is_label, tops, -jnp.inf), axis=0) + EPSILON
  )
  moved = decay * state + (1.0 - decay) * of_class
  new_state = jnp.where(jnp.any(is_label, axis=0), moved, state)
  new_state = jax.lax.stop_gradient(new_state.astype(state.dtype))
  margins = (kappa * new_state)[None, :]
  return jnp.where(is_label, logits - margins, logits), new_state


def mam_softmax_class_ema_state(num_classes: int, dim: int) -> Array:
  """The margins before the first step: zeros `(num_classes,)`; `dim` is not used."""
  del dim
  return jnp.zeros(num_classes, jnp.float32)


mam_softmax = under_margin(mam_softmax_logits, cross_entropy, "mam_softmax")
mam_softmax_class_count = under_margin(
  mam_softmax_class_count_logits, cross_entropy, "mam_softmax_class_count"
)
mam_softmax_class_ema = under_margin(
  mam_softmax_class_ema_logits, cross_entropy, "mam_softmax_class_ema"
)
