"""Grain's batches against plain indexing."""

import threading

import numpy as np
import pytest

from emosynth_jax.data.grain_pipeline import batches
from emosynth_jax.data.images.lazy import LazyImages

_PIXELS = np.random.default_rng(0).integers(0, 256, (23, 2, 2, 1), np.uint8)
_ORDER = np.random.default_rng(1).permutation(23)


@pytest.mark.parametrize("first", [0, 2, 5])
@pytest.mark.parametrize("part", [range(4), range(1, 3)])
def test_batches_are_those_of_the_order(first, part):
  found = list(batches(_PIXELS, _ORDER, batch_size=4, part=part, first=first))
  expected = [
    _ORDER[4 * b : 4 * b + 4][part.start : part.stop] for b in range(first, 5)
  ]
  assert len(found) == 5 - first  # the last three images are no batch
  for batch, rows in zip(found, expected, strict=True):
    np.testing.assert_array_equal(batch, _PIXELS[rows], strict=True)


def test_images_are_read_ahead_by_other_threads_and_no_more_than_once():
  reads, threads = [], set()

  def read(rows):
    reads.extend(rows.tolist())
    threads.add(threading.get_ident())
    return _PIXELS[rows]

  images = LazyImages(read, _PIXELS.shape)
  found = batches(images, _ORDER, batch_size=4, part=range(4), num_threads=2)
  np.testing.assert_array_equal(next(found), _PIXELS[_ORDER[:4]])
  list(found)
  assert sorted(reads) == sorted(_ORDER[:20].tolist())
  assert threading.get_ident() not in threads


def test_an_error_of_the_reader_comes_through():
  def read(rows):
    raise ValueError("a.png: cannot decode this file")

  images = LazyImages(read, _PIXELS.shape)
  with pytest.raises(ValueError, match=r"a\.png: cannot decode"):
    next(batches(images, _ORDER, batch_size=4, part=range(4)))
