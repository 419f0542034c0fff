"""The training loop: everything between the compiled programs and the disk."""

import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
from absl import logging

from emosynth_jax import epoch, fine_tune, optimizers, run_config
from emosynth_jax import experiment as experiments
from emosynth_jax.checkpoints import Checkpoints
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.evaluate import build_evaluate
from emosynth_jax.metric_writer import MetricWriter
from emosynth_jax.progress import Progress
from emosynth_jax.stop_signal import StopSignal
from emosynth_jax.train_state import TrainState
from emosynth_jax.train_step import compile_train_steps


def train(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  *,
  began: float | None = None,
) -> bool:
  """Trains, or goes on from the last checkpoint in `workdir`.

  Args:
    config: a checked config.
    workdir: where checkpoints and metrics go.
    began: `time.monotonic()` at the start of the process, for the log.

  Returns:
    Whether the training is at its end; False after SIGTERM or Ctrl-C, when a
    checkpoint of the moment is in `workdir`.

  Raises:
    NonFiniteError: at the first non-finite loss or gradient, or validation loss; the
      checkpoints hold the last good state of before.
    ValueError: for a config or data that do not fit those `workdir` was begun with, or
      if another process trains in it.
  """
  began = time.monotonic() if began is None else began
  with run_config.only_training_in(workdir):
    return _train(config, pathlib.Path(workdir), began)


def _train(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, began: float
) -> bool:
  run_config.check_same_config(config, workdir)
  # The test split too: what is wrong with it is better said now than after training.
  datasets = experiments.load_data(config, experiments.splits(config))
  run_config.check_same_data(datasets, workdir)
  run = _build_run(config, datasets["train"], datasets["validation"])
  steps_per_epoch = run.steps_per_epoch
  chunk = chunk_length(steps_per_epoch, config.steps_per_call)

  writer = open_writer(workdir, tensorboard=config.tensorboard)
  checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
  try:
    state = _restore_or_create(
      config, workdir, run.experiment, checkpoints, datasets["train"].class_names
    )
    checkpoints.rewind(int(state.step))
    writer.rewind(int(state.step))
    progress = Progress(
      first=int(state.step), total=config.num_epochs * steps_per_epoch
    )
    saved = time.monotonic()
    first_call = True
    epoch_began = time.monotonic()

    with StopSignal() as stop:
      while not epoch.is_finished(state, config):
        done = int(state.step) - int(state.epoch) * steps_per_epoch
        if done < steps_per_epoch:
          if done == 0:
            epoch_began = time.monotonic()
            state = epoch.begin(state, config)
          count = min(chunk, steps_per_epoch - done)
          state = run.take_steps(state, num_steps=count)
          epoch.raise_if_not_finite(state, config, workdir, schedule=run.schedule)
          done += count
          if first_call:
            first_call = False
            # Not before: settings that fail at once have begun nothing.
            run_config.keep_config(config, workdir)
            run_config.keep_fingerprint(datasets, workdir)
            run_config.keep_provenance(workdir, step=int(state.step) - count)
            logging.info(
              "First %d training steps done %.1f s after the start.",
              count,
              time.monotonic() - began,
            )
          progress.update(
            int(state.step),
            f"epoch {int(state.epoch) + 1}/{config.num_epochs} "
            f"step {done}/{steps_per_epoch} loss "
            f"{float(state.totals['loss']) / int(state.totals['steps']):.4f}",
            images_per_unit=config.batch_size,
          )
        if done == steps_per_epoch:
          summary = run.validate(state)
          epoch.raise_if_not_finite(
            state, config, workdir, summary["loss"], schedule=run.schedule
          )
          state, record = epoch.end(
            state, summary, config, run.experiment.plateau, run.schedule
          )
          is_best = int(state.best_epoch) == int(state.epoch)
          if is_best:
            checkpoints.save("best", state)
          writer.write(int(state.step), record)
          writer.write_timing(
            int(state.step), {"seconds": time.monotonic() - epoch_began}
          )
          checkpoints.save("last", state)
          saved = time.monotonic()
          epoch.log(record, is_best=is_best)
        elif stop.name or time.monotonic() - saved > 60 * config.checkpoint.minutes:
          checkpoints.save("last", state)
          saved = time.monotonic()
        if stop.name:
          checkpoints.wait()
          logging.info(
            "Stopped by %s at step %d; the same command goes on from there.",
            stop.name,
            state.step,
          )
          return False
  finally:
    checkpoints.close()
    writer.close()
  return True


