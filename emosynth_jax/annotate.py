"""Boxes and names of expressions drawn onto pictures, and written to files."""

import pathlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SURE = (28, 126, 60)
_UNSURE = (96, 96, 96)
_PAPER = (255, 255, 255)


def draw(picture: np.ndarray, predictions: Sequence[Any]) -> np.ndarray:
  """A picture with its faces framed, each with its label and confidence.

  Args:
    picture: uint8 `(H, W, 3)`, RGB.
    predictions: `predict.Prediction`s. One without a box is of the whole picture. An
      uncertain one is framed grey, and says what it would be taken for.

  Returns:
    A new picture of the same shape.
  """
  image = Image.fromarray(picture)
  pen = ImageDraw.Draw(image)
  width, height = image.size
  side = max(height, width)
  font = ImageFont.load_default(size=max(11, round(side / 40)))
  line = max(1, round(side / 300))
  for prediction in predictions:
    box = prediction.box or (0.0, 0.0, float(width - 1), float(height - 1))
    left, top, right, bottom = (round(x) for x in box)
    likeliest = max(prediction.probabilities, key=prediction.probabilities.get)
    is_sure = prediction.label == likeliest
    text = f"{likeliest} {prediction.confidence:.0%}"
    text = text if is_sure else f"{prediction.label} ({text}?)"
    colour = _SURE if is_sure else _UNSURE
    pen.rectangle((left, top, right, bottom), outline=colour, width=line)
    x0, y0, x1, y1 = pen.textbbox((0, 0), text, font=font)
    tag_width, tag_height = x1 - x0 + 2 * line + 2, y1 - y0 + 2 * line + 2
    # Above the face, or inside where there is no room; never off the picture.
    y = top - tag_height if top >= tag_height else top
    x = max(0, min(left, width - tag_width))
    pen.rectangle((x, y, x + tag_width, y + tag_height), fill=colour)
    pen.text((x - x0 + line + 1, y - y0 + line + 1), text, font=font, fill=_PAPER)
  return np.asarray(image)


class Writer:
  """Writes annotated pictures and videos into a folder; a context."""

  def __init__(self, folder: str | pathlib.Path):
    """Nothing is written yet.

    Args:
      folder: it is made if missing.
    """
    self._folder = pathlib.Path(folder)
    self._taken: set[pathlib.Path] = set()
    self._source = ""
    self._video: Any = None

  def __enter__(self) -> "Writer":
    return self

  def __exit__(self, *rest: object) -> None:
    self._end_video()

  def write(self, frame: Any, picture: np.ndarray) -> None:
    """Writes an annotated picture, or the next frame of a video.

    Images become PNG, videos MP4, under the names that they had. Frames of one video
    follow each other.

    Args:
      frame: the `media.Frame` that it is of.
      picture: uint8 `(H, W, 3)`, RGB.

    Raises:
      OSError: if the file can't be written.
    """
    if frame.number is None:
      path = self._path(frame, ".png")
      Image.fromarray(picture).save(path)
      return
    if self._video is None or self._source != frame.source or frame.number == 0:
      self._end_video()
      path = self._path(frame, ".mp4")
      height, width = picture.shape[:2]
      code = cv2.VideoWriter.fourcc(*"mp4v")
      self._video = cv2.VideoWriter(str(path), code, frame.rate, (width, height))
      self._source = frame.source
      if not self._video.isOpened():
        raise OSError(f"{path}: OpenCV can't write this video")
    self._video.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

  def _path(self, frame: Any, suffix: str) -> pathlib.Path:
    """Where to write; a name that another source has taken gets a number."""
    path = self._folder / frame.name
    # The old suffix stays part of the name, or a.jpg and a.png would be one.
    path = path.with_name(path.name + suffix if path.suffix != suffix else path.name)
    number, stem = 1, path.stem
    while path in self._taken:
      number += 1
      path = path.with_name(f"{stem}-{number}{suffix}")
    self._taken.add(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path

  def _end_video(self) -> None:
    if self._video is not None:
      self._video.release()
    self._video = None
