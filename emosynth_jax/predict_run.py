"""The command of predict.py: what it reads, writes and says.

JSON lines have one object for each picture or frame:

  {"source", "frame", "seconds", "faces": [{"box", "detection_score", "label",
   "confidence", "probabilities"}, ...]}        or {"source", "error"}

CSV has one row for each face, and one with an empty label for a picture without any.
The exit code is 0, 1 for a mistake in the command, or 2 if something could not be read,
each of which has its line.
"""

import contextlib
import csv
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from absl import flags, logging

from emosynth_jax import command_line, predict

FORMATS = ("jsonl", "csv")
UNREADABLE = 2
_COLUMNS = (
  "source frame seconds face left top right bottom detection_score label confidence"
).split()

Write = Callable[[Any, Sequence[predict.Prediction]], None]


def json_writer(file: TextIO) -> Write:
  """Writes a line of JSON for each frame."""

  def write(frame: Any, predictions: Sequence[predict.Prediction]) -> None:
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
  """Writes a row for each face, after a row of names."""
  rows = csv.writer(file, lineterminator="\n")
  rows.writerow([*_COLUMNS, *(f"p_{name}" for name in class_names), "error"])

  def write(frame: Any, predictions: Sequence[predict.Prediction]) -> None:
    seconds = None if frame.seconds is None else round(frame.seconds, 3)
    start = [frame.source, frame.number, seconds]
    for i, prediction in enumerate(predictions):
      face = _rounded(prediction)
      rows.writerow(
        [
          *start,
          i,
          *(face["box"] or [None] * 4),
          face["detection_score"],
          face["label"],
          face["confidence"],
          *face["probabilities"].values(),
          None,
        ]
      )
    if not predictions:
      blank = [None] * (len(_COLUMNS) - len(start) + len(class_names))
      rows.writerow([*start, *blank, frame.error or None])
    file.flush()

  return write


def _rounded(prediction: predict.Prediction) -> dict[str, Any]:
  """As it is written: tenths of a pixel, and probabilities to five digits."""
  record = prediction._asdict()
  if prediction.box:
    record["box"] = [round(x, 1) for x in prediction.box]
    record["detection_score"] = round(prediction.detection_score or 0.0, 4)
  record["confidence"] = round(prediction.confidence, 5)
  record["probabilities"] = {
    name: round(p, 5) for name, p in prediction.probabilities.items()
  }
  return record


def predict_all(given: Any, sources: Sequence[str], file: TextIO) -> int:
  """Predicts on all sources, writes what was found and says how fast it was.

  Args:
    given: the flags.
    sources: as `media.read_all` takes them.
    file: where the lines go.

  Returns:
    How many files could not be read.
  """
  from emosynth_jax import annotate, media

  predictor = predict.Predictor(
    given.workdir or given.bundle,
    faces=given.faces,
    min_confidence=given.min_confidence,
    min_face_score=given.min_face_score,
    max_side=given.max_side,
    batch_size=given.batch_size,
    data_dir=given.data_dir,
  )
  predictor.warm_up()
  if given.format == "csv":
    write = csv_writer(file, predictor.network.class_names)
  else:
    write = json_writer(file)
  frames = media.read_all(sources, every=given.every, max_frames=given.max_frames)
  pairs: Iterator[tuple[Any, Any]] = ((frame, frame.picture) for frame in frames)
  is_live = any(map(media.is_webcam, sources))
  counts = {"pictures": 0, "faces": 0, "uncertain": 0, "unreadable": 0}
  began = last = time.monotonic()
  drawing = 0.0
  with contextlib.ExitStack() as stack:
    writer = annotate.Writer(given.annotate) if given.annotate else None
    if writer:
      stack.enter_context(writer)
    try:
      for frame, picture, predictions in predictor.stream(
        pairs, max_waiting=1 if is_live else None
      ):
        write(frame, predictions)
        if picture is None:
          counts["unreadable"] += 1
          logging.error("%s: %s", frame.source, frame.error)
          continue
        counts["pictures"] += 1
        counts["faces"] += len(predictions)
        counts["uncertain"] += sum(
          prediction.label == predict.UNCERTAIN for prediction in predictions
        )
        if writer:
          start = time.monotonic()
          writer.write(frame, annotate.draw(picture, predictions))
          drawing += time.monotonic() - start
        now = time.monotonic()
        if now - last > 10:
          last = now
          rate = counts["pictures"] / (now - began)
          logging.info(
            "%s: %d pictures, %.1f a second.", frame.source, counts["pictures"], rate
          )
    except KeyboardInterrupt:
      logging.info("Stopped.")
  seconds = time.monotonic() - began - drawing
  print(describe(counts, seconds, predictor.timing, given.batch_size), file=sys.stderr)
  return counts["unreadable"]


