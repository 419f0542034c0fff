"""Sources of a command: image files, folders, videos, streams and webcams.

Found by name alone, without a library that decodes, so that a mistyped name is answered
at once.
"""

import os
import pathlib
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from emosynth_jax.utils import errors, listing

# Also taken from folders, so that they are not silently ignored.
_HEIC_SUFFIXES = frozenset({".heic", ".heif"})
VIDEO_SUFFIXES = frozenset(
  ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .wmv .asf .3gp .3g2 .flv .f4v .mts .m2ts "
  ".ts .ogv .vob .m1v .m2v .h264 .264 .h265 .265 .hevc .mjpeg .mxf .dv .divx".split()
)
# The suffixes of annotate.py's outputs, which are not read from a folder.
DRAWING_SUFFIXES = (".faces.png", ".faces.mp4")

STANDARD_INPUT = "-"
MISSING = "no such file, folder or webcam"
# Schemes of streams that have no end.
_LIVE = frozenset("rtsp rtsps rtmp rtmps udp rtp srt tcp mms".split())
_SCHEMES = _LIVE | {"http", "https"}


class Source(NamedTuple):
  """A single thing to read.

  Attributes:
    path: of the file, as given or found; the address of a stream, a webcam's number.
    name: a relative path for outputs.
    kind: "image", "video", "unknown" (an image, or else a video), "stream", "webcam" or
      "stdin".
    error: reason why it cannot be read; "" if none is known.
  """

  path: str
  name: pathlib.PurePath
  kind: str = "unknown"
  error: str = ""


def find(
  sources: Sequence[str], passed_over: Counter[str] | None = None
) -> Iterator[Source]:
  """Yields what is named, in order, and the images and videos of folders.

  In a folder and its subfolders, images and videos are selected by suffix and sorted by
  name; names that begin with a dot, links to folders and outputs of annotate.py are
  skipped.

  Args:
    sources: image files, video files, folders, addresses of streams, a webcam's number,
      or "-" for standard input.
    passed_over: counts by suffix the files of a folder that are skipped, except names
      with a leading dot.

  Yields:
    Sources, unreadable ones with their error.

  Raises:
    TypeError: if `sources` is a single path.
  """
  errors.expect_several("sources", sources)
  passed_over = Counter() if passed_over is None else passed_over
  for source in map(os.fspath, sources):
    found = _look_up(source)
    if found.kind == "folder":
      yield from _find_in_folder(pathlib.Path(source), passed_over)
    else:
      yield found


def missing(sources: Sequence[str]) -> list[str]:
  """The sources of a command that don't exist."""
  return [source for source in sources if _look_up(source).error == MISSING]


def _look_up(source: str) -> Source:
  """Resolves a name to its source; the kind of a folder is "folder"."""
  if source == STANDARD_INPUT:
    return Source(source, pathlib.PurePath("stdin"), "stdin")
  if is_url(source):
    return Source(source, _name_of_url(source), "stream")

  path = pathlib.Path(source)
  name = pathlib.PurePath(path.name)
  try:
    mode = os.stat(source).st_mode
  except (FileNotFoundError, NotADirectoryError):
    if _is_number(source):
      return Source(source, pathlib.PurePath(f"webcam{int(source)}"), "webcam")
    return Source(source, name, error=MISSING)
  except (OSError, ValueError) as error:
    return Source(source, name, error=f"cannot be read ({reason(error)})")

  if stat.S_ISDIR(mode):
    return Source(source, name, "folder")
  if stat.S_ISREG(mode):
    is_video = path.suffix.lower() in VIDEO_SUFFIXES
    return Source(source, name, "video" if is_video else "unknown")
  if stat.S_ISFIFO(mode):
    hint = f"a pipe; read it as standard input: {STANDARD_INPUT} < {source}"
  else:
    hint = "no such file; webcams are given by their number, for example 0"
  return Source(source, name, error=hint)


def is_webcam(source: str) -> bool:
  """Returns whether `find` interprets this as a webcam's number."""
  return _is_number(source) and not os.path.lexists(source)


def is_url(source: str) -> bool:
  """Returns whether `find` interprets this as a stream's address."""
  scheme, separator, rest = source.partition("://")
  return bool(separator and rest) and scheme.lower() in _SCHEMES


def is_live(source: str) -> bool:
  """Returns whether a source has no end: a webcam, or a camera's stream."""
  return is_webcam(source) or (is_url(source) and source.split(":")[0].lower() in _LIVE)


def shown(source: str) -> str:
  """A source as outputs show it: an address without its password."""
  if is_webcam(source):
    return f"webcam {int(source)}"
  if not is_url(source):
    return source
  # A password may contain a slash or an @.
  return re.sub(r"^(\w+://[^/@:]*):.*@", r"\1:***@", source)


def reason(error: Exception) -> str:
  """The reason of an error, without the file's name."""
  return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _is_number(source: str) -> bool:
  return source.isdecimal() and len(source) <= 3


def _name_of_url(source: str) -> pathlib.PurePath:
  address = re.sub(r"^\w+://(.*@)?", "", source).partition("?")[0]
  name = re.sub(r"[^\w.-]+", "_", address).strip("_.")
  return pathlib.PurePath(name or "stream")


def _find_in_folder(
  folder: pathlib.Path, passed_over: Counter[str]
) -> Iterator[Source]:
  known = listing.IMAGE_SUFFIXES | _HEIC_SUFFIXES | VIDEO_SUFFIXES
  paths: list[pathlib.Path] = []
  troubles: list[OSError] = []
  for place, folders, files in os.walk(folder, onerror=troubles.append):
    folders[:] = [name for name in folders if not listing.is_litter(name)]
    passed_over["linked folder"] += sum(
      os.path.islink(os.path.join(place, name)) for name in folders
    )
    for name in files:
      path = pathlib.Path(place, name)
      suffix = path.suffix.lower()
      if listing.is_litter(name):
        continue
      if name.lower().endswith(DRAWING_SUFFIXES):
        passed_over["drawn before"] += 1
      elif suffix not in known or (suffix == ".ts" and not _is_transport_stream(path)):
        passed_over[suffix or "no suffix"] += 1
      elif path.exists() and not path.is_file():
        passed_over["no file"] += 1
      else:
        paths.append(path)
  for error in troubles:
    path = pathlib.Path(error.filename)
    why = f"this folder cannot be read ({reason(error)})"
    yield Source(str(path), pathlib.PurePath(path.name), error=why)
  if not paths and not troubles:
    yield Source(
      str(folder),
      pathlib.PurePath(folder.name),
      error=f"no image or video in this folder ({' '.join(sorted(known))})",
    )
  for path in sorted(paths):
    kind = "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image"
    yield Source(str(path), path.relative_to(folder), kind)


def _is_transport_stream(path: pathlib.Path) -> bool:
  """Of MPEG, and no source of TypeScript: packets of 188 bytes that begin with G."""
  try:
    with path.open("rb") as file:
      return file.read(189)[::188] == b"GG"
  except OSError:
    return False
