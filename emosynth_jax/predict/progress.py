"""Progress of predictions on standard error, with rate and ETA."""

import sys
import time
from typing import Self

from absl import logging

from emosynth_jax.utils.progress import clock

_WIDTH = 24


class Progress:
  """Context that shows progress: a bar on a terminal, else a line now and then."""

  def __init__(self, total: int | None, *, is_alone: bool):
    """Shows nothing yet.

    Args:
      total: number of images; None if unknown, as with videos.
      is_alone: whether no other output goes to the terminal.
    """
    self._total = total
    self._is_bar = is_alone and sys.stderr.isatty()
    self._interval = 0.2 if self._is_bar else 10.0
    self._last = time.monotonic()

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *exception: object) -> None:
    if self._is_bar:
      print("\r\033[K", end="", file=sys.stderr, flush=True)

  def update(self, done: int, seconds: float) -> None:
    """Shows the progress, if the last time was long enough ago.

    Args:
      done: number of images.
      seconds: that they took, without compilation.
    """
    now = time.monotonic()
    if now - self._last < self._interval:
      return
    self._last = now
    if self._is_bar:
      line = f"\r\033[K{describe(done, self._total, seconds, is_bar=True)}"
      print(line, end="", file=sys.stderr, flush=True)
    else:
      logging.info("%s", describe(done, self._total, seconds, is_bar=False))


def describe(done: int, total: int | None, seconds: float, *, is_bar: bool) -> str:
  """Formats progress as in "340/1,000 images | 23.1 images/s | ETA 0:00:29".

  Args:
    done: number of images.
    total: number of all; None if unknown.
    seconds: that those took.
    is_bar: whether the line begins with a bar.

  Returns:
    The line.
  """
  rate = done / max(seconds, 1e-9)
  if total is None:
    return f"{done:,} images | {rate:.1f} images/s"
  filled = round(_WIDTH * done / max(total, 1))
  bar = f"[{'#' * filled}{'-' * (_WIDTH - filled)}] " if is_bar else ""
  left = clock((total - done) / max(rate, 1e-9))
  return f"{bar}{done:,}/{total:,} images | {rate:.1f} images/s | ETA {left}"
