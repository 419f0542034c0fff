"""Training state, as one pytree."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

Array = jax.Array


class TrainState(flax.struct.PyTreeNode):
  """State of a training run, from which it resumes bit-exactly.

  Attributes:
    step: int32, number of optimizer steps.
    params: the network's parameters, float32.
    batch_stats: BatchNorm's running statistics, float32.
    opt_state: the optimizer's state.
    plateau: state of `optax.contrib.reduce_on_plateau`; its scale multiplies updates.
    key: raw data `(2,)` of the run's random key; it is constant; the keys of steps and
      epochs are derived from it and their index.
    input_scale: float32, factor from pixels to the network's input.
    totals: sums over the steps of the running epoch, see `zero_totals`.
    best_value: float32, best selection metric of the epochs done (the higher the
      better).
    best_epoch: int32, its epoch, counted from 1; 0 before the first.
    epoch: int32, epochs done, validation included.
    loss_state: state of the loss (such as class centers), or None.
    ema: exponential moving averages of `params` and `batch_stats` under these names,
      or None if disabled.
  """

  step: Array
  params: Any
  batch_stats: Any
  opt_state: Any
  plateau: Any
  key: Array
  input_scale: Array
  totals: dict[str, Array]
  best_value: Array
  best_epoch: Array
  epoch: Array
  loss_state: Any = None
  ema: Any = None

  @property
  def variables(self) -> dict[str, Any]:
    """The network's variables as `apply` takes them."""
    return {"params": self.params, "batch_stats": self.batch_stats}

  @property
  def evaluation_variables(self) -> dict[str, Any]:
    """The variables used in evaluation: the averages, if there are any."""
    return self.variables if self.ema is None else self.ema


def zero_totals() -> dict[str, Array]:
  """Totals of an epoch, all zero.

  Returns:
    "loss", "cross_entropy" and "gradient_norm" (float32 sums over steps), "correct"
    and "count" (int32 over examples), "steps" (int32), "bad_step" (int32: the first
    step with a non-finite loss or gradient, -1 for none) and "bad_loss",
    "bad_gradient_norm" (float32: that step's values).
  """
  return {
    "loss": jnp.float32(0),
    "cross_entropy": jnp.float32(0),
    "gradient_norm": jnp.float32(0),
    "correct": jnp.int32(0),
    "count": jnp.int32(0),
    "steps": jnp.int32(0),
    "bad_step": jnp.int32(-1),
    "bad_loss": jnp.float32(0),
    "bad_gradient_norm": jnp.float32(0),
  }


def create_train_state(
  key: Array,
  *,
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  plateau: optax.GradientTransformation,
  image_shape: tuple[int, int, int],
  input_scale: float,
  init_loss_state: Callable[[int], Any] = lambda dim: None,
  has_ema: bool = False,
) -> TrainState:
  """Initializes a run.

  Args:
    key: random key of the run.
    model: the network.
    optimizer: turns gradients into updates.
    plateau: the transformation that holds the learning rate's scale.
    image_shape: `(height, width, channels)`.
    input_scale: factor from pixels to the network's input.
    init_loss_state: function of the embedding's size to the loss's state (None for most
      losses).
    has_ema: whether the state has averages of the variables.

  Returns:
    The state before the first step.
  """
  init_key, run_key = jax.random.split(key)
  (_, out), variables = model.init_with_output(
    init_key, jnp.zeros((1, *image_shape)), train=False
  )
  params, batch_stats = variables["params"], variables.get("batch_stats", {})
  return TrainState(
    step=jnp.int32(0),
    params=params,
    batch_stats=batch_stats,
    opt_state=optimizer.init(params),
    plateau=plateau.init(params),
    key=jax.random.key_data(run_key),
    input_scale=jnp.float32(input_scale),
    totals=zero_totals(),
    best_value=jnp.float32(-jnp.inf),
    best_epoch=jnp.int32(0),
    epoch=jnp.int32(0),
    loss_state=init_loss_state(out["pre_logits"].shape[-1]),
    ema=copy_for_ema(params, batch_stats) if has_ema else None,
  )


def copy_for_ema(params: Any, batch_stats: Any) -> dict[str, Any]:
  """The averages before the first step: the variables themselves.

  Copies, since a step donates the state's arrays, each only once.
  """
  return jax.tree.map(jnp.copy, {"params": params, "batch_stats": batch_stats})


def update_ema(
  ema: dict[str, Any], variables: dict[str, Any], *, decay: float, step: Array
) -> dict[str, Any]:
  """One step of an exponential moving average.

    ema <- d ema + (1 - d) variables,  d = min(decay, (1 + step) / (10 + step))

  The smaller d of the first steps reduces the influence of the random initialization,
  which would otherwise keep a weight of decay^step for thousands of steps.

  Args:
    ema: the averages before.
    variables: the current values, of the same structure.
    decay: in [0, 1).
    step: int32 `()`, number of previous steps.

  Returns:
    The averages after.

  References:
    TensorFlow's `ExponentialMovingAverage` with `num_updates`, whose warm-up this is;
    Polyak and Juditsky, `Acceleration of Stochastic Approximation by Averaging
    <https://doi.org/10.1137/0330046>`_, 1992
  """
  share = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
  return jax.tree.map(lambda old, new: old + share * (new - old), ema, variables)
