"""The loop of the command emosynth_jax.predict: reads, predicts and writes."""

import contextlib
import errno
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

import tqdm
from absl import logging

from emosynth_jax.data.images import decoding
from emosynth_jax.predict import annotate, media
from emosynth_jax.predict import output as predict_output
from emosynth_jax.predict import predictor as predictor_module
from emosynth_jax.predict import sources as predict_sources
from emosynth_jax.predict import timing as predict_timing
from emosynth_jax.predict.labels import UNREADABLE
from emosynth_jax.pretrained import source_flags
from emosynth_jax.utils import stop_signal

# Between two lines of progress, where there is no bar.
_SECONDS_PER_LINE = 10.0


def build_predictor(args: Any) -> predictor_module.Predictor:
  """Builds the predictor from the flags; nothing is compiled yet.

  Args:
    args: the flags.

  Returns:
    The predictor.

  Raises:
    FileNotFoundError, ModuleNotFoundError, ValueError: as `predict.Predictor`.
  """
  return predictor_module.Predictor(
    source_flags.read_source(args),
    faces=args.faces,
    min_confidence=args.min_confidence,
    min_face_score=args.min_face_score,
    max_side=args.max_side,
    max_scale=args.max_scale,
    upright=args.upright,
    batch_size=args.batch_size,
    data_dir=args.data_dir,
  )


def describe_progress(done: int, total: int | None, seconds: float) -> str:
  """Formats progress as in "340/1,000 images, 23.10 images/s, ETA 00:29"."""
  known = "{n:,}/{total:,} images, {rate_noinv_fmt}, ETA {remaining}"
  form = "{n:,} images, {rate_noinv_fmt}" if total is None else known
  return tqdm.tqdm.format_meter(done, total, seconds, unit=" images", bar_format=form)


def _open_bar(total: int | None, has_file: bool) -> Any:
  """A progress bar, disabled unless it has the terminal to itself."""
  is_alone = has_file or not sys.stdout.isatty()
  return tqdm.tqdm(
    total=total,
    unit=" images",
    leave=False,
    mininterval=0.2,
    disable=not (is_alone and sys.stderr.isatty()),
  )


def predict_all(
  predictor: predictor_module.Predictor,
  args: Any,
  sources: Sequence[str],
  file: TextIO,
) -> int:
  """Predicts on all sources, writes the results and prints the speed.

  On the first Ctrl-C or SIGTERM, images already read are processed, and no more are
  read.

  Args:
    predictor: the predictor.
    args: the flags.
    sources: as `sources.find` takes them.
    file: the output file.

  Returns:
    The exit code.
  """
  write = predict_output.writer(args.format, file, predictor.network.class_names)
  passed_over: Counter[str] = Counter()
  found = list(predict_sources.find(sources, passed_over))
  frames = media.read_all(found, every=args.every, max_frames=args.max_frames)
  endless = None
  if predict_sources.is_live(sources[-1]) and not args.max_frames:
    endless = predict_sources.shown(sources[-1])
  live = any(map(predict_sources.is_live, sources))
  # Standard input may be a video.
  uncounted = {"video", "stream", "webcam", "stdin"}
  is_countable = not {source.kind for source in found} & uncounted
  total = len(found) if is_countable else None
  reported = set(predict_sources.missing(sources))
  counts = {"images": 0, "faces": 0, "uncertain": 0, "unreadable": 0}
  is_incomplete = False
  began, drawing = time.monotonic(), 0.0

  with contextlib.ExitStack() as stack:
    writer = annotate.Writer(args.annotate, sources) if args.annotate else None
    if writer:
      stack.enter_context(writer)
    stop = stack.enter_context(stop_signal.StopSignal())
    bar = stack.enter_context(_open_bar(total, bool(args.output)))
    stack.enter_context(warnings.catch_warnings())
    decoding.log_warnings_by_file()

    def read() -> Iterator[tuple[Any, Any]]:
      nonlocal is_incomplete
      for frame in frames:
        if stop.number:
          # A webcam is ended by an interrupt.
          is_incomplete = frame.source != endless
          return
        yield frame._replace(image=None), frame.image

    answers = predictor.stream(
      read(),
      max_waiting=1 if live else None,
      keep_images=writer is not None,
    )
    show = _progress_lines(bar, total, began)
    for number, (frame, image, predictions) in enumerate(answers, start=1):
      show(number, predictor.timing)
      write(frame, predictions)
      if frame.error and frame.source not in reported:
        logging.error("%s: %s", frame.source, frame.error)
      _count(counts, frame, predictions)
      if writer and image is not None and not frame.error:
        start = time.monotonic()
        counts["unreadable"] += not _draw(writer, frame, image, predictions)
        drawing += time.monotonic() - start

  timing = predictor.timing
  seconds = time.monotonic() - began - drawing - timing.compilation - timing.loading
  print(
    predict_timing.describe(counts, seconds, timing, args.batch_size, passed_over),
    file=sys.stderr,
  )
  if is_incomplete:
    print("stopped before all sources were processed", file=sys.stderr)
    return stop_signal.EXIT_CODE + stop.number
  return UNREADABLE if counts["unreadable"] else 0


def _progress_lines(
  bar: Any, total: int | None, began: float
) -> Callable[[int, predict_timing.Timing], None]:
  """A function that moves the bar on or, where there is none, logs a line now and then.

  It takes the number of images done and the time so far.
  """
  last_line = began

  def show(number: int, timing: predict_timing.Timing) -> None:
    nonlocal last_line
    bar.update()
    if bar.disable and time.monotonic() - last_line >= _SECONDS_PER_LINE:
      last_line = time.monotonic()
      seconds = last_line - began - timing.compilation - timing.loading
      logging.info("%s", describe_progress(number, total, seconds))

  return show


def _count(counts: dict[str, int], frame: Any, predictions: Sequence[Any]) -> None:
  """Adds an image to the counts."""
  if frame.error:
    counts["unreadable"] += 1
    return

  counts["images"] += 1
  counts["faces"] += len(predictions)
  counts["uncertain"] += sum(
    prediction.label == predictor_module.UNCERTAIN for prediction in predictions
  )


def _draw(
  writer: annotate.Writer, frame: Any, image: Any, predictions: Sequence[Any]
) -> bool:
  """Writes the image with its faces; False if its name is too long for a file."""
  try:
    writer.write(frame, annotate.draw(image, predictions))
  except OSError as error:
    if error.errno != errno.ENAMETOOLONG:
      raise
    logging.error("%s: it was not drawn, as its name is too long", frame.source)
    return False
  return True
