"""Pictures out of image files, folders, videos and a webcam, one after the other."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from emosynth_jax.data import _images

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
VIDEO_SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}


class Frame(NamedTuple):
  """A picture, or why there is none.

  Attributes:
    source: the file's path as it was given or found, or "webcam 0".
    name: a relative path to write to what is made of it.
    picture: uint8 `(H, W, 3)`, RGB and upright; None where it can't be read.
    error: why it can't be read; "" otherwise.
    number: of the frame in a video, from 0; None for an image.
    seconds: its time in the video; None for an image.
    rate: frames a second of the video; None for an image.
  """

  source: str
  name: pathlib.PurePath
  picture: np.ndarray | None
  error: str = ""
  number: int | None = None
  seconds: float | None = None
  rate: float | None = None


def read_all(
  sources: Sequence[str], *, every: int = 1, max_frames: int = 0
) -> Iterator[Frame]:
  """The pictures of all sources, in their order.

  Of a folder, with its subfolders, the images and videos are taken by their suffixes,
  sorted by name; names that begin with a dot are left out. What can't be read yields a
  frame that says why, and the next source is read.

  Args:
    sources: image files, video files, folders, or a webcam's number.
    every: of videos and webcams, each so many frames one is taken.
    max_frames: at most so many frames of each video and webcam; 0 for all.

  Yields:
    Frames.

  Raises:
    ValueError: for a number out of its range.
  """
  if every < 1 or max_frames < 0:
    raise ValueError(
      f"every: expected at least 1, max_frames at least 0; got {every}, {max_frames}"
    )
  for source in sources:
    path = pathlib.Path(source)
    if path.is_dir():
      yield from _read_folder(path, every, max_frames)
    elif path.is_file():
      yield from _read_file(path, pathlib.PurePath(path.name), every, max_frames)
    elif source.isdecimal():
      name = pathlib.PurePath(f"webcam{int(source)}.mp4")
      yield from _read_video(int(source), f"webcam {source}", name, every, max_frames)
    else:
      yield Frame(
        source, pathlib.PurePath(path.name), None, "no such file, folder or webcam"
      )


def is_webcam(source: str) -> bool:
  """Whether `read_all` takes this for a webcam's number."""
  return source.isdecimal() and not pathlib.Path(source).exists()


def _read_folder(folder: pathlib.Path, every: int, max_frames: int) -> Iterator[Frame]:
  known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
  paths = [
    path
    for path in sorted(folder.rglob("*"))
    if path.suffix.lower() in known
    and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    and path.is_file()
  ]
  if not paths:
    yield Frame(
      str(folder),
      pathlib.PurePath(folder.name),
      None,
      f"no image or video in this folder ({' '.join(sorted(known))})",
    )
  for path in paths:
    yield from _read_file(path, path.relative_to(folder), every, max_frames)


def _read_file(
  path: pathlib.Path, name: pathlib.PurePath, every: int, max_frames: int
) -> Iterator[Frame]:
  if path.suffix.lower() in VIDEO_SUFFIXES:
    yield from _read_video(str(path), str(path), name, every, max_frames)
    return
  try:
    content = path.read_bytes()
    if not content:
      raise ValueError("the file is empty")
    yield Frame(str(path), name, _images.decode(content, "image", 3))
  except (OSError, ValueError) as error:
    yield Frame(str(path), name, None, str(error).removeprefix("image: "))


def _read_video(
  device: str | int,
  source: str,
  name: pathlib.PurePath,
  every: int,
  max_frames: int,
) -> Iterator[Frame]:
  capture: Any = cv2.VideoCapture(device)
  try:
    # A webcam may not tell, or tell nonsense.
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if 0 < rate < 1000 else 25.0
    index = taken = 0
    while not max_frames or taken < max_frames:
      is_there, picture = capture.read()
      if not is_there:
        break
      if index % every == 0:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        yield Frame(source, name, picture, "", index, index / rate, rate / every)
        taken += 1
      index += 1
    if not index:
      yield Frame(source, name, None, "no frame can be read from it")
  finally:
    capture.release()
