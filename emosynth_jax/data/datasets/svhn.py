"""SVHN: house numbers from street photographs, one digit of 32x32 (Netzer, 2011)."""

import pathlib
from typing import Any

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import tfds_records

CLASS_NAMES = tuple("0123456789")
COUNTS = {"train": 73257, "test": 26032, "extra": 531131}

_EXPECTED: dict[str, Any] = {
  "image_shape": (32, 32, 3),
  "class_names": CLASS_NAMES,
  "counts": COUNTS,
}


def load(data_dir: str | pathlib.Path, split: str) -> Dataset:
  """Reads one split of SVHN's cropped digits as TFDS has prepared them.

  Args:
    data_dir: TFDS's data folder, which holds `svhn_cropped/<version>`.
    split: "train" (73,257 images), "test" (26,032) or "extra" (531,131 easier ones,
      1.6 GB in memory).

  Returns:
    A `Dataset` of RGB images `(N, 32, 32, 3)`; the label of digit zero is 0.

  Raises:
    FileNotFoundError: the data set isn't prepared there.
    ValueError: the split is unknown or the data malformed.
  """
  return tfds_records.read("svhn", data_dir, split, **_EXPECTED)


def open_split(
  data_dir: str | pathlib.Path, split: str, *, share: tfds_records.Share
) -> Dataset:
  """Like `load`, but reads each image on access.

  Args:
    data_dir, split: as `load` takes them.
    share: see `tfds_records.open_split`.
  """
  return tfds_records.open_split("svhn", data_dir, split, share=share, **_EXPECTED)
