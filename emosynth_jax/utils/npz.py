"""Atomic .npz files."""

import io
import lzma
import math
import os
import pathlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from emosynth_jax.utils import files

# What Python raises for a damaged zip, an encrypted file or an unknown method.
DAMAGED_ZIP = (
  zipfile.BadZipFile,
  zlib.error,
  lzma.LZMAError,
  struct.error,
  EOFError,
  RuntimeError,  # NotImplementedError is one.
  OSError,
  ValueError,
  OverflowError,
)

# More than the arrays of any file that is read here, and less than a machine has.
MAX_BYTES = 8 * 2**30


def write_npz(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
  """Writes arrays by name, atomically.

  Args:
    path: the file; its folder is created if missing.
    arrays: name to array.
  """
  content = io.BytesIO()
  plain: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
  np.savez(content, **plain)
  files.write_atomically(path, content.getvalue())


def read_npz(
  path: str | os.PathLike, *, problem: str = " is damaged"
) -> dict[str, Any]:
  """Reads all arrays of a file.

  No array is allocated before its size is known to be that of the file's content.

  Args:
    path: the file.
    problem: what the message calls a file that cannot be read.

  Returns:
    Name to array.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, or has arrays of Python objects; the array is named.
  """
  # From memory, as NumPy does not close a damaged file.
  content = pathlib.Path(path).read_bytes()
  name = ""
  try:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
      members = archive.infolist()
      check_size(sum(info.file_size for info in members), "its arrays")
      arrays = {}
      for info in members:
        name = info.filename.removesuffix(".npy")
        arrays[name] = _read_array(archive.read(info))
      return arrays
  # NumPy's reader of arrays raises the others.
  except (
    *DAMAGED_ZIP,
    KeyError,
    SyntaxError,
    TypeError,
    tokenize.TokenError,
  ) as error:
    where = f"{name}: " if name else ""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    raise ValueError(f"{path}{problem} ({where}{reason})") from error


def check_size(num_bytes: int, what: str) -> None:
  """Checks a size that a file names, before anything of it is allocated.

  Raises:
    ValueError: if it is more than `MAX_BYTES`.
  """
  if num_bytes > MAX_BYTES:
    raise ValueError(f"{what}: expected at most {MAX_BYTES} bytes, got {num_bytes}")


def _read_array(content: bytes) -> np.ndarray:
  file = io.BytesIO(content)
  version = np.lib.format.read_magic(file)
  read_header = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
  }.get(version)
  if read_header is None:
    raise ValueError(f"expected an array of format 1.0 or 2.0, got {version}")
  shape, _, dtype = read_header(file)
  # With math: NumPy's product would overflow.
  expected = math.prod(shape) * dtype.itemsize
  found = len(content) - file.tell()
  if not dtype.hasobject and expected != found:
    raise ValueError(f"expected {expected} bytes of shape {shape}, got {found}")
  file.seek(0)
  return np.lib.format.read_array(file, allow_pickle=False)
