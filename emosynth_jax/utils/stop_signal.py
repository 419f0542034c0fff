"""SIGTERM and Ctrl-C as a question that the training loop asks between programs."""

import signal
from types import FrameType
from typing import Self


class StopSignal:
  """While entered, the first SIGTERM or SIGINT only sets `number` to its own.

  A second one acts as it would have without this class, for who can't wait.
  """

  def __init__(self) -> None:
    self.number = 0
    # What else than a signal stopped the runs, in words.
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
