"""Compiled programs of a run, bound to its data and devices."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from emosynth_jax.data import device_feed, run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.parallel.mesh import Placement
from emosynth_jax.training import build, optimizers, streaming
from emosynth_jax.training.eval_step import build_evaluation
from emosynth_jax.training.state import TrainState
from emosynth_jax.training.train_step import (
  StepSetup,
  compile_train_on_batches,
  compile_train_steps,
  epoch_order,
)


class Programs(NamedTuple):
  """Programs of the training loop.

  Attributes:
    data: the run's splits and their fingerprint.
    experiment: the run's functions.
    schedule: of the learning rate, or None.
    placement: the devices, and where arrays lie on them.
    place: places a state on the run's devices.
    take_steps: `(state, *, num_steps) -> state`, within an epoch.
    validate: `state -> summary`, see `classification.summarize`.
    steps_per_epoch: steps in an epoch.
    chunk: number of steps per call.
  """

  data: run_data.RunData
  experiment: build.Experiment
  schedule: Callable[[jax.Array], jax.Array] | None
  placement: Placement
  place: Callable[[TrainState], TrainState]
  take_steps: Callable[..., TrainState]
  validate: Callable[[TrainState], dict[str, Any]]
  steps_per_epoch: int
  chunk: int

  def steps_left(self, state: TrainState) -> int:
    """Returns the steps that the state's epoch still lacks."""
    return (int(state.epoch) + 1) * self.steps_per_epoch - int(state.step)


def build_programs(
  config: ml_collections.ConfigDict,
  placement: Placement,
  load: Callable[..., run_data.RunData],
) -> Programs:
  """Loads a run's data and builds its programs; each is compiled at its first call.

  Args:
    config: a checked config.
    placement: the run's.
    load: loads the data as `run_data.load_run` does, "train" and "validation" at least.

  Returns:
    The programs.

  Raises:
    ValueError: for settings that do not match the data or the devices, and as `load`.
  """
  data = load(placement)
  training, validation = data.datasets["train"], data.datasets["validation"]
  if config.batch_size > len(training):
    raise ValueError(
      f"config.batch_size: expected at most the {len(training):,} training images, got "
      f"{config.batch_size}"
    )

  placement.check_batch_size(config.batch_size)

  experiment = build.experiment_of(config, training)
  if config.progressive_resizing.epochs:
    build.check_resizing(
      experiment.model, config.progressive_resizing.side, training.image_shape
    )
  steps_per_epoch = len(training) // config.batch_size
  setup = build_setup(config, experiment, training, steps_per_epoch=steps_per_epoch)

  shardings = placement.state(build.state_shapes(experiment))
  chunk = chunk_length(steps_per_epoch, config.steps_per_call)
  take_steps: Callable[..., TrainState]
  if device_feed.is_resident(training, config.data, placement):
    program = compile_for_sizes(
      functools.partial(
        compile_train_steps,
        batch_size=config.batch_size,
        placement=placement,
        shardings=shardings,
      ),
      setup,
      config.progressive_resizing,
    )
    arrays = placement.put_split(training.images, training.targets)

    order = order_by_epoch(len(training), config.batch_size, placement)

    def take_steps(state, *, num_steps):
      return program(state, *arrays, order(state), num_steps=num_steps)
  else:
    most = device_feed.max_steps_per_call(training, config.batch_size, placement)
    chunk = chunk_length(steps_per_epoch, min(chunk, most))
    take_steps = streaming.StreamedSteps(
      training,
      compile_for_sizes(
        functools.partial(
          compile_train_on_batches, placement=placement, shardings=shardings
        ),
        setup,
        config.progressive_resizing,
      ),
      batch_size=config.batch_size,
      placement=placement,
    )

  evaluation = build_evaluation(
    experiment, config, placement, class_names=training.class_names
  )
  return Programs(
    data=data,
    experiment=experiment,
    schedule=setup.schedule,
    placement=placement,
    place=lambda state: placement.put(state, shardings),
    take_steps=take_steps,
    validate=evaluation(validation),
    steps_per_epoch=steps_per_epoch,
    chunk=chunk,
  )


def order_by_epoch(
  num_images: int, batch_size: int, placement: Placement
) -> Callable[[TrainState], jax.Array]:
  """Makes a function that keeps an epoch's `epoch_order` between calls.

  Args:
    num_images: M.
    batch_size: N.
    placement: of the states.

  Returns:
    `state -> order`, on all devices.
  """
  draw = jax.jit(
    functools.partial(epoch_order, num_images=num_images, batch_size=batch_size),
    out_shardings=placement.replicate,
  )
  kept: dict[tuple[int, bytes], jax.Array] = {}

  def order(state: TrainState) -> jax.Array:
    epoch = int(state.step) // (num_images // batch_size)
    drawn = (epoch, np.asarray(state.key).tobytes())
    if drawn not in kept:
      kept.clear()
      kept[drawn] = draw(state.key, state.step)
    return kept[drawn]

  return order


def compile_for_sizes(
  compile_steps: Callable[[StepSetup], Callable[..., TrainState]],
  setup: StepSetup,
  resizing: ml_collections.ConfigDict,
) -> Callable[..., TrainState]:
  """Makes a run's program; with progressive resizing, one for each size of its images.

  Args:
    compile_steps: `compile_train_steps` or `compile_train_on_batches`.
    setup: what all steps have in common, for images of full size.
    resizing: `config.progressive_resizing`.

  Returns:
    The program, or a function that calls the one of the state's epoch. Each compiles
    at its first call.
  """
  whole = compile_steps(setup)
  if not resizing.epochs:
    return whole
  resized = compile_steps(setup._replace(image_side=resizing.side))

  def take_steps(state: TrainState, *args: Any, **settings: Any) -> TrainState:
    program = resized if int(state.epoch) < resizing.epochs else whole
    return program(state, *args, **settings)

  return take_steps


def build_setup(
  config: ml_collections.ConfigDict,
  experiment: build.Experiment,
  training: Dataset,
  *,
  steps_per_epoch: int,
) -> StepSetup:
  """Collects what the steps of a run have in common.

  Args:
    config: a checked config.
    experiment: the run's functions.
    training: the training split.
    steps_per_epoch: steps in an epoch.

  Returns:
    What `train_step` takes.
  """
  return StepSetup.of(
    experiment,
    class_weights=run_data.class_weights(config.class_weights, training),
    class_counts=jnp.asarray(training.class_counts, jnp.int32),
    schedule=optimizers.build_schedule(
      **config.schedule, num_epochs=config.num_epochs, steps_per_epoch=steps_per_epoch
    ),
    ema_decay=config.ema_decay,
    batch_norm_groups=config.batch_norm_groups,
    matmul_precision=config.matmul_precision,
    sam_radius=config.sam.radius,
    sam_from_step=(config.sam.first_epoch - 1) * steps_per_epoch,
  )


def chunk_length(steps_per_epoch: int, steps_per_call: int) -> int:
  """Chooses the number of steps per program call.

  Args:
    steps_per_epoch: steps in an epoch.
    steps_per_call: the requested number; 0 for a whole epoch on accelerators and 10 on
      a CPU.

  Returns:
    The largest divisor of the epoch up to that number, so that one program suffices,
    unless only much smaller divisors exist.
  """
  if not steps_per_call:
    steps_per_call = 10 if jax.default_backend() == "cpu" else steps_per_epoch
  wanted = min(steps_per_call, steps_per_epoch)
  for length in range(wanted, wanted // 2, -1):
    if steps_per_epoch % length == 0:
      return length
  return wanted
