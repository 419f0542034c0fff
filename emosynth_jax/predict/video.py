"""Frames of video files and webcams, with timestamps."""

import pathlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import cv2

from emosynth_jax.predict import sources
from emosynth_jax.predict.frame import Frame

NO_FRAME = "no frame can be decoded"
_STOPPED = "the {} stopped after {} frames"

# Default frame rate if a file or webcam reports none or an invalid one.
_USUAL_RATE = 25.0


def read_file(
  path: str | pathlib.Path,
  name: pathlib.PurePath,
  *,
  every: int = 1,
  max_frames: int = 0,
) -> Iterator[Frame]:
  """Yields the frames of a video file, or of a stream as of rtsp:// or https://.

  A file that ends before its stated length yields an error after its frames; the end of
  a camera's stream is an error, unless `max_frames` is reached.

  Args:
    path: of the file, or the address, which OpenCV's FFmpeg opens.
    name: for `Frame.name`.
    every: take one of every so many frames; the others are not converted.
    max_frames: maximum number of frames; 0 for all.

  Yields:
    Frames. Their times are the file's own. Missing times are computed from the stated
    rate. Their source is the path, an address without its password.
  """
  device = str(path)
  source = sources.shown(device)
  try:
    device.encode()
  except UnicodeEncodeError:
    error = "OpenCV only opens videos with UTF-8 names; rename the file"
    yield Frame(source, name, None, error)
    return

  capture: Any = cv2.VideoCapture(device)
  try:
    rate = _rate(capture)
    seconds: float | None = None
    start = 0.0

    def clock() -> float:
      nonlocal seconds, start
      stated = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
      if seconds is None:
        start = capture.get(cv2.CAP_PROP_PTS)
        seconds = stated if 0 <= stated < float("inf") else 0.0
      # Some containers report 0 for frames without a timestamp.
      elif seconds < stated < float("inf"):
        seconds = stated
      else:
        seconds += 1 / rate
      return seconds

    frames = yield from _read(capture, source, name, clock, every, max_frames)
    if frames is None:
      return
    error = _error_at_end(capture, frames, (seconds or 0.0) + 1 / rate, start)
    if frames and sources.is_live(device):
      error = _STOPPED.format("stream", frames)
    if error:
      yield Frame(source, name, None, error)
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
  source, name = f"webcam {number}", pathlib.PurePath(f"webcam{number}")
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
      error = _STOPPED.format("webcam", frames) if frames else NO_FRAME
      yield Frame(source, name, None, error)
  finally:
    capture.release()


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


def frames_from_start(stated_frames: float, start: float) -> float:
  """Number of frames that a file states, from its first frame on.

  A segment of a longer video may keep its times: Matroska's duration is the time at the
  end, and the number that OpenCV derives from it counts from time zero. MP4's does not.

  Args:
    stated_frames: number of frames that OpenCV states.
    start: time of the first frame on the file's clock, in frames.

  Returns:
    `stated_frames`, less `start` where the number can contain it.
  """
  return stated_frames - start if 0 < start < stated_frames else stated_frames


def _error_at_end(capture: Any, frames: int, seconds: float, start: float) -> str:
  """Describes the error of a file that ended; "" if there is none."""
  if not frames:
    codec = int(capture.get(cv2.CAP_PROP_FOURCC))
    name = codec.to_bytes(4, "little", signed=True).decode("ascii", "replace").strip()
    if not (capture.isOpened() and name.isprintable() and name):
      return NO_FRAME
    return (
      f"{NO_FRAME}: it is damaged, or OpenCV can't decode its codec {name} here; then "
      "convert it, as by ffmpeg -i FILE -c:v libx264 NEW.mp4"
    )
  stated = frames_from_start(capture.get(cv2.CAP_PROP_FRAME_COUNT), start)
  rate = capture.get(cv2.CAP_PROP_FPS)
  if is_cut_off(frames, seconds, stated_frames=stated, stated_rate=rate):
    return f"truncated or damaged: ends after {frames} of {stated:.0f} frames"
  return ""


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
      is_there, image = capture.retrieve()
      if is_there:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        yield Frame(source, name, image, "", index, seconds, rate)
      else:
        error = "the frame cannot be decoded"
        yield Frame(source, name, None, error, index, seconds, rate)
      taken += 1
      if taken == max_frames:
        return None
    index += 1

  return index
