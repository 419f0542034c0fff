"""Lazy image arrays: images on disk, read on access."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


class LazyImages:
  """Array-like collection of images that are read on access.

  A slice or an index array reads those images, in their order; `numpy.asarray` reads
  all. Several threads may read at once.

  Attributes:
    shape: `(N, height, width, channels)`.
    dtype: uint8.
    held: the range of rows that `hold` keeps in memory.
  """

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(
    self,
    read: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, int, int, int],
    rows: np.ndarray | None = None,
  ):
    """Creates the array of images.

    Args:
      read: int `(M,)`, rows of the whole, to uint8 `(M, height, width, channels)`.
      shape: of the whole.
      rows: int `(N,)`, the rows of the whole that this view contains; None for all.
    """
    self._read = read
    self._rows = np.arange(shape[0]) if rows is None else np.asarray(rows)
    self._numbers = np.arange(len(self._rows))  # kept: each batch asks for some
    self._held: np.ndarray | None = None
    self.held = range(0)
    self.shape = (len(self._rows), *shape[1:])

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any) -> np.ndarray:
    rows = self._numbers[index]
    if not rows.ndim:
      return self[rows[None]][0]
    if len(rows) and self._held is not None:
      if rows.min() >= self.held.start and rows.max() < self.held.stop:
        return self._held[rows - self.held.start]
    if not len(rows):
      return np.empty((0, *self.shape[1:]), np.uint8)
    return self._read(self._rows[rows])

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    del copy
    return np.asarray(self[:], dtype)

  def take(self, rows: Sequence[int] | np.ndarray) -> "LazyImages":
    """Selects the images at `rows` `(M,)`, in that order, without reading them."""
    return LazyImages(self._read, self.shape, self._rows[np.asarray(rows, int)])

  @property
  def is_held(self) -> bool:
    """Returns whether `hold` was called, even for no row."""
    return self._held is not None

  def hold(self, rows: range) -> None:
    """Reads a range of rows and keeps it in memory."""
    self._held = self[rows.start : rows.stop]
    self.held = rows
