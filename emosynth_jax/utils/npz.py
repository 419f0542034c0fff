"""Atomic .npz files."""

import io
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from emosynth_jax.utils import files


def write_npz(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
  """Writes arrays by name, atomically.

  Args:
    path: the file; its folder must exist.
    arrays: name to array.
  """
  content = io.BytesIO()
  plain: dict[str, Any] = {name: np.asarray(value) for name, value in arrays.items()}
  np.savez(content, **plain)
  files.write_atomically(path, content.getvalue())


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads all arrays of a file.

  Args:
    path: the file.

  Returns:
    Name to array.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged.
  """
  # From memory, as NumPy does not close a damaged file.
  content = pathlib.Path(path).read_bytes()
  try:
    with np.load(io.BytesIO(content)) as file:
      return dict(file)
  except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
    raise ValueError(f"{path} is damaged ({error})") from error
