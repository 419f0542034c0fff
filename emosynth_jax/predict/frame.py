"""An image of a source, or the error that prevented reading it."""

import pathlib
from typing import Any, NamedTuple


class Frame(NamedTuple):
  """An image, or the error that prevented reading it.

  Attributes:
    source: the file's path as given or found, or "webcam 0".
    name: a relative path for outputs.
    image: uint8 `(H, W, 3)`, RGB and upright; None if unreadable.
    error: the error if unreadable; "" otherwise.
    number: of the frame in a video, from 0; None for an image.
    seconds: its time in the video, or since a webcam's first frame; None for an image.
    rate: frames a second of the video, as it states them; None for an image.
  """

  source: str
  name: pathlib.PurePath
  image: Any
  error: str = ""
  number: int | None = None
  seconds: float | None = None
  rate: float | None = None
