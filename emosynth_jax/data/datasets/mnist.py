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
from emosynth_jax.data.datasets import tfds_records
from emosynth_jax.data.images.lazy import LazyImages

CLASS_NAMES = tuple("0123456789")
COUNTS = {"train": 60000, "test": 10000}
_PADDING = 2
_EXPECTED: dict[str, Any] = {
  "image_shape": (28, 28, 1),
  "class_names": CLASS_NAMES,
  "counts": COUNTS,
}


def load(data_dir: str | pathlib.Path, split: str) -> Dataset:
  """Reads one split of MNIST as TFDS has prepared it.

  Args:
    data_dir: TFDS's data folder, which holds `mnist/<version>`.
    split: "train" (60,000 images) or "test" (10,000).

  Returns:
    A `Dataset` of images `(N, 32, 32, 1)`.

  Raises:
    FileNotFoundError: the data set isn't prepared there.
    ValueError: the split is unknown or the data malformed.
  """
  dataset = tfds_records.read("mnist", data_dir, split, **_EXPECTED)
  return dataclasses.replace(dataset, images=_pad(dataset.images))


def open_split(
  data_dir: str | pathlib.Path, split: str, *, share: tfds_records.Share
) -> Dataset:
  """Like `load`, but reads each image on access.

  Args:
    data_dir, split: as `load` takes them.
    share: see `tfds_records.open_split`.
  """
  dataset = tfds_records.open_split("mnist", data_dir, split, share=share, **_EXPECTED)
  images: Any = LazyImages(
    lambda rows: _pad(dataset.images[rows]), (len(dataset), 32, 32, 1)
  )
  return dataclasses.replace(dataset, images=images)


def _pad(images: np.ndarray) -> np.ndarray:
  margin = (_PADDING, _PADDING)
  return np.pad(images, ((0, 0), margin, margin, (0, 0)))
