"""Reads zips strictly: an error names the zip and the file in it."""

import io
import pathlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from emosynth_jax.utils.listing import is_litter
from emosynth_jax.utils.npz import DAMAGED_ZIP

# More than any image file of a data set has; a small file may inflate to a thousand
# times its size.
MAX_IMAGE_BYTES = 64 * 2**20


class Archive:
  """An open zip, by names with slashes and without litter."""

  def __init__(self, path: pathlib.Path, archive: zipfile.ZipFile):
    self._path = path
    self._archive = archive
    # Some packers on Windows separate folders by backslashes.
    members = ((info.filename.replace("\\", "/"), info) for info in archive.infolist())
    self._members = {
      name: info
      for name, info in members
      if not name.endswith("/") and not is_litter(name)
    }

  @property
  def names(self) -> list[str]:
    """Names of the files, sorted."""
    return sorted(self._members)

  def read(self, name: str, max_bytes: int = MAX_IMAGE_BYTES) -> bytes:
    """Unpacks a file.

    Args:
      name: of `names`.
      max_bytes: the most that it may unpack to.

    Raises:
      ValueError: if it is damaged or too large; nothing is unpacked then.
    """
    info = self._members[name]
    if info.file_size > max_bytes:
      raise ValueError(
        f"{self._path}: {name}: expected at most {max_bytes} bytes, it unpacks to "
        f"{info.file_size}"
      )
    with self._errors_of(name):
      return self._archive.read(info)

  @contextmanager
  def open_text(self, name: str) -> Iterator[IO[str]]:
    """Opens a file as UTF-8 text, unpacked as it is read."""
    with self._errors_of(name):
      stream = self._archive.open(self._members[name])
    with io.TextIOWrapper(_Named(stream, self, name), "utf-8-sig", newline="") as text:
      yield text

  @contextmanager
  def _errors_of(self, name: str) -> Iterator[None]:
    try:
      yield
    except DAMAGED_ZIP as error:
      reason = str(error) or type(error).__name__
      raise ValueError(
        f"{self._path}: {name}: cannot unpack ({reason}); download the zip again"
      ) from error


class _Named(io.BufferedReader):
  """A stream whose errors name the file."""

  def __init__(self, stream, archive: Archive, name: str):
    super().__init__(stream)
    self._of = archive, name

  def read1(self, size: int = -1) -> bytes:
    archive, name = self._of
    with archive._errors_of(name):
      return super().read1(size)


@contextmanager
def open_zip(path: pathlib.Path) -> Iterator[Archive]:
  """Opens a zip.

  Raises:
    ValueError: if it is damaged.
  """
  try:
    archive = zipfile.ZipFile(path)
    opened = Archive(path, archive)
  except FileNotFoundError:
    raise
  except DAMAGED_ZIP as error:
    raise ValueError(
      f"{path}: the zip is damaged or truncated ({error}); download it again"
    ) from error
  with archive:
    yield opened
