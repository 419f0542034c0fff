"""Graceful shutdown on SIGTERM and Ctrl-C."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, Self

_NUMBERS = (signal.SIGTERM, signal.SIGINT)
_NAMES: dict[int, str] = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
# A process that a signal ends has this plus its number as exit code in a shell.
EXIT_CODE = 128
# Written to the watcher's pipe at the end; no signal has this number.
_END = b"\0"


class StopSignal:
  """Context in which the first SIGTERM or SIGINT only sets `number` to the signal's.

  It is announced at once, also while compiled code runs, which Python's signal handlers
  wait for. A second signal stops immediately: it has its previous effect, or ends the
  process if that belongs to the command.

  Outside of the main thread, where Python allows no signal handlers, it does nothing.

  Attributes:
    number: the first signal's number, 0 before.
    reason: why it stops, if not for a signal.
    at_once: while not None, the first signal ends the process as well, after a call of
      this function; only with `ends_process`.
    by_all: whether all processes of a job stop, at one step.
  """

  def __init__(self, *, ends_process: bool = False):
    """Creates the context manager.

    Args:
      ends_process: whether the process is a command of its own, which a second signal
        ends; False in a notebook or a test.
    """
    self.number = 0
    self.reason = ""
    self.at_once: Callable[[], None] | None = None
    self.by_all = False
    self._ends_process = ends_process
    self._handled = self._received = 0
    self._previous: dict[int, object] = {}

  def __enter__(self) -> Self:
    if threading.current_thread() is not threading.main_thread():
      return self
    for number in _NUMBERS:
      self._previous[number] = signal.signal(number, self._handle)

    # The interpreter writes the number of each signal to this pipe as it arrives.
    reading, self._writing = os.pipe()
    os.set_blocking(self._writing, False)
    self._previous_fd = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
    self._watcher = threading.Thread(target=self._watch, args=(reading,), daemon=True)
    self._watcher.start()
    return self

  def __exit__(self, *exception: object) -> None:
    if not self._previous:
      return
    # A command that contains this one has to end as interrupted.
    outer = getattr(self._previous[signal.SIGINT], "__self__", None)
    if isinstance(outer, StopSignal):
      outer.number = outer.number or self.number
    self._restore()
    # Closing the pipe is not enough: a forked process may hold a copy of this end.
    os.write(self._writing, _END)
    self._watcher.join()
    os.close(self._writing)

  def _watch(self, reading: int) -> None:
    """Reacts to each signal, in a thread of its own."""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
      while (received := pipe.read(1)) not in (b"", _END):
        if received[0] in _NUMBERS:
          self._receive(received[0])

  def _receive(self, number: int) -> None:
    self._received += 1
    self.number = self.number or number
    is_second, cleanup = self._received > 1, self.at_once
    if self._ends_process and (is_second or cleanup is not None):
      say(f"stopped by {_NAMES[self.number]}")
      if cleanup is not None:
        with contextlib.suppress(Exception):
          cleanup()
      end_process(number)
    if not is_second:
      say(
        f"{_NAMES[number]}: stopping after this step; "
        f"{'Ctrl-C again' if number == signal.SIGINT else 'a second one'} stops now"
      )

  def _handle(self, number: int, frame: FrameType | None) -> None:
    """Python's handler, which runs between two calls of compiled code."""
    self.number = self.number or number
    self._handled += 1
    # Signals that arrive during one call are handled once.
    if not self._ends_process and max(self._handled, self._received) > 1:
      self._restore()
      signal.raise_signal(number)

  def _restore(self) -> None:
    signal.set_wakeup_fd(self._previous_fd)
    for number, handler in self._previous.items():
      signal.signal(number, handler)  # type: ignore[arg-type]


def say(text: str) -> None:
  """Writes a line to standard error; safe while another thread writes there."""
  line = f"\n{text}\n"
  try:
    os.write(sys.stderr.fileno(), line.encode())
  except (OSError, ValueError, AttributeError):
    # Not a file, as in a notebook.
    with contextlib.suppress(Exception):
      sys.stderr.write(line)


def end_process(number: int) -> NoReturn:
  """Ends this process by a signal's default action, from any thread.

  A shell then ends a loop around the command, which it does not for an exit code alone,
  and reports 128 plus the signal's number.

  Args:
    number: of SIGINT or SIGTERM.
  """
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(Exception):
      stream.flush()
  # `signal.signal` would be refused outside of the main thread.
  ctypes.pythonapi.PyOS_setsig(number, None)
  os.kill(os.getpid(), number)
  # Only for the first process of a container, which no such signal ends.
  os._exit(EXIT_CODE + number)
