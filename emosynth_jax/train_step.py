"""One optimiser step, and a run of them as one compiled program."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from emosynth_jax import losses, models
from emosynth_jax.train_state import TrainState, update_ema

Array = jax.Array

# Numbers folded into the run's key so that no two uses share a stream.
_SHUFFLE, _STEP = 0, 1


def train_step(
  state: TrainState,
  images: Array,
  labels: Array,
  class_weights: Array,
  *,
  model: nn.Module,
  loss: Callable[..., Any],
  evaluation_logits: Callable[..., Array],
  optimizer: optax.GradientTransformation,
  augment: Callable[[Array, Array], Array],
  mixup: Callable[..., tuple[Array, Array]] | None,
  class_counts: Array | None = None,
  schedule: Callable[[Array], Array] | None = None,
  ema_decay: float = 0.0,
) -> TrainState:
  """Takes one step on one batch.

  A step whose loss or gradient is not finite changes nothing but the totals, where it
  is recorded: the state stays the last good one.

  Args:
    state: before the step.
    images: uint8 `(N, H, W, C)`.
    labels: int32 `(N,)`.
    class_weights: float32 `(K,)`; each example's loss is multiplied by its class's,
      or under mixup by the mean of its two classes', mixed as the labels are.
    model: the network.
    loss: a loss of `losses.get_loss`; it takes what it needs of all that a step has.
    evaluation_logits: that of `losses.get_evaluation_logits`; the accuracy counts
      what the network says without the loss's margin.
    optimizer: turns gradients into updates.
    augment: `(key, uint8 images) -> float32 images`, in pixels.
    mixup: `(key, images, one-hot labels) -> (images, label probabilities)`, or None.
    class_counts: int32 `(K,)`, training examples of each class, for losses that take
      them.
    schedule: the step to what multiplies the updates beside the plateau's scale, or
      None.
    ema_decay: that of `train_state.update_ema`, of effect where the state has
      averages.

  Returns:
    The state after the step.
  """
  key = jax.random.fold_in(jax.random.wrap_key_data(state.key), _STEP)
  augment_key, mixup_key, dropout_key = jax.random.split(
    jax.random.fold_in(key, state.step), 3
  )
  inputs, targets = augment(augment_key, images), labels
  example_weights = class_weights[labels]
  if mixup is not None:
    one_hot = jax.nn.one_hot(labels, class_weights.shape[0])
    inputs, targets = mixup(mixup_key, inputs, one_hot)
    example_weights = targets @ class_weights
  inputs = inputs * state.input_scale

  def mean_loss(params):
    (logits, out), updates = model.apply(
      {"params": params, "batch_stats": state.batch_stats},
      inputs,
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": dropout_key},
    )
    available = models.last_layer(params, logits, out)
    values, loss_state = losses.call_loss(
      loss,
      **available,
      labels=targets,
      class_counts=class_counts,
      step=state.step,
      state=state.loss_state,
    )
    logits = evaluation_logits(**losses.select_inputs(evaluation_logits, **available))
    batch_stats = updates.get("batch_stats", {})
    return jnp.mean(example_weights * values), (logits, batch_stats, loss_state)

  (value, (logits, batch_stats, loss_state)), gradients = jax.value_and_grad(
    mean_loss, has_aux=True
  )(state.params)
  gradient_norm = optax.tree.norm(gradients)
  finite = jnp.isfinite(value) & jnp.isfinite(gradient_norm)

  updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
  scale = state.plateau.scale
  if schedule is not None:
    scale = scale * schedule(state.step)
  updates = jax.tree.map(lambda u: u * scale, updates)
  params = optax.apply_updates(state.params, updates)
  ema = state.ema
  if ema is not None:
    variables = {"params": params, "batch_stats": batch_stats}
    ema = update_ema(ema, variables, decay=ema_decay, step=state.step)
  params, batch_stats, opt_state, loss_state, ema = jax.tree.map(
    lambda new, old: jnp.where(finite, new, old),
    (params, batch_stats, opt_state, loss_state, ema),
    (state.params, state.batch_stats, state.opt_state, state.loss_state, state.ema),
  )
  totals = dict(state.totals)
  first_bad = ~finite & (totals["bad_step"] < 0)
  totals |= {
    "loss": totals["loss"] + jnp.where(finite, value, 0),
    "gradient_norm": totals["gradient_norm"] + jnp.where(finite, gradient_norm, 0),
    "correct": totals["correct"] + jnp.sum(jnp.argmax(logits, -1) == labels),
    "count": totals["count"] + labels.shape[0],
    "steps": totals["steps"] + 1,
    "bad_step": jnp.where(first_bad, state.step, totals["bad_step"]),
    "bad_loss": jnp.where(first_bad, value, totals["bad_loss"]),
    "bad_gradient_norm": jnp.where(
      first_bad, gradient_norm, totals["bad_gradient_norm"]
    ),
  }
  return state.replace(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
    loss_state=loss_state,
    ema=ema,
    totals=totals,
  )


def train_steps(
  state: TrainState,
  images: Array,
  labels: Array,
  class_weights: Array,
  *,
  num_steps: int,
  batch_size: int,
  **step_arguments: Any,
) -> TrainState:
  """Takes `num_steps` steps of the epoch that `state.step` stands in.

  The whole split lies on the device. Each epoch draws its own order from the run's
  key; the last incomplete batch of an order is left out, so that over the epochs
  every image is used alike.

  Args:
    state: before the steps.
    images: uint8 `(M, H, W, C)`, all the training images.
    labels: int32 `(M,)`.
    class_weights: float32 `(K,)`.
    num_steps: how many steps; they must not pass the end of the epoch.
    batch_size: N.
    **step_arguments: those of `train_step`.

  Returns:
    The state after the steps.
  """
  steps_per_epoch = images.shape[0] // batch_size
  epoch, first = jnp.divmod(state.step, steps_per_epoch)
  key = jax.random.fold_in(jax.random.wrap_key_data(state.key), _SHUFFLE)
  order = jax.random.permutation(jax.random.fold_in(key, epoch), images.shape[0])

  def one_step(state, offset):
    start = (first + offset) * batch_size
    rows = lax.dynamic_slice(order, (start,), (batch_size,))
    state = train_step(
      state, images[rows], labels[rows], class_weights, **step_arguments
    )
    return state, None

  return lax.scan(one_step, state, jnp.arange(num_steps))[0]


def compile_train_steps(**arguments: Any) -> Callable[..., TrainState]:
  """`train_steps` with its plain arguments bound, jitted, its state donated.

  Args:
    **arguments: those of `train_steps` but the arrays and `num_steps`.

  Returns:
    `(state, images, labels, class_weights, *, num_steps) -> state`.
  """
  return jax.jit(
    functools.partial(train_steps, **arguments),
    static_argnames="num_steps",
    donate_argnames="state",
  )
