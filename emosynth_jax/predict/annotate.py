"""Annotation of images and videos with boxes and expressions."""

import io
import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emosynth_jax.utils import errors, files

_SURE = (28, 126, 60)
_UNSURE = (96, 96, 96)
_PAPER = (255, 255, 255)

# Smaller images are enlarged: otherwise the tag would not fit and hide the face.
_LEAST_WIDTH, _LEAST_HEIGHT = 192, 96
# Limit of the enlargement, for images of extreme shape.
_MOST = 2048
# Maximum duration in seconds for which a frame is repeated, whatever its timestamp.
_LONGEST_STILL = 60


def draw(image: np.ndarray, predictions: Sequence[Any]) -> np.ndarray:
  """Draws the faces' boxes with label and confidence.

  Args:
    image: uint8 `(H, W, 3)`, RGB.
    predictions: `predict.Prediction`s. One without a box applies to the whole image. An
      uncertain one has a gray box with the most probable label.

  Returns:
    A new image, uint8 `(f H, f W, 3)`: the factor f is 1, or an integer that makes room
    for a tag on an image of less than 192x96 pixels. It depends on the image's shape
    alone.
  """
  errors.expect_several("predictions", predictions)
  factor = _factor(*image.shape[:2])
  canvas = Image.fromarray(image.repeat(factor, axis=0).repeat(factor, axis=1))
  pen = ImageDraw.Draw(canvas)
  width, height = canvas.size
  line = max(1, min(round(max(height, width) / 300), min(height, width) // 20))
  for prediction in predictions:
    box = prediction.box or (0.0, 0.0, width / factor, height / factor)
    left, top, right, bottom = (round(factor * x) for x in box)
    right, bottom = min(right, width - 1), min(bottom, height - 1)
    most_probable = max(prediction.probabilities, key=prediction.probabilities.get)
    is_sure = prediction.label == most_probable
    text = f"{most_probable} {prediction.confidence:.0%}"
    text = text if is_sure else f"{prediction.label} ({text}?)"
    color = _SURE if is_sure else _UNSURE
    pen.rectangle((left, top, right, bottom), outline=color, width=line)
    font, (x0, y0, x1, y1) = _fit(
      pen, text, width - 2 * line - 2, height - 2 * line - 2
    )
    tag_width, tag_height = x1 - x0 + 2 * line + 2, y1 - y0 + 2 * line + 2
    # Above the face, or inside if there is no room; never outside of the image.
    y = top - tag_height if top >= tag_height else max(0, min(top, height - tag_height))
    x = max(0, min(left, width - tag_width))
    pen.rectangle((x, y, x + tag_width - 1, y + tag_height - 1), fill=color)
    pen.text((x - x0 + line + 1, y - y0 + line + 1), text, font=font, fill=_PAPER)

  return np.asarray(canvas)


def _factor(height: int, width: int) -> int:
  wanted = max(-(-_LEAST_WIDTH // width), -(-_LEAST_HEIGHT // height))
  return max(1, min(wanted, _MOST // max(height, width)))


def _fit(pen: Any, text: str, width: int, height: int) -> tuple[Any, Any]:
  """The largest font in which the text fits, and its box."""
  size = max(11, round(max(pen.im.size) / 40))
  while True:
    font = ImageFont.load_default(size=size)
    box = [round(x) for x in pen.textbbox((0, 0), text, font=font)]
    fits = box[2] - box[0] <= width and box[3] - box[1] <= height
    if fits or size <= 4:
      return font, box
    size -= 1


class Writer:
  """Context that writes annotated images and videos into a folder.

  A file appears when it is complete, and replaces an earlier output of the same name,
  but never an input.
  """

  def __init__(self, folder: str | os.PathLike, inputs: Sequence[str] = ()):
    """Creates the writer; nothing is written yet.

    Args:
      folder: the output folder; created if missing.
      inputs: files that are read in this run.

    Raises:
      NotADirectoryError: if `folder` is a file.
    """
    errors.expect_several("inputs", inputs)
    self._folder = pathlib.Path(folder)
    if self._folder.exists() and not self._folder.is_dir():
      raise NotADirectoryError(f"{folder}: expected a folder, got a file")
    self._inputs = [path for path in inputs if os.path.isfile(path)]
    self._taken: set[str] = set()
    self._source = ""
    self._video: Any = None

  def __enter__(self) -> "Writer":
    return self

  def __exit__(self, *rest: object) -> None:
    self._end_video()

  def write(self, frame: Any, image: np.ndarray) -> None:
    """Writes an annotated image, or the next frame of a video.

    Images become NAME.faces.png, videos NAME.faces.mp4, where NAME is the full original
    name. Frames of one video must be consecutive. The new video has a constant rate;
    frames are repeated or dropped so that each is shown at its time.

    Args:
      frame: the `frame.Frame` of the image.
      image: uint8 `(H, W, 3)`, RGB.

    Raises:
      OSError: if the file can't be written, with ENAMETOOLONG if its name is too long
        for the file system, though long names are shortened.
    """
    if frame.number is None:
      path = self._path(frame, ".faces.png")
      content = io.BytesIO()
      Image.fromarray(image).save(content, "PNG")
      files.write_atomically(path, content.getvalue())
      return

    if self._video is None or self._source != frame.source or frame.number == 0:
      self._end_video()
      self._video = _Video(self._path(frame, ".faces.mp4"), frame, image)
      self._source = frame.source

    self._video.write(frame, image)

  def _path(self, frame: Any, suffix: str) -> pathlib.Path:
    """Output path; a number is added if the name is taken or an input's."""
    # The old suffix stays part of the name, to distinguish a.jpg from a.png.
    path = self._folder / frame.name
    # Room for the suffix, a number, and the name while it is incomplete.
    name, number = files.shorten(path.name, reserve=len(suffix) + 12), 1
    path = path.with_name(name + suffix)
    # Some file systems are case-insensitive.
    while str(path).casefold() in self._taken or self._is_input(path):
      number += 1
      path = path.with_name(f"{name}-{number}{suffix}")
    self._taken.add(str(path).casefold())
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

  def _is_input(self, path: pathlib.Path) -> bool:
    return path.exists() and any(os.path.samefile(path, x) for x in self._inputs)

  def _end_video(self) -> None:
    video, self._video = self._video, None
    if video is not None:
      video.end()


class _Video:
  """A video that is being written."""

  def __init__(self, path: pathlib.Path, frame: Any, image: np.ndarray):
    self._path, self._part = path, _part(path)
    self._rate = frame.rate
    self._start = frame.seconds
    self._shape = image.shape
    self._written = 0
    self._last: np.ndarray | None = None
    code = cv2.VideoWriter.fourcc(*"mp4v")
    height, width = image.shape[:2]
    self._writer: Any = cv2.VideoWriter(
      str(self._part), code, self._rate, (width, height)
    )
    if not self._writer.isOpened():
      self._part.unlink(missing_ok=True)
      raise OSError(f"{path}: OpenCV can't write this video")

  def write(self, frame: Any, image: np.ndarray) -> None:
    if image.shape != self._shape:
      # OpenCV would silently drop it.
      image = cv2.resize(image, self._shape[1::-1])

    place = self._written
    if frame.seconds is not None and self._start is not None:
      place = round((frame.seconds - self._start) * self._rate)
    if place < self._written:
      return

    still = min(place - self._written, round(_LONGEST_STILL * self._rate))
    for _ in range(still if self._last is not None else 0):
      self._writer.write(self._last)
    self._last = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    self._writer.write(self._last)
    self._written = place + 1

  def end(self) -> None:
    self._writer.release()
    # OpenCV does not report a write that failed.
    if not _is_whole(self._part, self._written):
      self._part.unlink(missing_ok=True)
      free = shutil.disk_usage(self._path.parent).free / 2**20
      raise OSError(
        f"{self._path}: the video could not be written completely; {free:.0f} MiB are "
        "free on its disk"
      )
    os.replace(self._part, self._path)


def _is_whole(path: pathlib.Path, frames: int) -> bool:
  """Returns whether a video has so many frames, and the last one can be read."""
  capture: Any = cv2.VideoCapture(str(path))
  try:
    if round(capture.get(cv2.CAP_PROP_FRAME_COUNT)) != frames:
      return False
    capture.set(cv2.CAP_PROP_POS_FRAMES, frames - 1)
    return capture.read()[0]
  finally:
    capture.release()


def _part(path: pathlib.Path) -> pathlib.Path:
  """Temporary name of an incomplete file; names with a leading dot are not read."""
  return path.with_name(f".part.{path.name}")
