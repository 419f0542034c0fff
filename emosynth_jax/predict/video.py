"""Frames of video files and webcams, with timestamps."""

import os
import pathlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np

# Default frame rate if a file or webcam reports none or an invalid one.
_USUAL_RATE = 25.0


class Frame(NamedTuple):
  """An image, or the error that prevented reading it.

  Attributes:
    source: the file's path as given or found, or "webcam 0".
    name: a relative path for outputs.
    picture: uint8 `(H, W, 3)`, RGB and upright; None if unreadable.
    error: the error if unreadable; "" otherwise.
    number: of the frame in a video, from 0; None for an image.
    seconds: its time in the video, or since a webcam's first frame; None for an image.
    rate: frames a second of the video, as it states them; None for an image.
  """

  source: str
  name: pathlib.PurePath
  picture: np.ndarray | None
  error: str = ""
  number: int | None = None
  seconds: float | None = None
  rate: float | None = None


def read_file(
  path: pathlib.Path, name: pathlib.PurePath, *, every: int = 1, max_frames: int = 0
) -> Iterator[Frame]:
  """Yields the frames of a video file.

  A file that ends before its stated length yields an error after its frames.

  Args:
    path: of the file.
    name: for `Frame.name`.
    every: take one of every so many frames; the others are not converted.
    max_frames: maximum number of frames; 0 for all.

  Yields:
    Frames. Their times are the file's own. Missing times are computed from the stated
    rate.
  """
  try:
    os.fspath(path).encode()
  except UnicodeEncodeError:
    yield Frame(
      str(path),
      name,
      None,
      "OpenCV only opens videos with UTF-8 names; rename the file",
    )
    return
  capture: Any = cv2.VideoCapture(str(path))
  try:
    rate = _rate(capture)
    seconds: float | None = None

    def clock() -> float:
      nonlocal seconds
      stated = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
      if seconds is None:
        seconds = stated if 0 <= stated < float("inf") else 0.0
      # Some containers report 0 for frames without a timestamp.
      elif seconds < stated < float("inf"):
        seconds = stated
      else:
        seconds += 1 / rate
      return seconds

    frames = yield from _read(capture, str(path), name, clock, every, max_frames)
    if frames is None:
      return
    if not frames:
      yield Frame(str(path), name, None, "no frame can be decoded")
    elif is_cut_off(
      frames,
      (seconds or 0.0) + 1 / rate,
      stated_frames=capture.get(cv2.CAP_PROP_FRAME_COUNT),
      stated_rate=capture.get(cv2.CAP_PROP_FPS),
    ):
      yield Frame(
        str(path),
        name,
        None,
        f"truncated or damaged: ends after {frames} of "
        f"{capture.get(cv2.CAP_PROP_FRAME_COUNT):.0f} frames",
      )
  finally:
    capture.release()


def read_webcam(number: int, *, every: int = 1, max_frames: int = 0) -> Iterator[Frame]:
  """Yields the frames of a webcam; ends with an error, unless `max_frames` is reached.

  Args:
    number: the webcam's.
    every: as in `read_file`.
    max_frames: as in `read_file`.

  Yields:
    Frames. Their times are from the computer's clock.
  """
  source, name = webcam_name(number), pathlib.PurePath(f"webcam{number}")
  capture: Any = cv2.VideoCapture(number)
  try:
    began: float | None = None

    def clock() -> float:
      nonlocal began
      now = time.monotonic()
      began = now if began is None else began
      return now - began

    frames = yield from _read(capture, source, name, clock, every, max_frames)
    if frames is not None:
      error = f"the webcam stopped after {frames} frames"
      yield Frame(source, name, None, error if frames else "no frame can be decoded")
  finally:
    capture.release()


def webcam_name(number: int) -> str:
  """`Frame.source` of a webcam."""
  return f"webcam {number}"


def is_cut_off(
  frames: int, seconds: float, *, stated_frames: float, stated_rate: float
) -> bool:
  """Returns whether a file ended well before its stated end.

  Many containers state a length from which the number of frames is only estimated, and
  sound may continue after the last frame. Therefore both must be short, by more than
  two frames and 1/10, or ten seconds if that is less.

  Args:
    frames: number of frames read.
    seconds: end time of the last frame.
    stated_frames: stated number of frames; not above 0 if unknown.
    stated_rate: frames a second.

  Returns:
    True if it was truncated; False if not, or unknown.
  """
  if not (0 < stated_frames < float("inf") and 0 < stated_rate < float("inf")):
    return False
  allowed = max(2.0, min(stated_frames / 10, 10 * stated_rate))
  return (
    stated_frames - frames > allowed
    and stated_frames / stated_rate - seconds > allowed / stated_rate
  )


def _rate(capture: Any) -> float:
  rate = capture.get(cv2.CAP_PROP_FPS)
  return rate if 0 < rate < 1000 else _USUAL_RATE


def _read(
  capture: Any,
  source: str,
  name: pathlib.PurePath,
  clock: Callable[[], float],
  every: int,
  max_frames: int,
) -> Generator[Frame, None, int | None]:
  """Yields frames; returns their number, or None if `max_frames` was reached."""
  rate = _rate(capture) / every
  index = taken = 0
  while capture.grab():
    seconds = clock()
    if index % every == 0:
      is_there, picture = capture.retrieve()
      if is_there:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        yield Frame(source, name, picture, "", index, seconds, rate)
      else:
        error = "the frame cannot be decoded"
        yield Frame(source, name, None, error, index, seconds, rate)
      taken += 1
      if taken == max_frames:
        return None
    index += 1
  return index
