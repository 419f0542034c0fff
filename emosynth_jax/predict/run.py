"""Implementation of the command emosynth_jax.predict.

JSON lines have one object for each image or frame:

  {"source", "frame", "seconds", "faces": [{"box", "detection_score", "label",
   "confidence", "probabilities"}, ...]}        or {"source", "error"}

CSV has one row for each face, and one with an empty label for an image without faces.
The exit code is 0, 1 for invalid arguments, 2 if a source could not be read (each has a
line), or 130 (Ctrl-C) and 143 (SIGTERM) if interrupted before all sources were read.
"""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from absl import flags, logging

from emosynth_jax.predict import annotate, media
from emosynth_jax.predict import output as predict_output
from emosynth_jax.predict import predictor as predictor_module
from emosynth_jax.predict import timing as predict_timing
from emosynth_jax.utils import cli, stop_signal

UNREADABLE = 2
# Added to a signal's number, as in shells.
_STOPPED = 128


def build_predictor(given: Any) -> predictor_module.Predictor:
  """Builds the predictor from the flags; nothing is compiled yet.

  Args:
    given: the flags.

  Returns:
    The predictor.

  Raises:
    FileNotFoundError, ModuleNotFoundError, ValueError: as `predict.Predictor`.
  """
  return predictor_module.Predictor(
    given.workdir or given.bundle,
    faces=given.faces,
    min_confidence=given.min_confidence,
    min_face_score=given.min_face_score,
    max_side=given.max_side,
    max_scale=given.max_scale,
    batch_size=given.batch_size,
    data_dir=given.data_dir,
  )


def predict_all(
  predictor: predictor_module.Predictor,
  given: Any,
  sources: Sequence[str],
  file: TextIO,
) -> int:
  """Predicts on all sources, writes the results and prints the speed.

  On the first Ctrl-C or SIGTERM, images already read are processed, and no more are
  read.

  Args:
    predictor: the predictor.
    given: the flags.
    sources: as `media.read_all` takes them.
    file: the output file.

  Returns:
    The exit code.
  """
  if given.format == "csv":
    write = predict_output.csv_writer(file, predictor.network.class_names)
  else:
    write = predict_output.json_writer(file)
  passed_over: Counter[str] = Counter()
  frames = media.read_all(
    sources,
    every=given.every,
    max_frames=given.max_frames,
    passed_over=passed_over,
  )
  endless = None
  if media.is_webcam(sources[-1]) and not given.max_frames:
    endless = media.webcam_name(sources[-1])
  is_incomplete = False
  counts = {"pictures": 0, "faces": 0, "uncertain": 0, "unreadable": 0}
  began = last = time.monotonic()
  drawing = 0.0
  with contextlib.ExitStack() as stack:
    writer = annotate.Writer(given.annotate, sources) if given.annotate else None
    if writer:
      stack.enter_context(writer)
    stop = stack.enter_context(stop_signal.StopSignal())

    def read() -> Iterator[tuple[Any, Any]]:
      nonlocal is_incomplete
      for frame in frames:
        if stop.number:
          # A webcam is ended by an interrupt.
          is_incomplete = frame.source != endless
          return
        yield frame._replace(picture=None), frame.picture

    answers = predictor.stream(
      read(),
      max_waiting=1 if any(map(media.is_webcam, sources)) else None,
      keep_pictures=writer is not None,
    )
    for frame, picture, predictions in answers:
      write(frame, predictions)
      if frame.error:
        counts["unreadable"] += 1
        logging.error("%s: %s", frame.source, frame.error)
        continue
      counts["pictures"] += 1
      counts["faces"] += len(predictions)
      counts["uncertain"] += sum(
        prediction.label == predictor_module.UNCERTAIN for prediction in predictions
      )
      if writer and picture is not None:
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
  timing = predictor.timing
  seconds = time.monotonic() - began - drawing - timing.compilation - timing.loading
  print(
    predict_timing.describe(counts, seconds, timing, given.batch_size, passed_over),
    file=sys.stderr,
  )
  if is_incomplete:
    print("stopped before all sources were processed", file=sys.stderr)
    return _STOPPED + stop.number
  return UNREADABLE if counts["unreadable"] else 0


def main(argv: list[str]) -> None:
  """Runs the command; invalid input exits with a one-line error."""
  given = flags.FLAGS
  sources = argv[1:]
  if not sources:
    cli.fail("expected images, folders, videos or a webcam's number")
  if given.workdir and given.bundle:
    cli.fail("expected --workdir or --bundle, not both")
  cli.start_logging()
  cli.use_compilation_cache()
  try:
    with cli.mistakes_in_one_line(given.traceback):
      # Before an earlier output is overwritten.
      if given.output:
        network = [given.bundle] if given.bundle else []
        predict_output.check_output(given.output, [*sources, *network])
      predictor = build_predictor(given)
      with predict_output.open_lines(given.output) as file:
        code = predict_all(predictor, given, sources, file)
  except KeyboardInterrupt:
    # The second signal, or one before the first image.
    sys.exit(_STOPPED + 2)
  if code:
    sys.exit(code)
