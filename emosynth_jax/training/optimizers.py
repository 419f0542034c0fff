"""Optimizers and learning rate schedules."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from emosynth_jax.utils import errors

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")

# A patience that no run reaches, since optax cannot disable the plateau decay.
_NEVER = 2**31 - 1


def build_optimizer(
  *,
  learning_rate: float,
  name: str = "adam",
  b1: float = 0.9,
  b2: float = 0.999,
  momentum: float = 0.9,
  weight_decay: float = 0.0,
  gradient_clip: float = 0.0,
  base_fan_in: int = 0,
) -> optax.GradientTransformation:
  """Builds an optimizer with optional gradient clipping.

  "adam" is that of Kingma and Ba. "adamw" also subtracts `learning_rate *
  weight_decay * w` at each step. "sgd" has Nesterov momentum and adds the decay to the
  gradient, as is common in published recipes:

    g <- g + weight_decay w,  m <- momentum m + g,
    w <- w - learning_rate (g + momentum m)

  Weight decay applies to kernels only, not to biases and BatchNorm's scales.

  Args:
    learning_rate: step size before any schedule or decay.
    name: one of `OPTIMIZERS`.
    b1: decay of the first moment, of Adam and AdamW.
    b2: decay of the second moment, likewise.
    momentum: decay of SGD's momentum; 0 for plain SGD.
    weight_decay: of AdamW and SGD; scaled by fan-in as the other updates.
    gradient_clip: largest global norm of the gradient, without the decay; 0 for no
      limit.
    base_fan_in: fan-in above which a kernel's updates shrink, see `scale_by_fan_in`;
      0 for no such scaling.

  Returns:
    The transformation from gradients to updates.

  Raises:
    ValueError: for an unknown name, or a decay that Adam would not apply.

  References:
    Kingma and Ba, `Adam <https://arxiv.org/abs/1412.6980>`_, 2015;
    Loshchilov and Hutter, `Decoupled Weight Decay Regularization
    <https://arxiv.org/abs/1711.05101>`_, 2019;
    Sutskever et al., `On the importance of initialization and momentum in deep
    learning <https://proceedings.mlr.press/v28/sutskever13.html>`_, 2013
  """
  errors.check_choice("optimizer.name", name, OPTIMIZERS)
  if name == "adam":
    if weight_decay:
      raise ValueError(
        f'optimizer.weight_decay: expected 0 for "adam", got {weight_decay}; use '
        '"adamw"'
      )
    optimizer = optax.adam(learning_rate, b1=b1, b2=b2)
  elif name == "adamw":
    optimizer = optax.adamw(
      learning_rate, b1=b1, b2=b2, weight_decay=weight_decay, mask=is_kernel
    )
  else:
    optimizer = optax.chain(
      optax.add_decayed_weights(weight_decay, mask=is_kernel),
      optax.sgd(learning_rate, momentum=momentum, nesterov=True),
    )

  if base_fan_in:
    optimizer = optax.chain(optimizer, scale_by_fan_in(base_fan_in))
  if gradient_clip:
    return optax.chain(optax.clip_by_global_norm(gradient_clip), optimizer)

  return optimizer


def scale_by_fan_in(base: int) -> optax.GradientTransformation:
  """Multiplies the updates of each kernel by `min(1, base / fan-in)`.

  A kernel's fan-in is its number of inputs to one output: all axes but the last. One
  step of Adam changes every weight by about the learning rate, all in the direction of
  their inputs, and thus an output by the rate times the fan-in. EmoSynthNet's first
  dense layer has a fan-in of 147,456 at 48x48: at a rate that suits its convolutions,
  that layer diverges.

  Args:
    base: the largest fan-in whose updates are unchanged, at least 1.

  Returns:
    The transformation, without state.

  References:
    Yang et al., `Tensor Programs V: Tuning Large Neural Networks via Zero-Shot
    Hyperparameter Transfer <https://arxiv.org/abs/2203.03466>`_, 2022, table 3
  """

  def scale(update, kernel):
    fan_in = math.prod(update.shape[:-1])
    return update * min(1.0, base / fan_in) if kernel else update

  return optax.stateless(
    lambda updates, params: jax.tree.map(scale, updates, is_kernel(updates))
  )


def is_kernel(params: optax.Params) -> optax.Params:
  """Marks kernels, by their name: the tree with a bool for each array."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: path[-1] == jax.tree_util.DictKey("kernel"), params
  )


