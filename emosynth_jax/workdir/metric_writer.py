"""Records of a run on disk: metrics.jsonl, timing.jsonl and TensorBoard events.

Deterministic values go to metrics.jsonl, timings to timing.jsonl, so that metrics.jsonl
is byte-identical in every run of the same program, also if killed and resumed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import itertools
import json
import logging
import operator
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging as absl_logging

from emosynth_jax.parallel import distributed
from emosynth_jax.utils import files, output_files
from emosynth_jax.utils.json_files import parse_json

_LOG = logging.getLogger(__name__)


class MetricWriter:
  """Appends one JSON line per record, each on disk before the call returns.

  To resume, call :meth:`rewind` with the step of the checkpoint. For the files to
  equal those of an uninterrupted run, write the records of a step before its
  checkpoint is saved. A last line that a kill cut short is removed on opening.

  Args:
    workdir: folder of the files; made if missing.
    tensorboard: also write TensorBoard events, through clu. This imports
      TensorFlow, so it is off by default. Event files cannot be rewound: after a
      resume they hold the repeated steps twice.

  Raises:
    ModuleNotFoundError: if TensorBoard is enabled and clu, TensorFlow or the package
      tensorboard is missing. An installed TensorFlow that fails is logged, and no
      events are written.
    ValueError: if a file is damaged before its last line.
  """

  def __init__(self, workdir: str | os.PathLike[str], *, tensorboard: bool = False):
    self._workdir = pathlib.Path(workdir)
    self._tensorboard = None
    if tensorboard:
      _require_tensorboard()
    self._workdir.mkdir(parents=True, exist_ok=True)
    self._metrics = _JsonLines(self._workdir / "metrics.jsonl")
    self._timing = _JsonLines(self._workdir / "timing.jsonl")
    if tensorboard:
      self._tensorboard = _open_tensorboard(self._workdir)

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Appends deterministic values to metrics.jsonl.

    Args:
      step: the step they belong to, not before that of the last record.
      metrics: name to scalar: a number, a NumPy or a JAX array with one value.
        Non-finite values are written as the strings NaN, Infinity and -Infinity.

    Raises:
      TypeError: if a value is not a number.
      ValueError: if a value has several elements, a name is ``step``, or the step
        lies before that of the last record.
    """
    scalars = _scalars(metrics)
    self._metrics.append(step, scalars)
    self._write_events(step, scalars)

  def write_timing(self, step: int, values: Mapping[str, Any]) -> None:
    """Appends timings to timing.jsonl; otherwise as `write`."""
    scalars = _scalars(values)
    self._timing.append(step, scalars)
    self._write_events(step, scalars)

  def rewind(self, step: int) -> None:
    """Drops the records after `step` from both files; -1 drops all.

    Each file is replaced atomically.

    Args:
      step: the last step whose records stay.

    Raises:
      ValueError: if a line up to `step` is damaged, unless it is the last.
    """
    step = operator.index(step)
    self._metrics.rewind(step)
    self._timing.rewind(step)

  def digest(self) -> str:
    """SHA-256 of metrics.jsonl; a checkpoint stores it, for `check`."""
    return self._metrics.digest()

  def check(self, *, num_epochs: int, digest: str = "") -> None:
    """Checks metrics.jsonl, rewound to a checkpoint, against that checkpoint.

    Args:
      num_epochs: epochs done at the checkpoint, each of which has a record.
      digest: `digest` at the checkpoint; "" if it is unknown.

    Raises:
      ValueError: if records are missing or were changed.
    """
    self._metrics.check(num_epochs, digest)

  def close(self) -> None:
    """Flushes the TensorBoard events; the JSON files are always flushed."""
    writer, self._tensorboard = self._tensorboard, None
    if writer is not None:
      try:
        writer.close()
      except Exception:
        _LOG.warning("TensorBoard events could not be closed", exc_info=True)

  def __enter__(self) -> MetricWriter:
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.close()

  def _write_events(self, step: int, scalars: Mapping[str, float]) -> None:
    if self._tensorboard is None:
      return
    try:
      self._tensorboard.write_scalars(operator.index(step), scalars)
      self._tensorboard.flush()
    except Exception:  # a side output must not end a training run
      _LOG.warning("TensorBoard events stop at step %d", step, exc_info=True)
      self._tensorboard = None


