"""JSON and CSV output of emosynth_jax.predict."""

import contextlib
import io
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from absl import logging

from emosynth_jax.predict import sources
from emosynth_jax.utils import csv_rows, files, listing

FORMATS = ("jsonl", "csv")
_COLUMNS = (
  "source frame seconds face left top right bottom detection_score angle label "
  "confidence"
).split()
# A file name may contain bytes that are not valid text, which are escaped for JSON.
_TEXT: dict[str, Any] = {
  "encoding": "utf-8",
  "errors": "backslashreplace",
  "newline": "",
}

# Of a `frame.Frame` and its `predictor.Prediction`s.
Write = Callable[[Any, Sequence[Any]], None]


def writer(form: str, file: TextIO, class_names: Sequence[str]) -> Write:
  """The writer of one of `FORMATS`; see `json_writer` and `csv_writer`."""
  return csv_writer(file, class_names) if form == "csv" else json_writer(file)


def json_writer(file: TextIO) -> Write:
  """Writes a line of JSON for each frame.

  Args:
    file: output file; each line is flushed.

  Returns:
    A function of a `frame.Frame` and its predictions that writes their line.
  """

  def write(frame: Any, predictions: Sequence[Any]) -> None:
    record: dict[str, Any] = {"source": frame.source}
    if frame.number is not None:
      record |= {"frame": frame.number, "seconds": round(frame.seconds, 3)}
    if frame.error:
      record["error"] = frame.error
    else:
      record["faces"] = [_rounded(prediction) for prediction in predictions]
    file.write(json.dumps(record, ensure_ascii=False) + "\n")
    file.flush()

  return write


def csv_writer(file: TextIO, class_names: Sequence[str]) -> Write:
  """Writes a row for each face, after a header row.

  Args:
    file: output file; flushed after each frame.
    class_names: of the columns of probabilities, in the order of the predictions'.

  Returns:
    A function of a `frame.Frame` and its predictions that writes their rows: one with
    an empty label if there is no face. Names that a spreadsheet would run as a formula
    get an apostrophe, see `csv_rows.writer`.
  """
  write_row = csv_rows.writer(file)
  write_row([*_COLUMNS, *(f"p_{name}" for name in class_names), "error"])

  def write(frame: Any, predictions: Sequence[Any]) -> None:
    seconds = None if frame.seconds is None else round(frame.seconds, 3)
    start = [frame.source, frame.number, seconds]
    for i, prediction in enumerate(predictions):
      face = _rounded(prediction)
      write_row(
        [
          *start,
          i,
          *(face["box"] or [None] * 4),
          face["detection_score"],
          face["angle"],
          face["label"],
          face["confidence"],
          *face["probabilities"].values(),
          None,
        ]
      )

    if not predictions:
      blank = [None] * (len(_COLUMNS) - len(start) + len(class_names))
      write_row([*start, *blank, frame.error or None])
    file.flush()

  return write


def _rounded(prediction: Any) -> dict[str, Any]:
  """Rounds for output: tenths of a pixel, and probabilities to five digits."""
  record = prediction._asdict()
  if prediction.box:
    record["box"] = [round(x, 1) for x in prediction.box]
    record["detection_score"] = round(prediction.detection_score or 0.0, 4)
  if prediction.angle is not None:
    record["angle"] = round(prediction.angle, 1)
  record["confidence"] = round(prediction.confidence, 5)
  record["probabilities"] = {
    name: round(p, 5) for name, p in prediction.probabilities.items()
  }
  return record


def check_output(output: str, inputs: Sequence[str]) -> None:
  """Checks that the output file is writable and not an input.

  Args:
    output: the output file.
    inputs: files and folders that are read.

  Raises:
    ValueError: if it is one of the inputs, or named like an image or a video.
    OSError: if it is a folder, or its folder does not exist.
  """
  files.check_output(output, inputs)
  path = pathlib.Path(os.path.realpath(output))
  # The content of a folder is not known yet.
  if path.suffix.lower() in listing.IMAGE_SUFFIXES | sources.VIDEO_SUFFIXES:
    raise ValueError(f"--output: expected a .jsonl or .csv file, got {output}")
  files.check_output(_partial(path), inputs)


@contextlib.contextmanager
def open_lines(output: str | None) -> Iterator[TextIO]:
  """Context that opens the output file.

  The lines are written to a temporary file, which is renamed when the context ends.
  After an error, an earlier file stays, and the lines are kept under the name with
  ".partial".

  Args:
    output: its name; None for standard output. A device or a pipe is written directly.

  Yields:
    The file, UTF-8.

  Raises:
    OSError: if it can't be written.
  """
  if output is None:
    if isinstance(sys.stdout, io.TextIOWrapper):
      sys.stdout.reconfigure(**_TEXT)
    with files.writing("standard output"):
      yield sys.stdout
    return

  path = pathlib.Path(os.path.realpath(output))
  if path.exists() and not path.is_file():
    with files.writing(path), open(path, "w", **_TEXT) as file:
      yield file
    return

  partial = _partial(path)
  try:
    with files.writing(path), open(partial, "w", **_TEXT) as file:
      yield file
  except BaseException:
    if partial.exists() and partial.stat().st_size:
      logging.error("The predictions so far are in %s.", partial)
    else:
      partial.unlink(missing_ok=True)
    raise

  os.replace(partial, path)


def _partial(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(files.shorten(path.name, reserve=8) + ".partial")
