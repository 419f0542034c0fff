"""The training loop."""

import contextlib
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
from absl import logging

from emosynth_jax.data import fingerprints, run_data
from emosynth_jax.parallel import cpu_devices, distributed, failures
from emosynth_jax.parallel.mesh import build_placement
from emosynth_jax.training import build, epoch, initialization, run_header
from emosynth_jax.training.programs import Programs, build_programs
from emosynth_jax.training.state import TrainState
from emosynth_jax.utils import cli, errors, log_file
from emosynth_jax.utils.progress import Progress
from emosynth_jax.utils.stop_signal import EXIT_CODE, StopSignal
from emosynth_jax.workdir import metric_writer, own_parts, tracking
from emosynth_jax.workdir import record as run_record
from emosynth_jax.workdir.checkpoints import Checkpoints


def train(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  *,
  began: float | None = None,
  devices: Sequence[Any] | None = None,
  stop: StopSignal | None = None,
  load: Callable[..., run_data.RunData] | None = None,
  config_file: str | None = None,
) -> bool:
  """Trains, or resumes from the last checkpoint in `workdir`.

  In a multi-process job all processes call it; the first one writes.

  Args:
    config: a checked config.
    workdir: folder for checkpoints and metrics.
    began: `time.monotonic()` at the start of the process, for the log.
    devices: devices for the training, all by default.
    stop: an entered stop signal of the caller, if several trainings share it.
    load: loads the run's data, where others of the command share it; see
      `run_data.shared_loader`.
    config_file: path of the config file, for the record.

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
  cpu_devices.split_cores(config.batch_size)
  workdir = pathlib.Path(workdir)
  own = own_parts.of_run(config, workdir)
  build.check_parts(own)
  if not (workdir / "checkpoints" / "last").is_dir():
    build.check_start(config)
  tracking.check(config)
  distributed.check_same(config.to_json(), "the config")
  distributed.check_shared_folder(workdir)

  with contextlib.ExitStack() as stack:
    stack.enter_context(distributed.held_by_first(run_record.only_training_in(workdir)))
    stop = stack.enter_context(StopSignal()) if stop is None else stop
    stack.enter_context(_ending_at_once(stop, workdir))
    load = load or run_data.shared_loader(own)
    is_whole = _train(config, own, workdir, began, devices, stop, load, config_file)

  # Done after the signal handlers are restored: a signal in between would be lost.
  if is_whole and (number := distributed.largest(stop.number)[0]):
    logging.info(
      "Interrupted by %s at the end of the training; rerun to evaluate.",
      _stopped_by(stop, number),
    )
    stop.number, stop.by_all = stop.number or number, True
    return False

  return is_whole


@contextlib.contextmanager
def _ending_at_once(stop: StopSignal, workdir: pathlib.Path) -> Iterator[None]:
  """Context in which a command that a signal ends at once leaves no empty workdir.

  `_train` sets `stop.at_once` to None when there is something to save.
  """
  before = stop.at_once
  if before is not None:
    stop.at_once = lambda: run_record.remove_unstarted(workdir)
  try:
    yield
  finally:
    stop.at_once = before


def _stopped_by(stop: StopSignal, number: int) -> str:
  return stop.reason or signal.Signals(number).name


def _train(
  config: ml_collections.ConfigDict,
  own: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  began: float,
  devices: Sequence[Any] | None,
  stop: StopSignal,
  load: Callable[..., run_data.RunData],
  config_file: str | None,
) -> bool:
  programs, sources = _prepare(config, own, workdir, devices, load)

  with contextlib.ExitStack() as stack:
    checkpoints, writer = stack.enter_context(_open_outputs(config, workdir))
    state = _restore_or_create(config, workdir, programs, checkpoints, writer)
    progress = Progress(
      first=int(state.step), total=config.num_epochs * programs.steps_per_epoch
    )
    stack.callback(progress.close)
    compiling = stack.enter_context(contextlib.ExitStack())
    _log_native_errors(compiling, workdir)
    first_step, has_validated = int(state.step), False
    saves, epoch_began = _Saves(config), time.monotonic()

    while not epoch.is_finished(state, config):
      # No steps are left where a run resumes between an epoch's last one and its end.
      if programs.steps_left(state):
        is_first_call = int(state.step) == first_step
        if not is_first_call and _is_first_of_full_size(state, programs, config):
          progress.restart(next_compiles=True)
          _log_native_errors(compiling, workdir)
        state = _take_steps(state, programs, config, workdir)
        if is_first_call:
          # From here on a stop saves first: what is logged next must not be too early.
          stop.at_once = None
          _keep_record(programs, first_step, config, workdir, sources, config_file)
          logging.info(
            "First %d training steps done after %.1f s (compilation included).",
            int(state.step) - first_step,
            time.monotonic() - began,
          )
          if writer is not None:
            writer.start_tracking()
        _show_progress(progress, state, programs, config)

      # A stop or a due save in one process applies to all processes.
      stop_number, is_late, is_due = distributed.largest(
        stop.number, saves.is_late(), saves.is_due()
      )

      if not programs.steps_left(state) and not stop_number:
        state, epoch_began, is_saved = _end_epoch(
          state, programs, config, workdir, checkpoints, writer, epoch_began, is_due
        )
        if is_saved:
          saves.has_saved()
        # An epoch with another program compiled, and so did the first validation.
        compiling.close()
        is_first_epoch = int(state.epoch) == first_step // programs.steps_per_epoch + 1
        is_validated = epoch.is_validated(int(state.epoch), config)
        if is_first_epoch or (is_validated and not has_validated):
          progress.restart()
        has_validated |= is_validated
        # A stop may have come during the validation.
        stop_number = distributed.largest(stop.number)[0]
        if stop_number and not is_saved:
          checkpoints.save("last", state, replace=True)
      elif stop_number or is_late:
        checkpoints.save("last", state)
        saves.has_saved()

      if stop_number:
        stop.number, stop.by_all = stop.number or stop_number, True
        _finish_interrupted(checkpoints, state, _stopped_by(stop, stop_number))
        if writer is not None:
          writer.close(exit_code=EXIT_CODE + stop_number)
        return False

  return True


def _prepare(
  config: ml_collections.ConfigDict,
  own: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  devices: Sequence[Any] | None,
  load: Callable[..., run_data.RunData],
) -> tuple[Programs, Mapping[str, own_parts.Source]]:
  """Checks the workdir, reads the data and builds the programs; writes nothing.

  Returns:
    The programs, and the user's code that the run has to keep.
  """
  run_record.check_same_config(config, workdir)
  # A damaged one is an error now, and not when it is needed.
  run_record.read_fingerprint(workdir)
  run_record.read_provenance(workdir)
  placement = build_placement(config.mesh.model, devices)
  # Here too, before the data is read.
  placement.check_batch_size(config.batch_size)
  run_header.log_start(config, workdir, placement.mesh)
  # Read now, kept after the first steps: the files may be edited in between.
  sources = {} if own_parts.hashes_of(workdir) else own_parts.read_sources(config)

  # The test split too: an error in it is better reported now than after training.
  programs = build_programs(own, placement, load)
  run_record.check_same_fingerprint(programs.data.fingerprint, workdir)
  run_header.log_run(config, programs)
  return programs, sources


class _Saves:
  """Says when a checkpoint is due, by the clock of this process."""

  def __init__(self, config: ml_collections.ConfigDict):
    self._settings = config.checkpoint
    self._last, self._is_first = time.monotonic(), True

  def is_late(self) -> bool:
    """Whether a save within an epoch is due."""
    return time.monotonic() - self._last > 60 * self._settings.minutes

  def is_due(self) -> bool:
    """Whether a save at the end of an epoch is due."""
    waited = time.monotonic() - self._last
    return self._is_first or self.is_late() or waited >= self._settings.min_seconds

  def has_saved(self) -> None:
    """Starts the time to the next save."""
    self._last, self._is_first = time.monotonic(), False


def _log_native_errors(compiling: contextlib.ExitStack, workdir: pathlib.Path) -> None:
  """Sends XLA's warnings of a slow compilation to the log until `compiling` closes."""
  if distributed.is_first():
    compiling.enter_context(log_file.native_errors_to(workdir))


