"""Training step, and several steps as one compiled program."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from emosynth_jax import losses, models
from emosynth_jax.models.ops.batch_norm_groups import normalize_in_groups
from emosynth_jax.parallel.mesh import Placement, on_mesh
from emosynth_jax.training.state import TrainState, update_ema

Array = jax.Array

# Numbers folded into the run's key so that no two uses share a stream.
_SHUFFLE, _STEP = 0, 1


class Batch(NamedTuple):
  """Images and their labels.

  Attributes:
    images: uint8 `(N, H, W, C)`.
    labels: int32 `(N,)`, or class probabilities, float32 `(N, K)`.
  """

  images: Array
  labels: Array


class StepSetup(NamedTuple):
  """Functions and constants that all steps of a run share.

  Attributes:
    model: the network.
    loss: a loss of `losses.get_loss`; it takes the inputs that it needs.
    evaluation_logits: that of `losses.get_evaluation_logits`; the accuracy uses logits
      without the loss's margin.
    optimizer: turns gradients into updates.
    augment: `(key, uint8 images) -> float32 images`, in pixels.
    class_weights: float32 `(K,)`; each example's loss is multiplied by its class's, or
      with class probabilities (mixup makes them too) by the mean under them.
    mixup: `(key, images, class probabilities) -> (images, class probabilities)`, or
      None.
    class_counts: int32 `(K,)`, training examples of each class, for losses that take
      them.
    schedule: function of the step to a factor of the updates, in addition to the
      plateau's scale, or None.
    ema_decay: that of `state.update_ema`, used if the state has averages.
    batch_norm_groups: parts of the batch that BatchNorm normalizes separately, see
      `normalize_in_groups`.
    matmul_precision: "default", or another one of `jax.default_matmul_precision` for
      the network, its loss and their gradients.
    sam_radius: radius of sharpness-aware minimization, see `ascend`; 0 for none.
    sam_from_step: first step that takes it.
    image_side: side to which augmented images are resized, in pixels; 0 for none.
  """

  model: nn.Module
  loss: Callable[..., Any]
  evaluation_logits: Callable[..., Array]
  optimizer: optax.GradientTransformation
  augment: Callable[[Array, Array], Array]
  class_weights: Array | np.ndarray
  mixup: Callable[..., tuple[Array, Array]] | None = None
  class_counts: Array | None = None
  schedule: Callable[[Array], Array] | None = None
  ema_decay: float = 0.0
  batch_norm_groups: int = 1
  matmul_precision: str = "default"
  sam_radius: float = 0.0
  sam_from_step: int = 0
  image_side: int = 0

  @classmethod
  def of(cls, experiment: Any, **settings: Any) -> Self:
    """Collects an experiment's functions; `settings` are all other attributes.

    One that is also a function of the experiment, as `augment`, replaces it.
    """
    names = ("model", "loss", "evaluation_logits", "optimizer", "augment", "mixup")
    return cls(**{name: getattr(experiment, name) for name in names} | settings)


def train_step(state: TrainState, batch: Batch, *, setup: StepSetup) -> TrainState:
  """Takes one step on one batch.

  A step with a non-finite loss or gradient changes only the totals, where it is
  recorded: the state stays the last good one.

  Args:
    state: before the step.
    batch: the images and labels.
    setup: what all steps have in common.

  Returns:
    The state after the step.
  """
  inputs, targets, example_weights, dropout_key = _draw_once(
    functools.partial(_draw_inputs, setup=setup), state, batch
  )

  def mean_loss(params):
    values, logits, batch_stats, loss_state = _forward(
      params, state, inputs, targets, dropout_key, setup
    )
    return jnp.mean(example_weights * values), (logits, batch_stats, loss_state)

  with _precision(setup.matmul_precision):
    value, aux, gradients, gradient_norm, finite = _gradients(mean_loss, state, setup)
  logits, batch_stats, loss_state = aux

  # Without margin and class weights: comparable between losses.
  plain_loss = (
    optax.softmax_cross_entropy_with_integer_labels
    if targets.ndim == 1
    else optax.softmax_cross_entropy
  )
  cross_entropy = jnp.mean(plain_loss(logits, targets))

  params, opt_state, ema = _update(state, gradients, batch_stats, setup)
  params, batch_stats, opt_state, loss_state, ema = jax.tree.map(
    lambda new, old: jnp.where(finite, new, old),
    (params, batch_stats, opt_state, loss_state, ema),
    (state.params, state.batch_stats, state.opt_state, state.loss_state, state.ema),
  )

  new = state.replace(
    step=state.step + 1,
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
    loss_state=loss_state,
    ema=ema,
    totals=_add_to_totals(
      state,
      finite,
      value=value,
      cross_entropy=cross_entropy,
      gradient_norm=gradient_norm,
      correct=jnp.sum(jnp.argmax(logits, -1) == _classes(targets)),
      count=batch.labels.shape[0],
    ),
  )
  # Under JAX_ENABLE_X64 sums and float constants would turn into 64 bits.
  return jax.tree.map(lambda x, old: x.astype(old.dtype), new, state)


def _precision(name: str) -> AbstractContextManager[Any]:
  """Context of a precision; "default" keeps the one that is set, by JAX or the user."""
  return nullcontext() if name == "default" else jax.default_matmul_precision(name)


def _gradients(
  mean_loss: Callable[[Any], Any], state: TrainState, setup: StepSetup
) -> tuple[Array, Any, Any, Array, Array]:
  """The loss, what comes with it, the gradients, their norm, and if all are finite."""
  (value, aux), gradients = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
  gradient_norm = optax.tree.norm(gradients)
  finite = jnp.isfinite(value) & jnp.isfinite(gradient_norm)

  if setup.sam_radius:
    # A second pass; the statistics, the totals and the loss's state are the first's.
    gradient = jax.grad(lambda params: mean_loss(params)[0])
    gradients = lax.cond(
      state.step >= setup.sam_from_step,
      lambda: gradient(ascend(state.params, gradients, radius=setup.sam_radius)),
      lambda: gradients,
    )
    # The second gradient's norm is what is recorded if it is the one that failed.
    norm = optax.tree.norm(gradients)
    finite &= jnp.isfinite(norm)
    gradient_norm = jnp.where(jnp.isfinite(norm), gradient_norm, norm)

  return value, aux, gradients, gradient_norm, finite


def ascend(params: Any, gradients: Any, *, radius: float) -> Any:
  r"""The point of sharpness-aware minimization (SAM) at which its gradient is taken.

  The point of a ball around the parameters where the loss is largest to first order:

  .. math:: w + \hat\epsilon, \quad
    \hat\epsilon = \rho \nabla L(w) / \lVert \nabla L(w) \rVert_2

  The norm is over all parameters.

  Args:
    params: w.
    gradients: of the loss at w.
    radius: rho.

  Returns:
    A pytree as `params`.

  References:
    Foret et al., `Sharpness-Aware Minimization for Efficiently Improving Generalization
    <https://arxiv.org/abs/2010.01412>`_, 2021, equation 2;
    Zhou et al., `Sharpness-Aware Minimization Efficiently Selects Flatter Minima Late
    in Training <https://arxiv.org/abs/2410.10373>`_, 2024, for the last epochs alone
  """
  tiny = jnp.finfo(jnp.float32).tiny
  scale = radius / jnp.maximum(optax.tree.norm(gradients), tiny)
  return jax.tree.map(lambda w, g: w + scale * g, params, gradients)


def _draw_once(draw: Callable[..., Any], state: TrainState, batch: Batch) -> Any:
  """Computes `draw(state, batch)` once a step on a CPU.

  XLA's CPU compiler computes augmented images again for each of their uses, but not
  what a branch returns. On other platforms there is no branch.
  """

  def nothing(state, batch):
    return jax.tree.map(jnp.zeros_like, jax.eval_shape(draw, state, batch))

  def branch(state, batch):
    # Always true, which the compiler doesn't know.
    return lax.cond(state.step >= 0, draw, nothing, state, batch)

  return lax.platform_dependent(state, batch, cpu=branch, default=draw)


def _draw_inputs(
  state: TrainState, batch: Batch, setup: StepSetup
) -> tuple[Array, Array, Array, Array]:
  """The network's inputs, the targets, the examples' weights, and dropout's key."""
  key = jax.random.fold_in(jax.random.wrap_key_data(state.key), _STEP)
  augment_key, mixup_key, dropout_key = jax.random.split(
    jax.random.fold_in(key, state.step), 3
  )

  inputs, targets = setup.augment(augment_key, batch.images), batch.labels
  class_weights = jnp.asarray(setup.class_weights)
  if setup.mixup is not None:
    if targets.ndim == 1:
      targets = jax.nn.one_hot(targets, class_weights.shape[0])
    inputs, targets = setup.mixup(mixup_key, inputs, targets)

  if setup.image_side:
    shape = (len(inputs), setup.image_side, setup.image_side, inputs.shape[-1])
    inputs = jax.image.resize(inputs, shape, "linear", antialias=True)

  example_weights = (
    class_weights[targets] if targets.ndim == 1 else targets @ class_weights
  )
  return inputs * state.input_scale, targets, example_weights, dropout_key


