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


def load(
  data_dir: str | pathlib.Path, split: str, *, share: tfds_records.Share | None = None
) -> Dataset:
  """Reads one split of MNIST.

  Args:
    data_dir: TFDS's data folder, which holds `mnist/<version>`; or a folder that holds
      the four IDX files, gzipped or not, itself or in its subfolder `mnist`, `raw` or
      `MNIST/raw`.
    split: "train" (60,000 images) or "test" (10,000).
    share: with it each image is read on access, see `tfds_records.read`.

  Returns:
    A `Dataset` of images `(N, 32, 32, 1)`.

  Raises:
    FileNotFoundError: the data set isn't there.
    ValueError: the split is unknown or the data malformed.
  """
  dataset = tfds_records.read(
    "mnist",
    data_dir,
    split,
    image_shape=(28, 28, 1),
    class_names=CLASS_NAMES,
    counts=COUNTS,
    read_original=_read_original,
    share=share,
  )
  images: Any
  if isinstance(dataset.images, LazyImages):
    images = LazyImages(
      lambda rows: _pad(dataset.images[rows]), (len(dataset), 32, 32, 1)
    )
  else:
    images = _pad(dataset.images)
  return dataclasses.replace(dataset, images=images)


def _read_original(data_dir: pathlib.Path, split: str) -> tfds_records.Original | None:
  """The split's IDX files; None if they are missing."""
  names = [
    [
      f"{_PREFIXES[split]}-{kind}{dot}{rank}-ubyte{suffix}"
      for dot in ("-", ".")
      for suffix in ("", ".gz")
    ]
    for kind, rank in (("images", "idx3"), ("labels", "idx1"))
  ]
  paths = _original_files.find_files(data_dir, _FOLDERS, names)
  if paths is None:
    return None
  images = _original_files.read_idx(paths[0], (28, 28))[..., None]
  labels = _original_files.read_idx(paths[1], ())
  if len(labels) != len(images):
    raise ValueError(f"{paths[1]}: {len(labels)} labels for {len(images)} images")
  if labels.max(initial=0) > 9:
    raise ValueError(f"{paths[1]}: expected labels 0..9, got {labels.max()}")
  sources = [f"{paths[0].name}[{i}]" for i in range(len(images))]
  return images, labels.astype(np.int32), sources


def _pad(images: np.ndarray) -> np.ndarray:
  margin = (_PADDING, _PADDING)
  return np.pad(images, ((0, 0), margin, margin, (0, 0)))
