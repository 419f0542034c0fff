"""Implementation of the command emosynth_jax.predict.

JSON lines have one object for each image or frame:

  {"source", "frame", "seconds", "faces": [{"box", "detection_score", "angle",
   "label", "confidence", "probabilities"}, ...]}        or {"source", "error"}

CSV has one row for each face, and one with an empty label for an image without faces.
The exit code is 0, 1 for invalid arguments, 2 if a source could not be read (each has a
line), or 130 (Ctrl-C) and 143 (SIGTERM) if interrupted before all sources were read.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from emosynth_jax import pretrained
from emosynth_jax.predict import output as predict_output
from emosynth_jax.predict import sources as predict_sources
from emosynth_jax.predict.frame import Frame
from emosynth_jax.predict.labels import UNREADABLE
from emosynth_jax.pretrained import source_flags
from emosynth_jax.utils import cli, stop_signal


def check(args: Any, sources: Sequence[str]) -> None:
  """Checks the command's arguments as far as names can tell; a mistake exits.

  Args:
    args: the flags.
    sources: images, folders and so on.
  """
  if not sources:
    cli.fail("expected images, folders, videos or a webcam's number, as in photo.jpg")
  with cli.mistakes_in_one_line(args.traceback):
    source_flags.read_source(args)
  if args.bundle and not pretrained.find(args.bundle).exists():
    cli.fail(
      f"--bundle: there is no bundle at {args.bundle}, and no included network of "
      f"this name ({', '.join(pretrained.NETWORKS)})"
    )
  if args.workdir and not os.path.isdir(args.workdir):
    cli.fail(
      f"--workdir: expected the folder of a trained run, there is no {args.workdir}"
    )
  if list(sources).count(predict_sources.STANDARD_INPUT) > 1:
    cli.fail("expected - for standard input once")


def main(argv: list[str]) -> None:
  """Runs the command; invalid input exits with a one-line error."""
  args = flags.FLAGS
  sources = argv[1:]
  check(args, sources)
  cli.start_logging()
  try:
    with cli.mistakes_in_one_line(args.traceback):
      # Before an earlier output is overwritten.
      if args.output:
        network = [str(pretrained.find(args.bundle))] if args.bundle else []
        predict_output.check_output(args.output, [*sources, *network])
      code = _predict(args, sources)
  except KeyboardInterrupt:
    # The second signal, or one before the first image.
    sys.exit(stop_signal.EXIT_CODE + signal.SIGINT)

  if code:
    sys.exit(code)


def _predict(args: Any, sources: Sequence[str]) -> int:
  """Returns the exit code."""
  missing = predict_sources.missing(sources)
  for source in missing:
    logging.error("%s: %s", source, predict_sources.MISSING)
  if len(missing) == len(sources):
    # No network is loaded, which takes longer than reading one's own mistake.
    with predict_output.open_lines(args.output) as file:
      write = predict_output.writer(args.format, file, ())
      for found in predict_sources.find(sources):
        write(Frame(found.path, found.name, None, found.error), ())
    return UNREADABLE

  # Here, since it imports JAX.
  from emosynth_jax.predict import loop

  cli.use_compilation_cache()
  predictor = loop.build_predictor(args)
  with predict_output.open_lines(args.output) as file:
    return loop.predict_all(predictor, args, sources, file)