def read_records(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Reads the records of metrics.jsonl or timing.jsonl, in order.

  Args:
    path: the file. It may be in use by a training: an incomplete last line is skipped.

  Returns:
    One dictionary per line, with non-finite numbers as floats.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if a line other than the last is damaged.
  """
  path = pathlib.Path(path)
  lines = _whole_lines(path, path.read_bytes())
  return [
    _numbers_of(line, f"{path}, line {number} is damaged")
    for number, (_, line) in enumerate(lines, start=1)
  ]


def read_epochs(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Reads the records of metrics.jsonl, one an epoch; none if there is no such file.

  Args:
    path: the file, as `read_records` takes it.

  Returns:
    One dictionary an epoch, by ascending "epoch"; see `missing_epochs`.

  Raises:
    ValueError: if a line other than the last is damaged.
  """
  if not pathlib.Path(path).exists():
    return []
  records = read_records(path)
  before = 0
  for number, record in enumerate(records, start=1):
    epoch = record.get("epoch")
    if not isinstance(epoch, int) or epoch <= before:
      raise ValueError(
        f"{path}, line {number} is damaged (epoch: expected more than {before}, got "
        f"{epoch!r})"
      )
    before = epoch
  return records


def missing_epochs(
  records: Sequence[Mapping[str, Any]], num_epochs: int | None = None
) -> str:
  """The epochs without a record, in words, as "1 to 3, 7".

  Args:
    records: of `read_epochs`.
    num_epochs: epochs that the run has finished; by default those of the records.

  Returns:
    The text; "" if each epoch has a record.
  """
  found = [record["epoch"] for record in records]
  last = max(found, default=0) if num_epochs is None else num_epochs
  # Never one by one: the number is a file's word.
  gaps = [
    (before + 1, after - 1)
    for before, after in itertools.pairwise([0, *found, last + 1])
    if before + 1 < after
  ]
  return ", ".join(f"{a} to {b}" if a < b else f"{a}" for a, b in gaps)


def digest_of(path: str | os.PathLike[str]) -> str:
  """SHA-256 of a file; that of an empty one if there is none."""
  path = pathlib.Path(path)
  return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()


def _numbers_of(line: bytes, problem: str) -> dict[str, Any]:
  """A record, with non-finite numbers as floats."""
  record = {}
  for name, value in parse_json(line, problem).items():
    try:
      # JSON has no NaN: it is a string.
      number = float(value)
      record[name] = number if isinstance(value, str) else value
    except (ValueError, TypeError, OverflowError):
      raise ValueError(
        f"{problem} ({name}: expected a number, got {value!r:.40})"
      ) from None
  return record


class _JsonLines:
  """A JSON Lines file with non-decreasing steps."""

  def __init__(self, path: pathlib.Path):
    self._path = path
    self._last_step = -1
    self.rewind(None)

  def append(self, step: int, scalars: Mapping[str, float]) -> None:
    step = operator.index(step)
    if step < max(self._last_step, 0):
      raise ValueError(
        f"step {step} is before the last record of {self._path}, at step "
        f"{self._last_step}: call rewind({step}) first, or write to another folder"
        if step >= 0
        else f"step: expected at least 0, got {step}"
      )

    record = {"step": step, **dict(sorted(scalars.items()))}
    line = json.dumps(files.to_jsonable(record), allow_nan=False)
    with output_files.writing(self._path), self._path.open("ab") as file:
      file.write(line.encode() + b"\n")
      file.flush()
      os.fsync(file.fileno())

    self._last_step = step

  def digest(self) -> str:
    return digest_of(self._path)

  def check(self, number: int, digest: str) -> None:
    content = self._path.read_bytes() if self._path.exists() else b""
    found = sum(1 for _ in _whole_lines(self._path, content))
    if found != number:
      problem = f"has records of {found} epochs, the last checkpoint is of {number}"
    elif digest and digest != self.digest():
      problem = "is not as it was at the last checkpoint"
    else:
      return
    raise ValueError(
      f"{self._path} {problem}: restore the file from a copy, or train in another "
      "--workdir; --mode=eval still evaluates this one"
    )

  def rewind(self, step: int | None) -> None:
    """Keeps the complete lines up to `step` (all of them for None)."""
    content = self._path.read_bytes() if self._path.exists() else b""
    kept, self._last_step = [], -1
    for line_step, line in _whole_lines(self._path, content):
      if step is not None and line_step > step:
        break
      kept.append(line + b"\n")
      self._last_step = line_step
    if b"".join(kept) != content:
      files.write_atomically(self._path, b"".join(kept))


def _whole_lines(path: pathlib.Path, content: bytes) -> Iterator[tuple[int, bytes]]:
  """Each record's step and line, except a truncated last line."""
  lines = content.removesuffix(b"\n").split(b"\n") if content else []
  for number, line in enumerate(lines, start=1):
    step = _step_of(line)
    if step is not None:
      yield step, line
    elif number < len(lines):
      raise ValueError(
        f"{path}, line {number}: expected a JSON object with an integer 'step', got "
        f"{line[:80]!r}: repair the line or move the file"
      )


def _step_of(line: bytes) -> int | None:
  """The step of a record, or None if the line is not a record."""
  try:
    return parse_json(line, "", {"step": int})["step"]
  except ValueError:
    return None


def _scalars(values: Mapping[str, Any]) -> dict[str, float]:
  """Python numbers for Python, NumPy and JAX scalars."""
  scalars = {}
  for name, value in values.items():
    if name == "step":
      raise ValueError("the name 'step' is taken by the step of the record")
    array = np.asarray(value)
    if array.size != 1:
      raise ValueError(f"{name}: expected one number, got shape {array.shape}")
    scalar = array.item()
    if not isinstance(scalar, int | float):
      raise TypeError(f"{name}: expected a number, got {scalar!r}")
    scalars[name] = scalar
  return scalars


def _require_tensorboard() -> None:
  # clu imports all three; TensorFlow no longer brings TensorBoard with it.
  for module in ("tensorflow", "tensorboard", "clu"):
    if importlib.util.find_spec(module) is None:
      raise ModuleNotFoundError(
        f"TensorBoard events need the package {module!r}: pip install -e "
        "'.[tensorboard]' in the checkout",
        name=module,
      )


def _open_tensorboard(workdir: pathlib.Path) -> Any:
  """clu's writer of event files, or None where TensorFlow does not work."""
  try:
    # Imported here: clu.metric_writers imports TensorFlow, which takes seconds.
    from clu import metric_writers

    return metric_writers.SummaryWriter(os.fspath(workdir))
  except Exception:
    _LOG.warning("no TensorBoard events: TensorFlow cannot be imported", exc_info=True)
    return None


def open_writer(workdir: pathlib.Path, *, tensorboard: bool) -> MetricWriter | None:
  """The run's metric writer, without TensorBoard events if they are unavailable.

  None in all processes except the first, which writes them.
  """
  if not distributed.is_first():
    return None
  try:
    return MetricWriter(workdir, tensorboard=tensorboard)
  except ModuleNotFoundError as error:
    absl_logging.warning("%s. Training continues without them.", error)
    return MetricWriter(workdir)
