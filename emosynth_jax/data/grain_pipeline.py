"""Batches of a split that is too large for the device, read ahead by Grain."""

from collections.abc import Iterator
from typing import Any

import numpy as np


class _Batches:
  """The batches of an order, as a source that Grain indexes from several threads."""

  def __init__(self, images: Any, order: np.ndarray, batch_size: int, part: range):
    self._images = images
    self._order = order
    self._batch_size = batch_size
    self._part = part

  def __len__(self) -> int:
    return len(self._order) // self._batch_size

  def __getitem__(self, index: int) -> np.ndarray:
    first = int(index) * self._batch_size
    rows = self._order[first + self._part.start : first + self._part.stop]
    return self._images[rows]


def batches(
  images: Any,
  order: np.ndarray,
  *,
  batch_size: int,
  part: range,
  first: int = 0,
  num_threads: int = 8,
) -> Iterator[np.ndarray]:
  """Reads a stretch of each batch, in the order's own sequence.

  Batch b holds the images `order[b N : (b + 1) N]`; a last incomplete one is left out.
  What comes is a function of the arguments alone, so a run that resumes asks for the
  batch of its step, and nothing of the pipeline needs to be saved.

  Args:
    images: uint8 `(M, H, W, C)`, an array or `LazyImages`.
    order: int, rows of `images` in the order in which they are wanted.
    batch_size: N.
    part: the positions of the batch that this process reads.
    first: the batch to begin with.
    num_threads: threads that read ahead, a batch each; decoders and disks let others
      run meanwhile.

  Yields:
    uint8 `(len(part), H, W, C)`.
  """
  import grain  # here, as it takes a second that runs without it are spared

  source: Any = _Batches(images, order, batch_size, part)
  ahead = grain.ReadOptions(
    num_threads=num_threads, prefetch_buffer_size=2 * num_threads
  )
  dataset = grain.MapDataset.source(source).slice(slice(first, len(source)))
  yield from dataset.to_iter_dataset(ahead)