def _classes(targets: Array) -> Array:
  """The labels, or the most probable classes, by which the accuracy is counted.

  Of an image that mixup made, the class with the larger share.
  """
  return targets if targets.ndim == 1 else jnp.argmax(targets, -1)


def _forward(
  params: Any,
  state: TrainState,
  inputs: Array,
  targets: Array,
  dropout_key: Array,
  setup: StepSetup,
) -> tuple[Array, Array, Any, Any]:
  """Each example's loss, the margin-free logits, and the new states they bring."""
  with normalize_in_groups(setup.batch_norm_groups):
    (logits, out), updates = setup.model.apply(
      {"params": params, "batch_stats": state.batch_stats},
      inputs,
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": dropout_key},
    )

  available = models.last_layer(params, logits, out)
  values, loss_state = losses.call_loss(
    setup.loss,
    **available,
    labels=targets,
    class_counts=setup.class_counts,
    step=state.step,
    state=state.loss_state,
  )
  logits = setup.evaluation_logits(
    **losses.select_inputs(setup.evaluation_logits, **available)
  )

  return values, logits, updates.get("batch_stats", {}), loss_state


def _update(
  state: TrainState, gradients: Any, batch_stats: Any, setup: StepSetup
) -> tuple[Any, Any, Any]:
  """The parameters, the optimizer's state and the averages after an update."""
  updates, opt_state = setup.optimizer.update(gradients, state.opt_state, state.params)
  scale = state.plateau.scale
  if setup.schedule is not None:
    scale = scale * setup.schedule(state.step)
  updates = jax.tree.map(lambda u: u * scale, updates)
  params = optax.apply_updates(state.params, updates)

  ema = state.ema
  if ema is not None:
    variables = {"params": params, "batch_stats": batch_stats}
    ema = update_ema(ema, variables, decay=setup.ema_decay, step=state.step)

  return params, opt_state, ema