def describe(
  counts: dict[str, int], seconds: float, timing: predict.Timing, batch_size: int
) -> str:
  """What was found and how fast, in a line or two."""
  lines = [", ".join(f"{number} {name}" for name, number in counts.items())]
  if counts["pictures"]:
    speed = [f"{counts['pictures'] / max(seconds, 1e-9):.1f} pictures a second"]
    if timing.pictures:
      each = 1000 * timing.detection / timing.pictures
      speed.append(f"detection {each:.1f} ms a picture")
    if timing.faces:
      each = 1000 * timing.classification / timing.faces
      speed.append(f"classification {each:.1f} ms a face in batches of {batch_size}")
    lines.append(", ".join(speed))
  lines.append(
    f"compilation, in none of these figures: {timing.compilation:.1f} s. Reading is in "
    "the pictures a second, drawing is not"
  )
  return "\n".join(lines)


def main(argv: list[str]) -> None:
  """Runs the command; a mistake in its input ends it with one line."""
  given = flags.FLAGS
  if len(argv) < 2:
    command_line.fail("expected images, folders, videos or a webcam's number")
  if given.workdir and given.bundle:
    command_line.fail("expected --workdir or --bundle, not both")
  command_line.start_logging()
  command_line.use_compilation_cache()
  try:
    with contextlib.ExitStack() as stack:
      stack.enter_context(command_line.mistakes_in_one_line(given.traceback))
      file: TextIO = sys.stdout
      if given.output:
        file = stack.enter_context(open(given.output, "w", encoding="utf-8"))
      unreadable = predict_all(given, argv[1:], file)
  except BrokenPipeError:
    # Whoever reads the lines has had enough, as `head` does.
    sys.stderr.close()
    sys.exit(0)
  if unreadable:
    sys.exit(UNREADABLE)


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", None, "Folder of a trained run.")
  flags.DEFINE_string(
    "bundle",
    None,
    "A .safetensors file of emosynth_jax.bundle. Without it and without "
    "--workdir, the network that comes with the package.",
  )
  flags.DEFINE_enum(
    "faces",
    "detect",
    list(predict.FACES),
    "detect: look for faces. none: every picture is one cropped face.",
  )
  flags.DEFINE_float(
    "min_confidence", 0.5, "Below this calibrated probability a label is 'uncertain'."
  )
  flags.DEFINE_float("min_face_score", 0.5, "Least score of a face, in (0, 1).")
  flags.DEFINE_integer(
    "max_side", 640, "Longer side, in pixels, at which faces are looked for.", 64
  )
  flags.DEFINE_integer("batch_size", 8, "Faces at a time.", 1)
  flags.DEFINE_enum("format", "jsonl", list(FORMATS), "Of the lines.")
  flags.DEFINE_string("output", None, "File of the lines; by default standard output.")
  flags.DEFINE_string("annotate", None, "Folder for pictures and videos with boxes.")
  flags.DEFINE_integer("every", 1, "Of a video, each so many frames one is taken.", 1)
  flags.DEFINE_integer("max_frames", 0, "At most so many of a video; 0 for all.", 0)
  flags.DEFINE_string(
    "data_dir", None, "Where a run's data set is, if it was never calibrated."
  )
  command_line.define_traceback()
