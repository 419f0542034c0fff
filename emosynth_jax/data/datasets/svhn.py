"""SVHN: house numbers from street photographs, one digit of 32x32 (Netzer, 2011)."""

import pathlib

import numpy as np

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import _original_files, tfds_records

CLASS_NAMES = tuple("0123456789")
COUNTS = {"train": 73257, "test": 26032, "extra": 531131}


def load(
  data_dir: str | pathlib.Path,
  split: str,
  *,
  with_extra: bool = False,
  share: tfds_records.Share | None = None,
) -> Dataset:
  """Reads one split of SVHN's cropped digits.

  Args:
    data_dir: TFDS's data folder, which holds `svhn_cropped/<version>`; or a folder that
      holds `train_32x32.mat` and the others, itself or in its subfolder `svhn`.
    split: "train" (73,257 images), "test" (26,032) or "extra" (531,131 easier ones,
      1.6 GB in memory).
    with_extra: whether "train" is train and extra together, 604,388 images, which are
      read as a whole.
    share: with it each image is read on access, see `tfds_records.read`.

  Returns:
    A `Dataset` of RGB images `(N, 32, 32, 3)`; the label of digit zero is 0.

  Raises:
    FileNotFoundError: the data set isn't there.
    ValueError: the split is unknown or the data malformed.
  """
  if with_extra and split == "train":
    return _join(load(data_dir, "train"), load(data_dir, "extra"))
  return tfds_records.read(
    "svhn",
    data_dir,
    split,
    image_shape=(32, 32, 3),
    class_names=CLASS_NAMES,
    counts=COUNTS,
    read_original=_read_original,
    share=share,
  )


def _join(train: Dataset, extra: Dataset) -> Dataset:
  return Dataset(
    np.concatenate([train.images, extra.images]),
    np.concatenate([train.labels, extra.labels]),
    CLASS_NAMES,
    "train",
    (*train.sources, *extra.sources),
    official_split="train and extra",
  )


def _read_original(data_dir: pathlib.Path, split: str) -> tfds_records.Original | None:
  """The split's .mat file; None if there is none."""
  paths = _original_files.find_files(data_dir, ("", "svhn"), [[f"{split}_32x32.mat"]])
  if paths is None:
    return None
  images, labels = _original_files.read_svhn(paths[0])
  return images, labels, [f"{paths[0].name}[{i}]" for i in range(len(images))]
