"""Benchmark of a service's memory: its growth over many calls of one predictor.

  python -m benchmarks.predictor_memory

Calls with cropped faces, then calls with the detector, on images of noise of a few
shapes, from several threads. Growth is that of the resident memory after the first 200
calls, by which time everything is compiled and loaded. Exits with 1 if it is 20 MiB or
more.
"""

import concurrent.futures
import itertools
import sys
from typing import Any

import numpy as np
from absl import flags

from benchmarks import measure
from emosynth_jax.predict import Predictor
from emosynth_jax.utils import cli

FIRST = 200
LIMIT = 20.0  # MiB
SHAPES = ((48, 48, 1), (160, 120, 3), (120, 160, 3))


def grow(predictor: Any, calls: int, threads: int) -> tuple[float, float, float]:
  """Resident memory before the calls, after the first 200, and after all, in MiB."""
  rng = np.random.default_rng(0)
  images = [rng.integers(0, 256, shape, np.uint8) for shape in SHAPES]
  before = measure.resident_memory()
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    list(pool.map(predictor, itertools.islice(itertools.cycle(images), FIRST)))
    early = measure.resident_memory()
    rest = itertools.islice(itertools.cycle(images), calls - FIRST)
    # A thousand at a time, since the pool would hold a future for each.
    while part := list(itertools.islice(rest, 1000)):
      list(pool.map(predictor, part))
  return before, early, measure.resident_memory()


def print_rows(args: Any) -> None:
  """Prints a row for each kind of call."""
  is_grown = False
  for faces, calls in (("none", args.calls), ("detect", args.detections)):
    if calls <= FIRST:
      continue
    predictor = Predictor("fer2013", faces=faces, batch_size=1)
    before, early, after = grow(predictor, calls, args.threads)
    is_grown |= after - early >= LIMIT
    print(
      f"faces={faces!r}: {calls} calls from {args.threads} threads: {before:.0f} MiB "
      f"before, {early:.0f} after {FIRST}, {after:.0f} after all: "
      f"{after - early:+.1f} MiB",
      flush=True,
    )
  if is_grown:
    sys.exit(1)


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_integer("calls", 10_000, "Calls with cropped faces; 0 for none.", 0)
  flags.DEFINE_integer("detections", 500, "Calls with the detector; 0 for none.", 0)
  flags.DEFINE_integer("threads", 4, "Threads that call.", 1)


if __name__ == "__main__":
  cli.run(define_flags, print_rows, compilation_cache=False)
