"""Transfer of images to the devices batch by batch, and whether a split needs it."""

from collections.abc import Iterator

import jax
import ml_collections
import numpy as np

from emosynth_jax.data import grain_pipeline
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.parallel.mesh import Placement

# Bytes of images per call of a streamed training, on each device.
_BYTES_PER_CALL = 256 << 20


def is_resident(
  dataset: Dataset, settings: ml_collections.ConfigDict, placement: Placement
) -> bool:
  """Returns whether a whole split is kept on the devices.

  Args:
    dataset: the split.
    settings: `config.data`; `pipeline` decides, or in "auto" the comparison of one
      device's part with `resident_gib`.
    placement: the run's.

  Returns:
    True if it is.
  """
  if settings.pipeline != "auto":
    return settings.pipeline == "resident"
  part = int(np.prod(dataset.images.shape)) / placement.parts
  return part <= settings.resident_gib * 2**30


def max_steps_per_call(dataset: Dataset, batch_size: int, placement: Placement) -> int:
  """Number of batches of a streamed split per call and device, at least 1."""
  batch = batch_size * int(np.prod(dataset.images.shape[1:])) // placement.parts
  return max(1, _BYTES_PER_CALL // batch)


def stream_in_order(
  dataset: Dataset, batch_size: int, placement: Placement
) -> Iterator[tuple[jax.Array, jax.Array, jax.Array]]:
  """Yields a split batch by batch, once, for an evaluation.

  Args:
    dataset: the split.
    batch_size: images at a time, at most. N is this or the split's size, whichever is
      less, rounded up to a multiple of `placement.parts`.
    placement: the run's.

  Yields:
    Images, labels and a mask `(N,)` that is False where a row fills up the last batch.
  """
  total = len(dataset)
  batch_size = min(batch_size, total)
  batch_size += -batch_size % placement.parts
  rows = np.arange(-(-total // batch_size) * batch_size)
  images = grain_pipeline.batches(
    dataset.images,
    rows % total,
    batch_size=batch_size,
    part=placement.own_rows(batch_size),
  )

  for number, batch in enumerate(images):
    own = rows[number * batch_size : (number + 1) * batch_size]
    yield (
      jax.make_array_from_process_local_data(
        placement.rows, batch, (batch_size, *batch.shape[1:])
      ),
      *placement.put((dataset.labels[own % total], own < total)),
    )
