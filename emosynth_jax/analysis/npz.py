"""Arrays on disk as one .npz file, in one move."""

import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from emosynth_jax import results


def write_npz(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
  """Writes arrays by name, so that a kill leaves the old file or the new one.

  Args:
    path: the file; its folder must exist.
    arrays: name to array.
  """
  content = io.BytesIO()
  np.savez(content, **{name: np.asarray(value) for name, value in arrays.items()})
  results.write_atomically(path, content.getvalue())
