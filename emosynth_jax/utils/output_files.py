"""Names of output files, checked before the work, and errors that name them."""

import contextlib
import os
import pathlib
import zlib
from collections.abc import Iterator

# Of the operating system, as every library quotes them.
_REFUSALS = (
  "No space left on device",
  "Disk quota exceeded",
  "File too large",
  "File name too long",
  "Read-only file system",
  "Permission denied",
  "Input/output error",
  "Not a directory",
  "Is a directory",
)


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


class WriteError(OSError):
  """Raised if a file cannot be written, with a message that names it."""


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
  """Context in which a write that the file system refuses is told in one line.

  Args:
    path: what is written, for the message.

  Raises:
    WriteError: for a full disk and the like, whatever library reports it. An error that
      names a file of another folder is left as it is.
  """
  try:
    yield
  except WriteError:
    raise
  except Exception as error:
    cause = next((cause for cause in _REFUSALS if cause in str(error)), None)
    if cause is None or _names_another_folder(error, path):
      raise
    refused = WriteError(
      f"cannot write {path}: {cause}. Make room there, or choose another folder, and "
      "rerun"
    )
    refused.errno = getattr(error, "errno", None)
    raise refused from error


def _names_another_folder(error: Exception, path: str | os.PathLike[str]) -> bool:
  named = getattr(error, "filename", None)
  if named is None or isinstance(named, int):
    return False
  own = os.path.dirname(os.path.abspath(path))
  return os.path.commonpath([own, os.path.abspath(os.fsdecode(named))]) != own