class _Run(NamedTuple):
  """A run's programs, with the data that they run on."""

  experiment: experiments.Experiment
  schedule: Callable[[jax.Array], jax.Array] | None
  take_steps: Callable[..., TrainState]
  validate: Callable[[TrainState], dict[str, Any]]
  steps_per_epoch: int


def _build_run(
  config: ml_collections.ConfigDict, training: Dataset, validation: Dataset
) -> _Run:
  """Nothing is compiled before its first call."""
  if config.batch_size > len(training):
    raise ValueError(
      f"config.batch_size: expected at most the {len(training)} training images, got "
      f"{config.batch_size}"
    )
  experiment = experiments.build_experiment(
    config,
    image_shape=training.images.shape[1:],
    num_classes=len(training.class_names),
  )
  steps_per_epoch = len(training) // config.batch_size
  schedule = optimizers.build_schedule(
    **config.schedule, num_epochs=config.num_epochs, steps_per_epoch=steps_per_epoch
  )
  weights = jnp.asarray(experiments.class_weights(config.class_weights, training))
  train_steps = compile_train_steps(
    model=experiment.model,
    loss=experiment.loss,
    evaluation_logits=experiment.evaluation_logits,
    class_counts=jnp.asarray(training.class_counts, jnp.int32),
    optimizer=experiment.optimizer,
    augment=experiment.augment,
    mixup=experiment.mixup,
    schedule=schedule,
    ema_decay=config.ema_decay,
    batch_size=config.batch_size,
  )
  evaluate = build_evaluate(
    experiment,
    class_names=training.class_names,
    batch_size=config.eval_batch_size,
  )
  train_arrays = experiments.on_device(training)
  validation_arrays = experiments.on_device(validation)
  return _Run(
    experiment=experiment,
    schedule=schedule,
    take_steps=lambda state, num_steps: train_steps(
      state, *train_arrays, weights, num_steps=num_steps
    ),
    validate=lambda state: evaluate(state, *validation_arrays),
    steps_per_epoch=steps_per_epoch,
  )


def _restore_or_create(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  experiment: experiments.Experiment,
  checkpoints: Checkpoints,
  class_names: tuple[str, ...],
) -> TrainState:
  """The state to go on from."""
  state = checkpoints.restore("last", experiments.state_shapes(experiment))
  if state is not None:
    logging.info("Resuming from step %d in %s.", state.step, workdir)
    return state
  state = experiments.create_state(experiment, config.seed)
  if config.init_from:
    state = fine_tune.init_from(
      config.init_from, state, class_names=class_names, model=config.model.to_dict()
    )
  if config.pretrained.file:
    state = fine_tune.start_from_file(
      config.pretrained.file, state, model=experiment.model, keep=config.pretrained.keep
    )
  return state


def open_writer(workdir: pathlib.Path, *, tensorboard: bool) -> MetricWriter:
  """The run's records; TensorBoard's events are done without where they can't be."""
  try:
    return MetricWriter(workdir, tensorboard=tensorboard)
  except ModuleNotFoundError as error:
    logging.warning("%s. The run goes on without them.", error)
    return MetricWriter(workdir)


def chunk_length(steps_per_epoch: int, steps_per_call: int) -> int:
  """How many steps run as one program.

  Args:
    steps_per_epoch: steps in an epoch.
    steps_per_call: the wanted number; 0 for a whole epoch on accelerators and 10 on
      a CPU.

  Returns:
    The largest divisor of the epoch up to that number, so that a single program
    serves, unless all but much smaller ones are ruled out.
  """
  if not steps_per_call:
    steps_per_call = 10 if jax.default_backend() == "cpu" else steps_per_epoch
  wanted = min(steps_per_call, steps_per_epoch)
  for length in range(wanted, wanted // 2, -1):
    if steps_per_epoch % length == 0:
      return length
  return wanted
