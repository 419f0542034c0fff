"""Images on disk in the place of an array: equal, and read no more than asked."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import test_tfds
from PIL import Image

from emosynth_jax import data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images.lazy import LazyImages

_PIXELS = np.random.default_rng(0).integers(0, 256, (9, 2, 3, 1), np.uint8)


@pytest.fixture
def reads():
  return []


@pytest.fixture
def images(reads):
  def read(rows):
    reads.extend(rows.tolist())
    return _PIXELS[rows]

  return LazyImages(read, _PIXELS.shape)


@pytest.mark.parametrize(
  "index", [0, -1, slice(2, 5), slice(None), slice(4, 4), np.array([7, 0, 7]), [1, 2]]
)
def test_an_index_gives_what_it_gives_of_the_array(images, reads, index):
  np.testing.assert_array_equal(images[index], _PIXELS[index], strict=True)
  assert sorted(reads) == sorted(np.atleast_1d(np.arange(9)[index]).tolist())


def test_it_answers_as_an_array(images):
  assert (images.shape, images.dtype, len(images)) == (_PIXELS.shape, np.uint8, 9)
  np.testing.assert_array_equal(np.asarray(images), _PIXELS, strict=True)
  with pytest.raises(IndexError):
    images[9]


def test_what_is_held_is_read_once(images, reads):
  taken = images.take([8, 6, 4, 2, 0])
  assert taken.shape == (5, 2, 3, 1)
  assert not reads
  taken.hold(range(1, 4))
  assert reads == [6, 4, 2]
  np.testing.assert_array_equal(taken[np.array([3, 1])], _PIXELS[[2, 6]])
  np.testing.assert_array_equal(taken[1:4], _PIXELS[[6, 4, 2]])
  assert len(reads) == 3
  np.testing.assert_array_equal(taken[0:2], _PIXELS[[8, 6]])


def test_a_data_set_of_them_is_taken_from_without_reading(images, reads):
  lazy: Any = images
  labels = np.arange(9, dtype=np.int32) % 3
  names = tuple(map(str, range(9)))
  dataset = Dataset(lazy, labels, ("a", "b", "c"), "train", names)
  part = dataset.take(np.array([5, 1]))
  assert not reads
  np.testing.assert_array_equal(part.in_memory().images, _PIXELS[[5, 1]], strict=True)
  assert part.sources == ("5", "1")


def _write_folder(root, splits, classes, image_size):
  for split in splits:
    for k, name in enumerate(classes):
      folder = root / split / name
      folder.mkdir(parents=True)
      for i in range(5):
        pixels = np.random.default_rng([k, i]).integers(0, 256, (image_size,) * 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"train_{i}.png")


def _folder(path):
  _write_folder(path, ["train"], "ab", 6)
  return "image_folder", {"image_size": 4, "channels": 1}


def _raf_db(path):
  _write_folder(path, ["train"], "1234567", 10)
  (path / "test").mkdir()
  return "raf_db", {"image_size": 8, "channels": 1}


def _mnist(path):
  test_tfds.write(path, "mnist")
  return "mnist", {}


def _svhn(path):
  test_tfds.write(path, "svhn")
  return "svhn", {}


@pytest.mark.parametrize("write", [_folder, _raf_db, _mnist, _svhn])
def test_splits_that_are_read_lazily_are_the_same(tmp_path, write):
  name, options = write(tmp_path)
  arguments = {"validation_fraction": 0.3, "seed": 1, "limit": 6} | options
  splits = ("train", "validation")
  whole = data.load_splits(name, tmp_path, splits, **arguments)
  lazy = data.load_splits(name, tmp_path, splits, lazily=True, **arguments)
  for split in splits:
    assert isinstance(lazy[split].images, LazyImages)
    read = lazy[split]
    if whole[split].pixel_forms is not None:
      # Told from the pixels, so not before they are read; see run_data.load_run.
      assert read.pixel_forms is None
      read = read.with_pixel_forms()
    given, expected = (dataclasses.asdict(each) for each in (read, whole[split]))
    for field in expected:
      np.testing.assert_array_equal(np.asarray(given[field]), expected[field])


def test_the_labels_of_records_are_shared_out(tmp_path):
  name, _ = _mnist(tmp_path)
  asked = []

  def share(total, compute):
    asked.append(total)
    return np.concatenate([compute(range(5)), compute(range(5, total))])

  loaded = data.load_splits(
    name, tmp_path, ("test",), validation_fraction=0.1, seed=0, lazily=True, share=share
  )
  assert asked == [test_tfds.ROWS]
  np.testing.assert_array_equal(loaded["test"].labels, np.arange(test_tfds.ROWS) % 10)


def test_a_damaged_file_is_named_when_it_is_read(tmp_path):
  name, options = _folder(tmp_path)
  (tmp_path / "train" / "b" / "train_3.png").write_bytes(b"no image")
  lazy = data.load_splits(
    name, tmp_path, ("train",), validation_fraction=0.0, seed=0, lazily=True, **options
  )["train"]
  assert lazy.images[:8].shape == (8, 4, 4, 1)
  with pytest.raises(ValueError, match=r"b/train_3\.png"):
    lazy.in_memory()