def _add_to_totals(
  state: TrainState,
  finite: Array,
  *,
  value: Array,
  cross_entropy: Array,
  gradient_norm: Array,
  correct: Array,
  count: int,
) -> dict[str, Array]:
  """The epoch's totals with a step's added, or the first step that is not finite."""
  totals = dict(state.totals)
  first_bad = ~finite & (totals["bad_step"] < 0)
  return totals | {
    "loss": totals["loss"] + jnp.where(finite, value, 0),
    "cross_entropy": totals["cross_entropy"] + jnp.where(finite, cross_entropy, 0),
    "gradient_norm": totals["gradient_norm"] + jnp.where(finite, gradient_norm, 0),
    "correct": totals["correct"] + correct,
    "count": totals["count"] + count,
    "steps": totals["steps"] + 1,
    "bad_step": jnp.where(first_bad, state.step, totals["bad_step"]),
    "bad_loss": jnp.where(first_bad, value, totals["bad_loss"]),
    "bad_gradient_norm": jnp.where(
      first_bad, gradient_norm, totals["bad_gradient_norm"]
    ),
  }


def train_steps(
  state: TrainState,
  images: Array,
  labels: Array,
  order: Array | None = None,
  *,
  setup: StepSetup,
  num_steps: int,
  batch_size: int,
  batch_sharding: jax.sharding.NamedSharding | None = None,
  subset: Array | None = None,
) -> TrainState:
  """Takes `num_steps` steps within the current epoch of `state.step`.

  The whole split is on the device, or sharded over several. Each epoch draws its own
  order from the run's key; the last incomplete batch is dropped, so that over the
  epochs all images are used equally.

  Args:
    state: before the steps.
    images: uint8 `(M', H, W, C)`, all the training images; those from M on are never
      drawn (see `Placement.put_images`).
    labels: int32 `(M,)`, or class probabilities, float32 `(M, K)`.
    order: that of `epoch_order` in the step's epoch, for several calls in an epoch;
      None draws it.
    setup: what all steps have in common.
    num_steps: number of steps; they must not exceed the end of the epoch.
    batch_size: N.
    batch_sharding: sharding of a batch, see `Placement.batch`.
    subset: int32 `(S,)`, rows of the images that are drawn; None for all.

  Returns:
    The state after the steps.
  """
  num_images = labels.shape[0] if subset is None else subset.shape[0]
  first = state.step % (num_images // batch_size)
  if order is None:
    order = epoch_order(
      state.key, state.step, num_images=num_images, batch_size=batch_size
    )
  if subset is not None:
    order = subset[order]

  def one_step(state, offset):
    start = (first + offset) * batch_size
    rows = lax.dynamic_slice(order, (start,), (batch_size,))
    batch = images[rows]
    if batch_sharding is not None:
      # Each device gathers the batch from its own part of the split; the results are
      # summed, which is little communication compared with the gradients.
      batch = lax.with_sharding_constraint(batch, batch_sharding)
    return train_step(state, Batch(batch, labels[rows]), setup=setup), None

  return lax.scan(one_step, state, jnp.arange(num_steps))[0]


def train_on_batches(
  state: TrainState,
  images: Array,
  labels: Array,
  *,
  setup: StepSetup,
) -> TrainState:
  """Takes a step on each of some batches, as `train_steps` does on those it draws.

  Args:
    state: before the steps.
    images: uint8 `(T, N, H, W, C)`.
    labels: int32 `(T, N)`, or class probabilities, float32 `(T, N, K)`.
    setup: what all steps have in common.

  Returns:
    The state after T steps.
  """

  def one_step(state, batch):
    return train_step(state, batch, setup=setup), None

  return lax.scan(one_step, state, Batch(images, labels))[0]


def epoch_order(key: Array, step: Array, *, num_images: int, batch_size: int) -> Array:
  """Permutation of the images in the epoch of a step.

  Args:
    key: the run's, `TrainState.key`.
    step: int32 `()`, any step of the epoch.
    num_images: M.
    batch_size: N; an epoch has M / N steps, rounded down.

  Returns:
    int32 `(M,)`, a permutation.
  """
  epoch = step // (num_images // batch_size)
  shuffle = jax.random.fold_in(jax.random.wrap_key_data(key), _SHUFFLE)
  return jax.random.permutation(jax.random.fold_in(shuffle, epoch), num_images)


def compile_train_steps(
  setup: StepSetup,
  *,
  batch_size: int,
  placement: Placement | None = None,
  shardings: Any = None,
) -> Callable[..., TrainState]:
  """`train_steps` of a setup, jitted, its state donated.

  Args:
    setup: what all steps have in common.
    batch_size: N.
    placement: of the state and the images; None for the default device.
    shardings: of the state, see `Placement.state`; None keeps its placement.

  Returns:
    `(state, images, labels, order=None, *, num_steps) -> state`.
  """
  steps = functools.partial(
    train_steps,
    setup=setup,
    batch_size=batch_size,
    batch_sharding=None if placement is None else placement.batch,
  )
  return jax.jit(
    on_mesh(placement, steps),
    static_argnames="num_steps",
    donate_argnames="state",
    out_shardings=shardings,
  )


def compile_train_on_batches(
  setup: StepSetup, *, placement: Placement | None = None, shardings: Any = None
) -> Callable[..., TrainState]:
  """Compiles `train_on_batches`, as `compile_train_steps` does.

  Args:
    setup, placement, shardings: likewise.

  Returns:
    `(state, images, labels) -> state`.
  """
  return jax.jit(
    on_mesh(placement, functools.partial(train_on_batches, setup=setup)),
    donate_argnames="state",
    out_shardings=shardings,
  )