def _is_first_of_full_size(
  state: TrainState, programs: Programs, config: ml_collections.ConfigDict
) -> bool:
  """Whether the epochs of resized images are over just now: another program follows."""
  is_at_the_beginning = programs.steps_left(state) == programs.steps_per_epoch
  return is_at_the_beginning and (
    0 < config.progressive_resizing.epochs == int(state.epoch)
  )


@contextlib.contextmanager
def _open_outputs(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> Iterator[tuple[Checkpoints, metric_writer.MetricWriter | None]]:
  """Opens a run's checkpoints and metrics; None for these in all processes but one."""
  writer = metric_writer.open_writer(config, workdir)
  checkpoints = Checkpoints(
    workdir,
    keep=config.checkpoint.keep,
    digest_records=None if writer is None else writer.digest,
  )
  failure: Exception | None = None

  try:
    yield checkpoints, writer
  except Exception as error:
    failure = error
    raise
  finally:
    _close(checkpoints, failure)
    if writer is not None:
      writer.close(exit_code=0 if failure is None else 1)


def _restore_or_create(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  programs: Programs,
  checkpoints: Checkpoints,
  writer: metric_writer.MetricWriter | None,
) -> TrainState:
  """Returns the state to continue from; records of later steps are removed."""
  state = initialization.restore_or_create(config, workdir, programs, checkpoints)
  state = programs.place(state)

  # A run that was stopped before an epoch's validation writes that epoch's record anew.
  step = int(state.step)
  digest = checkpoints.stored_records(step) if step else ""
  if writer is not None:
    writer.rewind(step if programs.steps_left(state) else step - 1)
    writer.check(num_epochs=int(state.epoch), digest=digest)
  return state


def _take_steps(
  state: TrainState,
  programs: Programs,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
) -> TrainState:
  """Takes the steps of one call of the compiled program, all of one epoch."""
  left = programs.steps_left(state)
  if left == programs.steps_per_epoch:
    state = programs.place(epoch.begin(state, config))

  state = programs.take_steps(state, num_steps=min(programs.chunk, left))
  epoch.raise_if_not_finite(state, config, workdir, schedule=programs.schedule)
  return state


def _keep_record(
  programs: Programs,
  first_step: int,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  sources: Mapping[str, own_parts.Source],
  config_file: str | None,
) -> None:
  """Writes the run's config, data and provenance once its first steps are taken.

  Not earlier: settings that fail immediately should not create files.
  """
  fingerprint = programs.data.fingerprint
  run_record.write_fingerprint(fingerprint, workdir)
  own_parts.keep(sources, workdir)
  if distributed.is_first():
    run_record.keep_config(config, workdir)
    run_record.keep_provenance(
      workdir,
      step=first_step,
      devices=list(programs.placement.mesh.devices.flat),
      pixel_forms=fingerprints.form_counts(fingerprint),
      own_code=own_parts.hashes_of(workdir),
      config_file=config_file,
    )


def _finish_interrupted(checkpoints: Checkpoints, state: TrainState, by: str) -> None:
  """Waits for the last save, then says where the run resumes."""
  checkpoints.wait()
  logging.info("Interrupted by %s at step %d; rerun to resume.", by, state.step)


def _show_progress(
  progress: Progress,
  state: TrainState,
  programs: Programs,
  config: ml_collections.ConfigDict,
) -> None:
  """Shows the epoch, the step and the mean loss of the epoch so far."""
  done = programs.steps_per_epoch - programs.steps_left(state)
  progress.update(
    int(state.step),
    f"epoch {int(state.epoch) + 1}/{config.num_epochs} "
    f"step {done:,}/{programs.steps_per_epoch:,} loss "
    f"{float(state.totals['loss']) / int(state.totals['steps']):.4f}",
    images_per_unit=config.batch_size,
  )


def _end_epoch(
  state: TrainState,
  programs: Programs,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  checkpoints: Checkpoints,
  writer: metric_writer.MetricWriter | None,
  epoch_began: float,
  is_due: int,
) -> tuple[TrainState, float, bool]:
  """Validates, records and saves, after the last epoch or if a checkpoint is due.

  Returns:
    The state, when the next epoch began, and whether the state was saved.
  """
  summary = None
  if epoch.is_validated(int(state.epoch) + 1, config):
    summary = programs.validate(state)
    epoch.raise_if_not_finite(
      state, config, workdir, summary["loss"], schedule=programs.schedule
    )
  state, record = epoch.end(
    state, summary, config, programs.experiment.plateau, programs.schedule
  )
  state = programs.place(state)

  is_best = int(state.best_epoch) == int(state.epoch)
  is_saved = bool(is_due) or epoch.is_finished(state, config)
  if is_best and is_saved:
    checkpoints.save("best", state)
  elif is_best:
    checkpoints.hold_best(state)

  # With the saves of the epoch before it, so that all epochs add up to the run.
  now = time.monotonic()
  if writer is not None:
    writer.write(int(state.step), record, timing={"seconds": now - epoch_began})

  # In place of one before the validation.
  if is_saved:
    checkpoints.save("last", state, replace=True)
  epoch.log(record, is_best=is_best)
  if summary is not None:
    epoch.warn_if_constant(summary, int(state.epoch))
  return state, now, is_saved


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
    logging.error("The save in progress failed (%s).", errors.reason_of(error))


if __name__ == "__main__":
  cli.fail("this module is no command; run python -m emosynth_jax.main --config=...")
