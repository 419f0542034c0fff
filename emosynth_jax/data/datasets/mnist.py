"""MNIST: 70,000 handwritten digits (LeCun et al., 1998), padded to 32x32.

EmoSynthNet halves its input four times, and 28 can't be halved four times. Two rows
and columns of zeros on every side (MNIST's own background) bring it to 32 and leave
each pixel as it was, where resampling would blur the strokes.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import _original_files, tfds_records
from emosynth_jax.data.images.lazy import LazyImages

CLASS_NAMES = tuple("0123456789")
COUNTS = {"train": 60000, "test": 10000}
_PADDING = 2
# Folders and names of the original files, as LeCun and as torchvision have them.
_FOLDERS = ("", "mnist", "raw", "MNIST/raw")
_PREFIXES = {"train": "train", "test": "t10k"}
_EXPECTED: dict[str, Any] = {
  "image_shape": (28, 28, 1),
  "class_names": CLASS_NAMES,
  "counts": COUNTS,
}


def load(data_dir: str | pathlib.Path, split: str) -> Dataset:
  """Reads one split of MNIST.

  Args:
    data_dir: TFDS's data folder, which holds `mnist/<version>`; or a folder that holds
      the four IDX files, gzipped or not, itself or in its subfolder `mnist`, `raw` or
      `MNIST/raw`.
    split: "train" (60,000 images) or "test" (10,000).

  Returns:
    A `Dataset` of images `(N, 32, 32, 1)`.

  Raises:
    FileNotFoundError: the data set isn't there.
    ValueError: the split is unknown or the data malformed.
  """
  dataset = _load_original(data_dir, split)
  if dataset is None:
    dataset = tfds_records.read("mnist", data_dir, split, **_EXPECTED)
  return dataclasses.replace(dataset, images=_pad(dataset.images))


def open_split(
  data_dir: str | pathlib.Path, split: str, *, share: tfds_records.Share
) -> Dataset:
  """Like `load`, but reads each image on access.

  Args:
    data_dir, split: as `load` takes them.
    share: see `tfds_records.read`.
  """
  if (original := _load_original(data_dir, split)) is not None:
    return dataclasses.replace(original, images=_pad(original.images))
  dataset = tfds_records.read("mnist", data_dir, split, share=share, **_EXPECTED)
  images: Any = LazyImages(
    lambda rows: _pad(dataset.images[rows]), (len(dataset), 32, 32, 1)
  )
  return dataclasses.replace(dataset, images=images)


def _load_original(data_dir: str | pathlib.Path, split: str) -> Dataset | None:
  """The split from its IDX files; None if TFDS has prepared it, or they are missing."""
  tfds_records.check_split_name("mnist", split, COUNTS)
  if tfds_records.is_prepared("mnist", data_dir):
    return None
  names = [
    [
      f"{_PREFIXES[split]}-{kind}{dot}{rank}-ubyte{suffix}"
      for dot in ("-", ".")
      for suffix in ("", ".gz")
    ]
    for kind, rank in (("images", "idx3"), ("labels", "idx1"))
  ]
  paths = _original_files.find_files(pathlib.Path(data_dir), _FOLDERS, names)
  if paths is None:
    return None
  images = _original_files.read_idx(paths[0], (28, 28))[..., None]
  labels = _original_files.read_idx(paths[1], ())
  if len(labels) != len(images):
    raise ValueError(f"{paths[1]}: {len(labels)} labels for {len(images)} images")
  if labels.max(initial=0) > 9:
    raise ValueError(f"{paths[1]}: expected labels 0..9, got {labels.max()}")
  tfds_records.warn_if_partial(paths[0], split, len(images), COUNTS)
  sources = tuple(f"{paths[0].name}[{i}]" for i in range(len(images)))
  return Dataset(images, labels.astype(np.int32), CLASS_NAMES, split, sources)


def _pad(images: np.ndarray) -> np.ndarray:
  margin = (_PADDING, _PADDING)
  return np.pad(images, ((0, 0), margin, margin, (0, 0)))
