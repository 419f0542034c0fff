"""Progress lines with throughput and ETA."""

import time

from absl import logging


class Progress:
  """Logs the progress of a run, at most every few seconds."""

  def __init__(self, *, first: int, total: int, interval: float = 10.0):
    """Starts the clock.

    Args:
      first: units done before (by a resumed run).
      total: units in all.
      interval: seconds between lines.
    """
    self._first = first
    self._total = total
    self._interval = interval
    self._start = self._last = time.monotonic()

  def update(self, done: int, text: str, *, images_per_unit: int) -> None:
    """Logs a line if the last one is old enough.

    Args:
      done: units done, those before the start included.
      text: beginning of the line.
      images_per_unit: for the throughput.
    """
    now = time.monotonic()
    if now - self._last < self._interval and done < self._total:
      return

    self._last = now
    rate = (done - self._first) / max(now - self._start, 1e-9)
    left = (self._total - done) / max(rate, 1e-9)
    logging.info(
      "%s | %.0f images/s | ETA %s", text, rate * images_per_unit, clock(left)
    )


def clock(seconds: float) -> str:
  """Formats seconds as h:mm:ss."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}"
