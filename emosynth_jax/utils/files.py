"""Files on disk: strict JSON reports and atomic writes."""

from __future__ import annotations

import json
import math
import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from emosynth_jax.utils.output_files import shorten, writing


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
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
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
    array = np.asarray(value)
    if array.dtype.kind == "V":  # bfloat16 and similar types
      array = array.astype(np.float32)
    if array.dtype.kind in "biufU":
      return to_jsonable(array.tolist(), where)

  raise TypeError(
    f"{where}: {type(value).__name__} is not JSON-serializable: {value!r}"
  )


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
  """Replaces a file atomically: a kill leaves the old or the new one.

  Several processes may do so at the same time, as the jobs of an array.

  Args:
    path: the file; its folder must exist.
    content: the file's whole content.

  Raises:
    WriteError: if the disk is full or the file cannot be written.
  """
  path = pathlib.Path(path)
  suffix = f"-{secrets.token_hex(4)}.tmp"
  temporary = path.with_name(f".{shorten(path.name, reserve=len(suffix))}{suffix}")
  try:
    with writing(path):
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
