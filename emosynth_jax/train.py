"""The training loop: everything between the compiled programs and the disk."""

import contextlib
import os
import pathlib
import signal
import time
from collections.abc import Sequence
from typing import Any

import jax
import ml_collections
from absl import logging

from emosynth_jax import distributed, epoch, feeds, fine_tune, lost_contact, run_config
from emosynth_jax import experiment as experiments
from emosynth_jax import mesh as meshes
from emosynth_jax.checkpoints import Checkpoints
from emosynth_jax.metric_writer import MetricWriter
from emosynth_jax.programs import build_programs
from emosynth_jax.progress import Progress
from emosynth_jax.stop_signal import StopSignal
from emosynth_jax.train_state import TrainState


def train(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  *,
  began: float | None = None,
  devices: Sequence[Any] | None = None,
  stop: StopSignal | None = None,
) -> bool:
  """Trains, or goes on from the last checkpoint in `workdir`.

  In a job of several processes all of them call it alike; the first one writes.

  Args:
    config: a checked config.
    workdir: where checkpoints and metrics go.
    began: `time.monotonic()` at the start of the process, for the log.
    devices: those to train on, all by default.
    stop: an entered one of the caller's, where several trainings share it.

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
  workdir = pathlib.Path(workdir)
  distributed.check_same(config.to_json(), "the config")
  distributed.check_shared_folder(workdir)
  with contextlib.ExitStack() as stack:
    stack.enter_context(distributed.held_by_first(run_config.only_training_in(workdir)))
    stop = stack.enter_context(StopSignal()) if stop is None else stop
    return _train(config, workdir, began, devices, stop)


def _train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  began: float,
  devices: Sequence[Any] | None,
  stop: StopSignal,
) -> bool:
  run_config.check_same_config(config, workdir)
  mesh = meshes.build_mesh(config.mesh.model, devices)
  # The test split too: what is wrong with it is better said now than after training.
  datasets = {
    name: feeds.fetch(dataset, config.data, mesh)
    for name, dataset in experiments.load_data(
      config, experiments.splits(config), lazily=True
    ).items()
  }
  run_config.check_same_data(datasets, workdir)
  run = build_programs(config, datasets, mesh)
  steps_per_epoch = run.steps_per_epoch

  writer = open_writer(workdir, tensorboard=config.tensorboard)
  checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
  is_lost = False
  try:
    state = _restore_or_create(
      config, workdir, run.experiment, checkpoints, datasets["train"].class_names
    )
    state = run.place(state)
    checkpoints.rewind(int(state.step))
    if writer is not None:
      writer.rewind(int(state.step))
    progress = Progress(
      first=int(state.step), total=config.num_epochs * steps_per_epoch
    )
    saved = time.monotonic()
    first_call = True
    last_epoch_ended = time.monotonic()

    while not epoch.is_finished(state, config):
      done = int(state.step) - int(state.epoch) * steps_per_epoch
      if done < steps_per_epoch:
        if done == 0:
          state = run.place(epoch.begin(state, config))
        count = min(run.chunk, steps_per_epoch - done)
        state = run.take_steps(state, num_steps=count)
        epoch.raise_if_not_finite(state, config, workdir, schedule=run.schedule)
        done += count
        if first_call:
          first_call = False
          # Not before: settings that fail at once have begun nothing.
          run_config.keep_fingerprint(datasets, workdir)
          if distributed.is_first():
            run_config.keep_config(config, workdir)
            run_config.keep_provenance(
              workdir, step=int(state.step) - count, devices=list(mesh.devices.flat)
            )
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
      # A stop, and the time for a save, are all processes' if they are one's.
      is_late = time.monotonic() - saved > 60 * config.checkpoint.minutes
      stop_number, is_late = distributed.largest(stop.number, is_late)
      if done == steps_per_epoch:
        summary = run.validate(state)
        epoch.raise_if_not_finite(
          state, config, workdir, summary["loss"], schedule=run.schedule
        )
        state, record = epoch.end(
          state, summary, config, run.experiment.plateau, run.schedule
        )
        state = run.place(state)
        is_best = int(state.best_epoch) == int(state.epoch)
        if is_best:
          checkpoints.save("best", state)
        if writer is not None:
          writer.write(int(state.step), record)
          # With the saves before it: the epochs' seconds add up to the run's.
          now = time.monotonic()
          writer.write_timing(int(state.step), {"seconds": now - last_epoch_ended})
          last_epoch_ended = now
        checkpoints.save("last", state)
        saved = time.monotonic()
        epoch.log(record, is_best=is_best)
      elif stop_number or is_late:
        checkpoints.save("last", state)
        saved = time.monotonic()
      if stop_number:
        checkpoints.wait()
        logging.info(
          "Stopped by %s at step %d; the same command goes on from there.",
          stop.reason or signal.Signals(stop_number).name,
          state.step,
        )
        return False
  except (jax.errors.JaxRuntimeError, TimeoutError) as error:
    is_lost = lost_contact.is_lost(error)
    raise
  finally:
    # What is being saved needs the others, whom it would wait for.
    if not is_lost:
      checkpoints.close()
    if writer is not None:
      writer.close()
  return True


def _restore_or_create(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  experiment: experiments.Experiment,
  checkpoints: Checkpoints,
  class_names: tuple[str, ...],
) -> TrainState:
  """The state to go on from."""
  state = checkpoints.restore("last", experiments.state_shapes(experiment))
  step = -1 if state is None else int(state.step)
  newest, oldest = distributed.largest(step, -step)
  if newest != -oldest:
    raise ValueError(
      f"{workdir}: the processes see different checkpoints (the newest are of steps "
      f"{-oldest} and {newest}), as on a network file system that lags behind; start "
      "again in a minute"
    )
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


def open_writer(workdir: pathlib.Path, *, tensorboard: bool) -> MetricWriter | None:
  """The run's records; TensorBoard's events are done without where they can't be.

  None in all processes but the first, which alone writes them.
  """
  if not distributed.is_first():
    return None
  try:
    return MetricWriter(workdir, tensorboard=tensorboard)
  except ModuleNotFoundError as error:
    logging.warning("%s. The run goes on without them.", error)
    return MetricWriter(workdir)