def build_schedule(
  *,
  num_epochs: int,
  steps_per_epoch: int,
  name: str = "constant",
  warmup_epochs: float = 0.0,
  final_scale: float = 0.0,
) -> Callable[[jax.Array], jax.Array] | None:
  r"""Builds the learning rate schedule, as a factor at each step.

  With W steps of warm-up, step t of T, counted from 0, has :math:`(t + 1) / W` for
  t < W, so that no step has a rate of 0; then "constant" has 1, and "cosine", with the
  final scale f,

  .. math:: f + (1 - f) (1 + \cos(\pi (t - W) / (T - W))) / 2

  It is a function of the step alone, so that a resumed run continues it exactly.

  Args:
    num_epochs: epochs of the whole run, over which the cosine decays.
    steps_per_epoch: steps in an epoch.
    name: one of `SCHEDULES`.
    warmup_epochs: epochs of warm-up, not necessarily whole ones; half an epoch at most
      where the run has one epoch.
    final_scale: where the cosine ends.

  Returns:
    A function of the step to the scale, float32; None if that is always 1.

  Raises:
    ValueError: for an unknown name, or if the warm-up is not shorter than the run.

  References:
    Loshchilov and Hutter, `SGDR <https://arxiv.org/abs/1608.03983>`_, 2017, of one
    period
  """
  errors.check_choice("schedule.name", name, SCHEDULES)
  total = num_epochs * steps_per_epoch
  warmup = round(warmup_epochs * steps_per_epoch)
  if num_epochs == 1:
    warmup = min(warmup, total // 2)
  elif warmup >= total:
    raise ValueError(
      f"schedule.warmup_epochs: expected fewer than the {num_epochs} epochs of the "
      f"run, got {warmup_epochs}"
    )

  if name == "constant" and not warmup:
    return None

  def schedule(step: jax.Array) -> jax.Array:
    rising = jnp.minimum(1.0, (step + 1) / max(warmup, 1))
    if name == "constant":
      return rising
    share = jnp.clip((step - warmup) / (total - warmup), 0.0, 1.0)
    falling = (1 + jnp.cos(math.pi * share)) / 2
    return rising * (final_scale + (1 - final_scale) * falling)

  return schedule


def build_plateau(
  *,
  factor: float,
  patience: int,
  min_improvement: float,
  min_scale: float,
  evaluate_every: int = 1,
) -> optax.GradientTransformationExtraArgs:
  """Decay of the learning rate when the validation loss stops decreasing.

  The state's `scale` multiplies the updates of every step; `update_plateau` feeds it
  once a validation.

  Args:
    factor: factor of each decay.
    patience: epochs without improvement before a decay; 0 disables it.
    min_improvement: share of the best loss that counts as an improvement.
    min_scale: minimum of the scale.
    evaluate_every: epochs between validations; the patience is rounded up to them.

  Returns:
    The transformation.
  """
  return optax.contrib.reduce_on_plateau(
    factor=factor,
    patience=math.ceil(patience / evaluate_every) or _NEVER,
    rtol=min_improvement,
    min_scale=min_scale,
  )


@functools.partial(jax.jit, static_argnums=0)
def update_plateau(
  plateau: optax.GradientTransformationExtraArgs,
  state: optax.OptState,
  validation_loss: jax.Array | float,
) -> optax.OptState:
  """The plateau's state after a validation.

  Compiled once: outside of `jit`, optax's `lax.cond` would be compiled at each call.

  Args:
    plateau: as `build_plateau` makes it.
    state: its state before.
    validation_loss: its loss.

  Returns:
    The state whose `scale` the next epoch's updates are multiplied by.
  """
  _, state = plateau.update({}, state, value=validation_loss)
  return state
