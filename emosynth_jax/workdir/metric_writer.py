"""Records of a run on disk: metrics.jsonl and timing.jsonl.

Deterministic values go to metrics.jsonl, timings to timing.jsonl, so that metrics.jsonl
is byte-identical in every run of the same program, also if killed and resumed.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import operator
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from emosynth_jax.parallel import distributed
from emosynth_jax.utils import files
from emosynth_jax.utils.json_files import parse_json
from emosynth_jax.workdir import tracking


class MetricWriter:
  """Appends one JSON line per record, each on disk before the call returns.

  To resume, call :meth:`rewind` with the step of the checkpoint. For the files to
  equal those of an uninterrupted run, write the records of a step before its
  checkpoint is saved. A last line that a kill cut short is removed on opening.

  Args:
    workdir: folder of the files; made if missing.
    open_trackers: opens what also shows the records, given those there are, see
      `tracking.open_trackers`; at `start_tracking` or the first record.

  Raises:
    ValueError: if a file is damaged before its last line.
  """

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    *,
    open_trackers: Callable[[Sequence[tracking.Record]], list[tracking.Tracker]]
    | None = None,
  ):
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    self._metrics = _JsonLines(workdir / "metrics.jsonl")
    self._timing = _JsonLines(workdir / "timing.jsonl")
    self._open_trackers = open_trackers
    self._trackers: list[tracking.Tracker] = []

  def write(
    self,
    step: int,
    metrics: Mapping[str, Any],
    timing: Mapping[str, Any] | None = None,
  ) -> None:
    """Appends deterministic values to metrics.jsonl, and timings to timing.jsonl.

    Args:
      step: the step they belong to, not before that of the last record.
      metrics: name to scalar: a number, a NumPy or a JAX array with one value.
        Non-finite values are written as the strings NaN, Infinity and -Infinity.
      timing: the same of timings; None for no line of them.

    Raises:
      TypeError: if a value is not a number.
      ValueError: if a value has several elements, a name is ``step``, or the step
        lies before that of the last record.
    """
    self.start_tracking()
    scalars, seconds = _scalars(metrics), _scalars(timing or {})
    self._metrics.append(step, scalars)
    if timing is not None:
      self._timing.append(step, seconds)
    self._track(operator.index(step), scalars | seconds)

  def start_tracking(self) -> None:
    """Opens the trackers, unless they are open."""
    open_trackers, self._open_trackers = self._open_trackers, None
    if open_trackers is not None:
      self._trackers = open_trackers(self._records())

  def _records(self) -> list[tracking.Record]:
    """Merges the records of both files, by step."""
    found: dict[int, dict[str, float]] = {}
    for lines in (self._metrics, self._timing):
      for record in lines.read():
        found.setdefault(record.pop("step"), {}).update(record)
    return sorted(found.items())

  def _track(self, step: int, scalars: Mapping[str, float]) -> None:
    working = []
    for tracker in self._trackers:
      with tracking.failing_softly(f"{type(tracker).__name__}, step {step}"):
        tracker.log(step, scalars)
        working.append(tracker)
    self._trackers = working

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
    return digest_of(self._metrics.path)

  def check(self, *, num_epochs: int, digest: str = "") -> None:
    """Checks metrics.jsonl, rewound to a checkpoint, against that checkpoint.

    Args:
      num_epochs: epochs done at the checkpoint, each of which has a record.
      digest: `digest` at the checkpoint; "" if it is unknown.

    Raises:
      ValueError: if records are missing or were changed.
    """
    self._metrics.check(num_epochs, digest)

  def close(self, exit_code: int = 0) -> None:
    """Ends the tracking, as of a process with that exit code."""
    trackers, self._trackers = self._trackers, []
    for tracker in trackers:
      with tracking.failing_softly(type(tracker).__name__):
        tracker.close(exit_code)

  def __enter__(self) -> MetricWriter:
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.close()


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
    self.path = path
    self._last_step = -1
    self.rewind(None)

  def append(self, step: int, scalars: Mapping[str, float]) -> None:
    step = operator.index(step)
    if step < max(self._last_step, 0):
      raise ValueError(
        f"step {step} is before the last record of {self.path}, at step "
        f"{self._last_step}: call rewind({step}) first, or write to another folder"
        if step >= 0
        else f"step: expected at least 0, got {step}"
      )

    record = {"step": step, **dict(sorted(scalars.items()))}
    line = json.dumps(files.to_jsonable(record), allow_nan=False)
    with files.writing(self.path), self.path.open("ab") as file:
      file.write(line.encode() + b"\n")
      file.flush()
      os.fsync(file.fileno())

    self._last_step = step

  def read(self) -> list[dict[str, Any]]:
    return read_records(self.path) if self.path.exists() else []

  def check(self, number: int, digest: str) -> None:
    content = self.path.read_bytes() if self.path.exists() else b""
    found = sum(1 for _ in _whole_lines(self.path, content))
    if found != number:
      problem = f"has records of {found} epochs, the last checkpoint is of {number}"
    elif digest and digest != digest_of(self.path):
      problem = "is not as it was at the last checkpoint"
    else:
      return
    raise ValueError(
      f"{self.path} {problem}: restore the file from a copy, or train in another "
      "--workdir; --mode=eval still evaluates this one"
    )

  def rewind(self, step: int | None) -> None:
    """Keeps the complete lines up to `step` (all of them for None)."""
    content = self.path.read_bytes() if self.path.exists() else b""
    kept, self._last_step = [], -1
    for line_step, line in _whole_lines(self.path, content):
      if step is not None and line_step > step:
        break
      kept.append(line + b"\n")
      self._last_step = line_step
    if b"".join(kept) != content:
      files.write_atomically(self.path, b"".join(kept))


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


def open_writer(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> MetricWriter | None:
  """The run's metric writer; None in all processes except the first, which writes."""
  if not distributed.is_first():
    return None
  open_trackers = functools.partial(tracking.open_trackers, config, workdir)
  return MetricWriter(workdir, open_trackers=open_trackers)
