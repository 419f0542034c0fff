"""Names of output files, checked before the work, and errors that name them."""

import contextlib
import os
import pathlib
import zlib
from collections.abc import Iterator


def check_output(path: str | os.PathLike[str], flag: str) -> None:
  """Checks, before the work, that an output file can be written.

  Args:
    path: the file.
    flag: name of the flag that gave it, for the error.

  Raises:
    OSError: if it is a folder, or its folder does not exist or can't be written to.
  """
  target = pathlib.Path(os.path.realpath(path))
  if target.is_dir():
    raise IsADirectoryError(f"{flag}: expected a file, {path} is a folder")
  if not target.parent.is_dir():
    raise FileNotFoundError(f"{flag}: no such folder: {target.parent}")
  if not os.access(target if target.exists() else target.parent, os.W_OK):
    raise PermissionError(f"{flag}: no permission to write {path}")


def shorten(name: str, *, reserve: int = 0) -> str:
  """Shortens a file name to the 255 bytes that file systems allow.

  Args:
    name: the name, without folders.
    reserve: bytes that are left for what is added to it.

  Returns:
    The name, or its beginning with a checksum of the whole, so that different names
    stay different.
  """
  content = os.fsencode(name)
  if len(content) <= 255 - reserve:
    return name
  end = f"~{zlib.crc32(content):08x}"
  return content[: 255 - reserve - len(end)].decode("utf-8", "ignore") + end


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
  """Context in which an error of writing, such as of a full disk, names the file."""
  try:
    yield
  except OSError as error:
    if error.filename is not None or error.errno is None:
      raise
    raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
