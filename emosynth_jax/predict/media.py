"""Reads images from files, folders, videos, streams and a webcam."""

import contextlib
import pathlib
import sys
import tempfile
from collections.abc import Iterable, Iterator

from emosynth_jax.data.images import decoding
from emosynth_jax.predict import image_input, sources, video
from emosynth_jax.predict.frame import Frame
from emosynth_jax.utils import files


def read_all(
  found: Iterable[sources.Source], *, every: int = 1, max_frames: int = 0
) -> Iterator[Frame]:
  """Yields the images of all sources, in order.

  An unreadable source yields a frame with the error, and reading continues.

  Args:
    found: of `sources.find`.
    every: for videos, streams and webcams, take one of every so many frames.
    max_frames: maximum number of frames of each of them; 0 for all.

  Yields:
    Frames. Only the first frame or page of an animated or multi-page image.

  Raises:
    ValueError: for a number out of its range.
  """
  if every < 1 or max_frames < 0:
    raise ValueError(
      f"every: expected at least 1, max_frames at least 0; got {every}, {max_frames}"
    )
  for source in found:
    yield from _read(source, every, max_frames)


def _read(source: sources.Source, every: int, max_frames: int) -> Iterator[Frame]:
  path, name, kind, error = source
  if error:
    yield Frame(path, name, None, error)
  elif kind == "webcam":
    yield from video.read_webcam(int(path), every=every, max_frames=max_frames)
  elif kind in ("stream", "video"):
    # `pathlib.Path` would merge the slashes of an address.
    file = path if kind == "stream" else pathlib.Path(path)
    yield from video.read_file(file, name, every=every, max_frames=max_frames)
  else:
    yield from _read_image(source, every, max_frames)


def _read_image(source: sources.Source, every: int, max_frames: int) -> Iterator[Frame]:
  """An image file, or a video whose suffix doesn't say so."""
  path, name, kind, _ = source
  try:
    if kind == "stdin":
      content = sys.stdin.buffer.read()
    else:
      content = pathlib.Path(path).read_bytes()
    yield Frame(path, name, image_input.decode(content, path))
    return
  except OSError as error:
    yield Frame(path, name, None, f"cannot be read ({sources.reason(error)})")
    return
  except ValueError as error:
    trouble = str(error).removeprefix(f"{path}: ")
  if kind == "image" or not trouble.endswith(decoding.UNKNOWN):
    yield Frame(path, name, None, trouble)
    return

  with contextlib.ExitStack() as stack:
    video_path = path
    if kind == "stdin":
      file = stack.enter_context(tempfile.NamedTemporaryFile())
      with files.writing(file.name):
        file.write(content)
        file.flush()
      video_path = file.name
    frames = video.read_file(
      pathlib.Path(video_path), name, every=every, max_frames=max_frames
    )
    for frame in frames:
      if frame.error == video.NO_FRAME:
        frame = frame._replace(error=f"{trouble}, and no video")
      yield frame._replace(source=path)
