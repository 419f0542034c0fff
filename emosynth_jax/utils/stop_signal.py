"""Graceful shutdown on SIGTERM and Ctrl-C."""

import signal
from types import FrameType
from typing import Self


class StopSignal:
  """Context in which the first SIGTERM or SIGINT only sets `number` to the signal's.

  A second one has its default effect, to stop immediately.
  """

  def __init__(self) -> None:
    self.number = 0
    # The reason of a stop that was not a signal.
    self.reason = ""
    self._previous: dict[int, object] = {}

  def __enter__(self) -> Self:
    for number in (signal.SIGTERM, signal.SIGINT):
      self._previous[number] = signal.signal(number, self._handle)
    return self

  def __exit__(self, *exception: object) -> None:
    self._restore()

  def _handle(self, number: int, frame: FrameType | None) -> None:
    self.number = number
    self._restore()

  def _restore(self) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)  # type: ignore[arg-type]
    self._previous = {}
