"""The training loop."""

import contextlib
import os
import pathlib
import signal
import time
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import logging

from emosynth_jax.data import device_feed, fingerprints, run_data
from emosynth_jax.parallel import distributed, failures
from emosynth_jax.parallel import mesh as meshes
from emosynth_jax.training import epoch, initialization
from emosynth_jax.training.programs import build_programs
from emosynth_jax.utils.progress import Progress
from emosynth_jax.utils.stop_signal import StopSignal
from emosynth_jax.workdir import metric_writer
from emosynth_jax.workdir import record as run_record
from emosynth_jax.workdir.checkpoints import Checkpoints


def train(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  *,
  began: float | None = None,
  devices: Sequence[Any] | None = None,
  stop: StopSignal | None = None,
) -> bool:
  """Trains, or resumes from the last checkpoint in `workdir`.

  In a multi-process job all processes call it; the first one writes.

  Args:
    config: a checked config.
    workdir: folder for checkpoints and metrics.
    began: `time.monotonic()` at the start of the process, for the log.
    devices: devices for the training, all by default.
    stop: an entered stop signal of the caller, if several trainings share it.

  Returns:
    Whether the training is complete; False after SIGTERM or Ctrl-C, when a checkpoint
    of the current step is in `workdir`. Also False if the signal came during the final
    validation or save: the steps after training are then not started.

  Raises:
    NonFiniteError: at the first non-finite loss or gradient, or validation loss; the
      checkpoints hold the last good state before it.
    ValueError: for a config or data that do not match those of `workdir`, if another
      process trains in it, or if the processes of a job read different data.
    CheckpointError: if no checkpoint can be used, see `Checkpoints.restore`.
  """
  began = time.monotonic() if began is None else began
  workdir = pathlib.Path(workdir)
  distributed.check_same(config.to_json(), "the config")
  distributed.check_shared_folder(workdir)
  with contextlib.ExitStack() as stack:
    stack.enter_context(distributed.held_by_first(run_record.only_training_in(workdir)))
    stop = stack.enter_context(StopSignal()) if stop is None else stop
    is_whole = _train(config, workdir, began, devices, stop)
  # Done after the signal handlers are restored: a signal in between would be lost.
  if is_whole and (number := distributed.largest(stop.number)[0]):
    logging.info(
      "Stopped by %s at the end of the training; the same command evaluates it.",
      _stopped_by(stop, number),
    )
    return False
  return is_whole


def _stopped_by(stop: StopSignal, number: int) -> str:
  return stop.reason or signal.Signals(number).name


def _train(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  began: float,
  devices: Sequence[Any] | None,
  stop: StopSignal,
) -> bool:
  run_record.check_same_config(config, workdir)
  mesh = meshes.build_mesh(config.mesh.model, devices)
  # The test split too: its errors should be reported before training, not after.
  datasets = {
    name: device_feed.fetch(dataset, config.data, mesh)
    for name, dataset in run_data.load_data(
      config, run_data.splits(config), lazily=True
    ).items()
  }
  fingerprint = fingerprints.fingerprint(datasets)
  run_record.check_same_fingerprint(fingerprint, workdir)
  run = build_programs(config, datasets, mesh)
  steps_per_epoch = run.steps_per_epoch

  writer = metric_writer.open_writer(workdir, tensorboard=config.tensorboard)
  checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
  failure: Exception | None = None
  try:
    state = initialization.restore_or_create(
      config, workdir, run.experiment, checkpoints, datasets["train"]
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
          # Not earlier: settings that fail at once must not leave a workdir.
          run_record.write_fingerprint(fingerprint, workdir)
          if distributed.is_first():
            run_record.keep_config(config, workdir)
            run_record.keep_provenance(
              workdir,
              step=int(state.step) - count,
              devices=list(mesh.devices.flat),
              pixel_forms=fingerprints.form_counts(fingerprint),
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
      # A stop or a due save in one process applies to all processes.
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
          # Includes the saves before it, so that the epochs' times add up to the run's.
          now = time.monotonic()
          writer.write_timing(int(state.step), {"seconds": now - last_epoch_ended})
          last_epoch_ended = now
        checkpoints.save("last", state)
        saved = time.monotonic()
        epoch.log(record, is_best=is_best)
        # A stop may have been requested during the validation.
        stop_number = distributed.largest(stop.number)[0]
      elif stop_number or is_late:
        checkpoints.save("last", state)
        saved = time.monotonic()
      if stop_number:
        checkpoints.wait()
        logging.info(
          "Stopped by %s at step %d; the same command goes on from there.",
          _stopped_by(stop, stop_number),
          state.step,
        )
        return False
  except Exception as error:
    failure = error
    raise
  finally:
    _close(checkpoints, failure)
    if writer is not None:
      writer.close()
  return True


def _close(checkpoints: Checkpoints, failure: Exception | None) -> None:
  """Waits for a pending save to finish."""
  # It needs the other processes, and would wait for those that have exited.
  if failure is not None and failures.is_lost(failure):
    return
  try:
    checkpoints.close()
  except Exception as error:
    if failure is None:
      raise
    # The first error is the cause, and is reported last.
    logging.error("What was being saved is lost (%s).", failures.reason_of(error))
