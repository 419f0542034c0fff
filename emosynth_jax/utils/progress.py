"""Progress with throughput and ETA: a bar on a terminal or in a notebook, or lines."""

import collections
import contextlib
import os
import shutil
import sys
import threading
import time
import weakref

import tqdm
from absl import logging

from emosynth_jax.utils import notebook

# Calls over which the rate is averaged.
_WINDOW = 20
# Minimum between two updates of a notebook's cell.
_SECONDS_IN_CELL = 0.5
_OPEN: weakref.WeakSet = weakref.WeakSet()


class Progress:
  """Progress of a computation that begins with a compilation.

  On a terminal or in a notebook a bar; elsewhere a log line every few seconds. The
  lines also go to the run's log. The rate is that of the last steps, and neither it nor
  the ETA contain the first step, which compiles.
  """

  def __init__(self, *, first: int, total: int, interval: float = 10.0):
    """Starts the clock.

    Args:
      first: units done before (by a resumed run).
      total: units in all.
      interval: seconds between lines.
    """
    self._total = total
    self._interval = interval
    self._last_line = time.monotonic()
    # Moments and units done at that time, of the last calls.
    self._times: collections.deque[tuple[float, int]] = collections.deque(
      maxlen=_WINDOW
    )
    self._bar: tqdm.tqdm | None = None
    self._cell: notebook.Bar | None = None
    self._last_shown = 0.0
    # Since when the screen shows how long a compilation takes.
    self._waits_since = time.monotonic()
    if first < total:
      self._announce(first)

  def _announce(self, first: int) -> None:
    if notebook.is_running():
      self._cell = notebook.Bar(_own_name() + "compiling")
      return
    if not _is_terminal():
      logging.info("compiling; %s of %s done", f"{first:,}", f"{self._total:,}")
      return
    # No thread of its own that watches the bars.
    tqdm.tqdm.monitor_interval = 0
    self._bar = tqdm.tqdm(
      total=self._total,
      initial=first,
      desc=_own_name() + "compiling",
      bar_format="{desc} |{bar:20}| {percentage:3.0f} %{postfix}",
      file=sys.stderr,
      leave=False,
      # A terminal may not know its width.
      ncols=shutil.get_terminal_size().columns,
      mininterval=0,
    )
    _OPEN.add(self)
    _clear_for_log_lines()
    self._closed = threading.Event()
    threading.Thread(target=self._keep_drawn, args=(self._bar,), daemon=True).start()

  def _keep_drawn(self, bar: tqdm.tqdm) -> None:
    """Draws the bar each second: after log lines, and while nothing is done yet."""
    while not self._closed.wait(1.0):
      with tqdm.tqdm.get_lock():
        if self._closed.is_set():
          return
        if not self._times:
          bar.postfix = clock(time.monotonic() - self._waits_since)
        bar.refresh()

  def update(self, done: int, text: str, *, images_per_unit: int) -> None:
    """Shows progress; as a line only if the last one is old enough.

    Args:
      done: units done, those before the start included.
      text: beginning of the line.
      images_per_unit: for the throughput.
    """
    now = time.monotonic()
    self._times.append((now, done))
    is_drawn = self._bar is not None or self._cell is not None
    measured = _own_name() * is_drawn + text, self._measured(done, images_per_unit)
    if self._bar is not None:
      with tqdm.tqdm.get_lock():
        self._bar.n = done
        self._bar.desc, self._bar.postfix = measured
        self._bar.refresh()
    if self._cell is not None:
      if now - self._last_shown >= _SECONDS_IN_CELL or done >= self._total:
        self._last_shown = now
        self._cell.show(" | ".join(filter(None, measured)), done / self._total)

    if now - self._last_line >= self._interval or done >= self._total:
      self._last_line = now
      logging.get_absl_logger().info(
        "%s",
        " | ".join(filter(None, (text, measured[1]))),
        extra={"file_only": is_drawn},
      )
    if done >= self._total:
      self.close()

  def _measured(self, done: int, images_per_unit: int) -> str:
    """Throughput and ETA, from the second call on."""
    (then, before), (now, _) = self._times[0], self._times[-1]
    if done <= before:
      return ""
    rate = (done - before) / max(now - then, 1e-9)
    eta = clock((self._total - done) / rate)
    return f"{rate * images_per_unit:,.0f} images/s | ETA {eta}"

  def restart(self, *, next_compiles: bool = False) -> None:
    """Excludes the time since the last call, as of a further compilation.

    Args:
      next_compiles: excludes the time up to the next call, too.
    """
    done = self._times[-1][1] if self._times else None
    self._times.clear()
    self._waits_since = time.monotonic()
    if done is not None and not next_compiles:
      self._times.append((time.monotonic(), done))

  def close(self) -> None:
    """Removes the bar."""
    bar, self._bar = self._bar, None
    if bar is not None:
      self._closed.set()
      bar.close()
      _OPEN.discard(self)

  def clear(self) -> None:
    """Clears the bar's line until it is drawn again."""
    bar = self._bar
    if bar is not None:
      bar.clear()


def close_all() -> None:
  """Removes the bars of computations that failed."""
  for each in list(_OPEN):
    with contextlib.suppress(Exception):
      each.close()


def _is_terminal() -> bool:
  try:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
  except (AttributeError, ValueError):
    return False


def _own_name() -> str:
  """The name of a concurrent run's thread."""
  thread = threading.current_thread()
  return "" if thread is threading.main_thread() else f"{thread.name}: "


def _clear_for_log_lines() -> None:
  handler = logging.get_absl_handler()
  handler.removeFilter(_clear_bars)
  handler.addFilter(_clear_bars)


def _clear_bars(record: object) -> bool:
  if not getattr(record, "file_only", False):
    for each in list(_OPEN):
      each.clear()
  return True


def clock(seconds: float) -> str:
  """Formats seconds as h:mm:ss."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}"
