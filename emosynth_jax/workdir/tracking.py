"""TensorBoard event files and Weights & Biases runs of a training.

Both show what metrics.jsonl and timing.jsonl hold, which stay the record of the run. A
run that has records already, because it was resumed or trained without tracking
before, is continued, or started with those records.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import ml_collections
from absl import logging

from emosynth_jax.utils import errors, files
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import seed_summary

# Step and scalars.
Record = tuple[int, Mapping[str, float]]

# In the workdir: the id of its Weights & Biases run, and the step that it lacks first.
_WANDB_FILE = "wandb.json"


class Tracker(Protocol):
  """A service that shows the records of a training."""

  def log(self, step: int, scalars: Mapping[str, float]) -> None:
    """Adds the scalars of a step, which is after that of the last call."""

  def close(self, exit_code: int) -> None:
    """Ends the run, as the process with that exit code does."""


def check(config: ml_collections.ConfigDict) -> None:
  """Checks that what a run is to be tracked with is installed.

  Args:
    config: a checked config.

  Raises:
    ModuleNotFoundError: if a package is missing.
    ValueError: if Weights & Biases is to be online and there is no API key.
  """
  if config.tensorboard:
    _require("tensorboardX", "tensorboard", "config.tensorboard")
  if config.wandb.mode == "disabled":
    return

  _require("wandb", "wandb", "config.wandb.mode")
  if config.wandb.mode == "online" and not _is_logged_in():
    raise ValueError(
      "config.wandb.mode: no API key of Weights & Biases: run `wandb login`, set "
      'WANDB_API_KEY, or use "offline" and upload later'
    )


def _require(module: str, extra: str, setting: str) -> None:
  if importlib.util.find_spec(module) is None:
    raise ModuleNotFoundError(
      f"{setting}: the package {module} is missing: pip install "
      f"'emosynth_jax[{extra}]', or in a checkout pip install -e '.[{extra}]'",
      name=module,
    )


def _is_logged_in() -> bool:
  import wandb

  return wandb.login(prompt=False, verify=False)


def open_trackers(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  records: Sequence[Record],
) -> list[Tracker]:
  """Opens what the config asks for; one that fails is left out, with a warning.

  Args:
    config: a checked config, for which `check` has passed.
    workdir: the run's folder.
    records: the records of the steps before, in order.

  Returns:
    The trackers, which have these records.
  """
  found: list[Tracker] = []
  if config.tensorboard:
    with failing_softly("TensorBoard"):
      found.append(TensorBoard(workdir, records))
  if config.wandb.mode != "disabled":
    with failing_softly("Weights & Biases"):
      found.append(WandB(config, workdir, records))
  return found


@contextlib.contextmanager
def failing_softly(what: str) -> Iterator[None]:
  """Context in which an error becomes a warning, since tracking must not end a run."""
  try:
    yield
  except Exception as error:
    reason = errors.reason_of(error, 500)
    logging.warning("%s: not tracked any more (%s)", what, reason)


class TensorBoard:
  """Event files in a workdir, each record on disk before the call returns.

  TensorBoard hides the events of a stopped run that the resumed one writes anew. The
  files are written without TensorFlow.

  Args:
    workdir: the run's folder.
    records: the records of the steps before.
  """

  def __init__(self, workdir: pathlib.Path, records: Sequence[Record]):
    from tensorboardX import event_file_writer

    # Files of the same second are read in the order of their names.
    number = len(list(workdir.glob("events.out.tfevents.*")))
    self._events = event_file_writer.EventsWriter(
      os.fspath(workdir / "events"), f".{number:04}"
    )

    if number:
      self._hide_from(records[-1][0] + 1 if records else 0)
      return
    for step, scalars in records:
      self.log(step, scalars)

  def _hide_from(self, step: int) -> None:
    from tensorboardX.proto import event_pb2

    session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._write(event_pb2.Event(step=step, session_log=session))

  def log(self, step: int, scalars: Mapping[str, float]) -> None:
    """See `Tracker`."""
    from tensorboardX.proto import event_pb2, summary_pb2

    values = [
      summary_pb2.Summary.Value(tag=name, simple_value=value)
      for name, value in scalars.items()
    ]
    summary = summary_pb2.Summary(value=values)
    self._write(event_pb2.Event(step=step, summary=summary))

  def _write(self, event: Any) -> None:
    event.wall_time = time.time()
    self._events.write_event(event)
    self._events.flush()

  def close(self, exit_code: int) -> None:
    """See `Tracker`."""
    del exit_code
    self._events.close()


class WandB:
  """A run of Weights & Biases, the same one each time that its workdir is resumed.

  Offline runs are in the workdir's folder wandb/, for `wandb sync`.

  Args:
    config: a checked config; the run has its settings.
    workdir: the run's folder.
    records: the records of the steps before.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    records: Sequence[Record],
  ):
    self._file = workdir / _WANDB_FILE
    self._run, kept = _open_wandb(config, workdir)
    is_online = config.wandb.mode == "online"
    # Where an online run ends, its server knows.
    self._next = self._run.step if is_online else kept.get("next_step", 0)
    logging.info(
      "Weights & Biases: %s",
      self._run.url
      if is_online
      else f"offline; to upload: wandb sync {workdir}/wandb/offline-run-*",
    )

    for step, scalars in records:
      self.log(step, scalars)

  def log(self, step: int, scalars: Mapping[str, float]) -> None:
    """See `Tracker`; the run keeps what it has of a step that is repeated."""
    if step < self._next:
      return
    self._run.log(dict(scalars), step=step, commit=True)
    self._next = step + 1
    _keep_wandb(self._file, self._run, self._next)

  def close(self, exit_code: int) -> None:
    """See `Tracker`."""
    self._run.finish(exit_code=exit_code)


def log_report(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  summaries: Mapping[str, Mapping[str, Any]],
) -> None:
  """Adds the metrics of a run's report to the summary of its Weights & Biases run.

  Args:
    config: a checked config.
    workdir: the run's folder.
    summaries: split to summary, of `classification.summarize`.
  """
  if config.wandb.mode == "disabled" or not (workdir / _WANDB_FILE).is_file():
    return
  with failing_softly("Weights & Biases"):
    run, _ = _open_wandb(config, workdir)
    for split, summary in summaries.items():
      for name, value in seed_summary.metrics_of(summary).items():
        run.summary[f"report/{split}/{name.replace(' ', '_')}"] = value
    run.finish()


def _open_wandb(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> tuple[Any, dict[str, Any]]:
  """The run whose id is in the workdir, or else a new one; and what is kept of it."""
  import wandb

  wanted = config.wandb
  path = workdir / _WANDB_FILE
  kept = read_json(path, {"id": str, "next_step": int}) if path.is_file() else {}
  run = wandb.init(
    id=kept.get("id"),
    resume="allow" if wanted.mode == "online" else None,
    mode=wanted.mode,
    project=wanted.project or os.environ.get("WANDB_PROJECT", "emosynth_jax"),
    entity=wanted.entity or None,
    group=wanted.group or None,
    name=wanted.name or os.environ.get("WANDB_NAME", os.fspath(workdir)),
    dir=workdir,
    config=config.to_dict(),
    allow_val_change=True,
    # Seeds train concurrently in one process.
    reinit="create_new",
    # The workdir has the log.
    settings=wandb.Settings(console="off", silent=True),
  )
  if not kept:
    _keep_wandb(path, run, 0)
  return run, kept


def _keep_wandb(path: pathlib.Path, run: Any, next_step: int) -> None:
  text = json.dumps({"id": run.id, "next_step": next_step}) + "\n"
  files.write_atomically(path, text.encode())
