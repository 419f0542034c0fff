"""Files on disk: names checked before the work, strict JSON reports, atomic writes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pathlib
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Errors of the operating system, as every library quotes them, and what to do.
_MAKE_ROOM = "Make room there, or choose another folder"
_REMEDIES = {
  "No space left on device": _MAKE_ROOM,
  "Disk quota exceeded": _MAKE_ROOM,
  "File name too long": "Choose a shorter path",
  **dict.fromkeys(
    (
      "File too large",
      "Read-only file system",
      "Permission denied",
      "Input/output error",
      "File exists",
      "Not a directory",
      "Is a directory",
    ),
    "Choose another folder",
  ),
}


def user_folder(variable: str, default: str) -> pathlib.Path:
  """Returns the project's folder among the user's files of one kind.

  Args:
    variable: the environment variable that may name their folder, "XDG_CACHE_HOME".
    default: their folder within the user's home otherwise, ".cache".

  Raises:
    OSError: if neither the variable nor a home folder is known.
  """
  try:
    parent = os.environ.get(variable) or pathlib.Path.home() / default
  except RuntimeError as error:
    raise OSError(f"there is no home folder, and {variable} is not set") from error
  return pathlib.Path(parent) / "emosynth_jax"


def check_output(
  path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
  """Checks, before the work, that the output file of --output can be written.

  Args:
    path: the file, which may exist.
    inputs: files that are read, which it must not replace.

  Raises:
    OSError: if it is a folder, or its folder does not exist or can't be written to.
    ValueError: if it is one of the inputs.
  """
  target = pathlib.Path(os.path.realpath(path))
  if target.is_dir():
    raise IsADirectoryError(f"--output: expected a file, {path} is a folder")
  if not target.parent.is_dir():
    raise FileNotFoundError(f"--output: no such folder: {target.parent}")
  if not os.access(target if target.exists() else target.parent, os.W_OK):
    raise PermissionError(f"--output: no permission to write {path}")
  for source in inputs:
    if target.exists() and os.path.exists(source) and os.path.samefile(target, source):
      raise ValueError(f"--output: {target} is also an input; choose another name")


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


def write_report(path: str | os.PathLike[str], report: Mapping[str, Any]) -> None:
  """Writes a report as strict JSON, atomically.

  Args:
    path: the file, usually ``report.json``; its folder is created if missing.
    report: as :func:`to_jsonable` takes it.

  Raises:
    TypeError: if something in the report cannot be represented in JSON; no file is
      written.
  """
  plain = to_jsonable(report, "report")
  text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
  write_atomically(path, text.encode())


def to_jsonable(value: Any, where: str = "value") -> Any:
  """Converts a value to plain Python for strict JSON.

  Arrays become nested lists and paths strings. JSON has no NaN and no infinity:
  they become the strings "NaN", "Infinity" and "-Infinity", which ``float`` reads.

  Args:
    value: nested mappings, sequences, arrays, numbers, strings, None.
    where: name of the value in errors.

  Returns:
    Dictionaries, lists, strings, finite numbers, booleans and None.

  Raises:
    TypeError: if something inside cannot be represented in JSON.
  """
  if value is None or isinstance(value, bool | int | str):
    return value
  if isinstance(value, float):
    if math.isfinite(value):
      return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if isinstance(value, Mapping):
    for key in value:
      if not isinstance(key, str):
        raise TypeError(f"{where}: expected strings as keys, got {key!r}")
    return {str(key): to_jsonable(v, f"{where}[{key!r}]") for key, v in value.items()}
  if isinstance(value, list | tuple):
    return [to_jsonable(v, f"{where}[{i}]") for i, v in enumerate(value)]

  if hasattr(value, "__array__"):
    array = value.__array__()  # NumPy is not imported: a mistyped name needs none.
    if array.dtype.kind == "V":  # bfloat16 and similar types
      array = array.astype("float32")
    if array.dtype.kind in "biufU":
      return to_jsonable(array.tolist(), where)

  raise TypeError(
    f"{where}: {type(value).__name__} is not JSON-serializable: {value!r}"
  )


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
    cause = next((cause for cause in _REMEDIES if cause in str(error)), None)
    if cause is None or _names_another_folder(error, path):
      raise
    refused = WriteError(f"cannot write {path}: {cause}. {_REMEDIES[cause]}, and rerun")
    refused.errno = getattr(error, "errno", None)
    raise refused from error


def _names_another_folder(error: Exception, path: str | os.PathLike[str]) -> bool:
  named = getattr(error, "filename", None)
  if named is None or isinstance(named, int):
    return False
  own = os.path.dirname(os.path.abspath(path))
  return os.path.commonpath([own, os.path.abspath(os.fsdecode(named))]) != own


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
  """Replaces a file atomically: a kill leaves the old or the new one.

  Several processes may do so at the same time, as the jobs of an array.

  Args:
    path: the file; its folder is created if missing.
    content: the file's whole content.

  Raises:
    WriteError: if the disk is full or the file cannot be written.
  """
  path = pathlib.Path(path)
  suffix = f"-{secrets.token_hex(4)}.tmp"
  temporary = path.with_name(f".{shorten(path.name, reserve=1 + len(suffix))}{suffix}")
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)
    finally:
      temporary.unlink(missing_ok=True)

  folder = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(folder)  # the rename itself must survive a power failure
  finally:
    os.close(folder)
