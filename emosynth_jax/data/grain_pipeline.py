"""Batches of a split that is too large for the device, read ahead by Grain."""

from collections.abc import Iterator
from typing import Any

import numpy as np


def batches(
  images: Any,
  order: np.ndarray,
  *,
  batch_size: int,
  part: range,
  first: int = 0,
  num_threads: int = 8,
) -> Iterator[np.ndarray]:
  """Reads a part of each batch, in the given order.

  Batch b holds the images `order[b N : (b + 1) N]`; a last incomplete one is left out.
  The result is a function of the arguments alone: a resumed run starts at the batch of
  its step, and no pipeline state needs to be saved.

  Args:
    images: uint8 `(M, H, W, C)`, an array or `LazyImages`.
    order: int, rows of `images` in the order in which they are wanted.
    batch_size: N.
    part: the positions of the batch that this process reads.
    first: the batch to begin with.
    num_threads: threads that prefetch, a batch each; decoding and disk reads release
      the GIL.

  Yields:
    uint8 `(len(part), H, W, C)`.
  """
  import grain  # here, since its import takes a second

  def read(number: int) -> np.ndarray:
    start = number * batch_size
    return images[order[start + part.start : start + part.stop]]

  ahead = grain.ReadOptions(
    num_threads=num_threads, prefetch_buffer_size=2 * num_threads
  )
  numbers = grain.MapDataset.range(first, len(order) // batch_size)
  yield from numbers.map(read).to_iter_dataset(ahead)
