"""Lists all image files that cannot be decoded.

A loader stops at the first. This checks the rest, so that a data set can be repaired in
one pass.
"""

import functools
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator

from emosynth_jax.data.images import decoding

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def find_unreadable(data_dir: str | pathlib.Path) -> list[str]:
  """Tries to decode every image file of a folder, and of the zips in it.

  Args:
    data_dir: a folder or a zip.

  Returns:
    A line for each file that can't be decoded: its name and why. In order of names;
    files that no loader reads may be among them.
  """
  problems = []
  for name, read in _image_files(pathlib.Path(data_dir)):
    try:
      decoding.decode(read(), name, channels=1)
    except ValueError as error:
      problems.append(str(error))
    # RuntimeError: encrypted, or packed by a method that Python doesn't know.
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
      problems.append(f"{name}: cannot read this file ({error})")

  return problems


def _image_files(root: pathlib.Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
  paths = [root] if root.is_file() else sorted(root.rglob("*"))
  for path in paths:
    if path.name.startswith(".") or not path.is_file():
      continue
    if path.suffix.lower() in _SUFFIXES:
      yield str(path), path.read_bytes
    elif path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
      with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
          file = pathlib.PurePosixPath(name)
          if file.suffix.lower() in _SUFFIXES and not file.name.startswith("."):
            yield f"{path}: {name}", functools.partial(archive.read, name)
