"""Lists all image files that cannot be decoded.

A loader stops at the first. This checks the rest, so that a data set can be repaired in
one pass.
"""

import functools
import pathlib
import zipfile
from collections.abc import Callable, Iterator

from emosynth_jax.data import archives
from emosynth_jax.data.images import decoding
from emosynth_jax.utils import listing


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
    except OSError as error:
      problems.append(f"{name}: cannot read this file ({error})")

  return problems


def _image_files(root: pathlib.Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
  for path in [root] if root.is_file() else listing.visible_files(root):
    if path.suffix.lower() in listing.IMAGE_SUFFIXES:
      yield str(path), path.read_bytes
    elif path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
      with archives.open_zip(path) as archive:
        for name in archive.names:
          if pathlib.PurePosixPath(name).suffix.lower() in listing.IMAGE_SUFFIXES:
            yield f"{path}: {name}", functools.partial(archive.read, name)
