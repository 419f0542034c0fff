"""Reads images from files, folders, videos and a webcam."""

import os
import pathlib
import stat
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from emosynth_jax.data import listing
from emosynth_jax.data.images import face_detector
from emosynth_jax.predict import image_input, video
from emosynth_jax.predict.video import Frame

IMAGE_SUFFIXES = frozenset(
  ".jpg .jpeg .jpe .jfif .mpo .png .apng .bmp .gif .tif .tiff .webp .avif .jp2 .ppm "
  ".pgm .pbm .pnm".split()
)
# Also taken from folders, so that they are not silently ignored.
_HEIC_SUFFIXES = frozenset({".heic", ".heif"})
VIDEO_SUFFIXES = frozenset(
  ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .asf .3gp .3g2 .flv .mts .m2ts .ogv "
  ".vob".split()
)
# The suffixes of annotate.py's outputs, which are not read from a folder.
DRAWING_SUFFIXES = (".faces.png", ".faces.mp4")


def read_all(
  sources: Sequence[str],
  *,
  every: int = 1,
  max_frames: int = 0,
  passed_over: Counter[str] | None = None,
) -> Iterator[Frame]:
  """Yields the images of all sources, in order.

  In a folder and its subfolders, images and videos are selected by suffix and sorted by
  name; names that begin with a dot, links to folders and outputs of annotate.py are
  skipped. An unreadable source yields a frame with the error, and reading continues.

  Args:
    sources: image files, video files, folders, or a webcam's number.
    every: for videos and webcams, take one of every so many frames.
    max_frames: maximum number of frames of each video and webcam; 0 for all.
    passed_over: counts by suffix the files of a folder that are skipped, except names
      with a leading dot.

  Yields:
    Frames. Only the first frame or page of an animated or multi-page image.

  Raises:
    ValueError: for a number out of its range.
  """
  if every < 1 or max_frames < 0:
    raise ValueError(
      f"every: expected at least 1, max_frames at least 0; got {every}, {max_frames}"
    )
  passed_over = Counter() if passed_over is None else passed_over
  for source in sources:
    path = pathlib.Path(source)
    name = pathlib.PurePath(path.name)
    try:
      mode = os.stat(source).st_mode
    except (FileNotFoundError, NotADirectoryError):
      if _is_number(source):
        yield from video.read_webcam(int(source), every=every, max_frames=max_frames)
      else:
        yield Frame(source, name, None, "no such file, folder or webcam")
    except (OSError, ValueError) as error:
      yield Frame(source, name, None, f"cannot be read ({_reason(error)})")
    else:
      if stat.S_ISDIR(mode):
        yield from _read_folder(path, every, max_frames, passed_over)
      elif stat.S_ISREG(mode):
        yield from _read_file(path, name, every, max_frames)
      else:
        yield Frame(
          source,
          name,
          None,
          "no such file; webcams are given by their number, for example 0",
        )


def is_webcam(source: str) -> bool:
  """Returns whether `read_all` interprets this as a webcam's number."""
  return _is_number(source) and not os.path.lexists(source)


def webcam_name(source: str) -> str:
  """`Frame.source` of a webcam that was given as this source."""
  return video.webcam_name(int(source))


def decode(content: bytes, source: str) -> np.ndarray:
  """Decodes an image file as `image_input.decode`, with hints on unsupported formats.

  Args:
    content: the bytes of the file.
    source: the file's name in error messages.

  Returns:
    uint8 `(H, W, 3)`, RGB and upright.

  Raises:
    ValueError: the bytes are empty, no image, or a damaged one.
  """
  if not content:
    raise ValueError(f"{source}: the file is empty")
  try:
    return image_input.decode(content, source)
  except ValueError as error:
    # HEIC and AVIF are one container, which begins with a list of what it holds.
    if content[4:8] == b"ftyp" and b"avif" not in content[:64]:
      if content[8:12] in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"mif1"):
        raise ValueError(
          f"{source}: HEIC is not supported; convert it to JPEG or PNG"
        ) from error
    raise


def load(picture: np.ndarray | str | os.PathLike) -> np.ndarray:
  """Reads an image file (transparent pixels on white), or checks an array.

  Args:
    picture: as `predict.Predictor` takes it.

  Returns:
    uint8 `(H, W, C)`, C 1 or 3.

  Raises:
    TypeError: if it is neither a path nor a uint8 array.
    ValueError: for an array of another shape, or a file that is no image.
    OSError: if the file can't be read.
  """
  if isinstance(picture, str | os.PathLike):
    path = pathlib.Path(picture)
    return decode(path.read_bytes(), str(path))
  if isinstance(picture, np.ndarray) and picture.ndim == 2:
    picture = picture[..., None]
  face_detector.check_picture(picture)
  return picture


def _is_number(source: str) -> bool:
  return source.isdecimal() and len(source) <= 3


def _reason(error: Exception) -> str:
  return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _read_folder(
  folder: pathlib.Path, every: int, max_frames: int, passed_over: Counter[str]
) -> Iterator[Frame]:
  known = IMAGE_SUFFIXES | _HEIC_SUFFIXES | VIDEO_SUFFIXES
  paths: list[pathlib.Path] = []
  troubles: list[OSError] = []
  for place, folders, files in os.walk(folder, onerror=troubles.append):
    folders[:] = [name for name in folders if not listing.is_litter(name)]
    passed_over["linked folder"] += sum(
      os.path.islink(os.path.join(place, name)) for name in folders
    )
    for name in files:
      path = pathlib.Path(place, name)
      if listing.is_litter(name):
        continue
      if name.lower().endswith(DRAWING_SUFFIXES):
        passed_over["drawn before"] += 1
      elif path.suffix.lower() not in known:
        passed_over[path.suffix.lower() or "no suffix"] += 1
      elif path.exists() and not path.is_file():
        passed_over["no file"] += 1
      else:
        paths.append(path)
  for error in troubles:
    path = pathlib.Path(error.filename)
    reason = f"this folder cannot be read ({_reason(error)})"
    yield Frame(str(path), pathlib.PurePath(path.name), None, reason)
  if not paths and not troubles:
    yield Frame(
      str(folder),
      pathlib.PurePath(folder.name),
      None,
      f"no image or video in this folder ({' '.join(sorted(known))})",
    )
  for path in sorted(paths):
    yield from _read_file(path, path.relative_to(folder), every, max_frames)


def _read_file(
  path: pathlib.Path, name: pathlib.PurePath, every: int, max_frames: int
) -> Iterator[Frame]:
  if path.suffix.lower() in VIDEO_SUFFIXES:
    yield from video.read_file(path, name, every=every, max_frames=max_frames)
    return
  try:
    yield Frame(str(path), name, decode(path.read_bytes(), "image"))
  except OSError as error:
    yield Frame(str(path), name, None, f"cannot be read ({_reason(error)})")
  except ValueError as error:
    yield Frame(str(path), name, None, str(error).removeprefix("image: "))
