"""SVHN: house numbers from street photographs, one digit of 32x32 (Netzer, 2011)."""

import pathlib
from typing import Any

import numpy as np

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import _original_files, tfds_records

CLASS_NAMES = tuple("0123456789")
COUNTS = {"train": 73257, "test": 26032, "extra": 531131}

_EXPECTED: dict[str, Any] = {
  "image_shape": (32, 32, 3),
  "class_names": CLASS_NAMES,
  "counts": COUNTS,
}


def load(
  data_dir: str | pathlib.Path, split: str, *, with_extra: bool = False
) -> Dataset:
  """Reads one split of SVHN's cropped digits.

  Args:
    data_dir: TFDS's data folder, which holds `svhn_cropped/<version>`; or a folder that
      holds `train_32x32.mat` and the others, itself or in its subfolder `svhn`.
    split: "train" (73,257 images), "test" (26,032) or "extra" (531,131 easier ones,
      1.6 GB in memory).
    with_extra: whether "train" is train and extra together, 604,388 images.

  Returns:
    A `Dataset` of RGB images `(N, 32, 32, 3)`; the label of digit zero is 0.

  Raises:
    FileNotFoundError: the data set isn't there.
    ValueError: the split is unknown or the data malformed.
  """
  if with_extra and split == "train":
    return _join(load(data_dir, "train"), load(data_dir, "extra"))
  return _load(data_dir, split)


def open_split(
  data_dir: str | pathlib.Path,
  split: str,
  *,
  share: tfds_records.Share,
  with_extra: bool = False,
) -> Dataset:
  """Like `load`, but reads each image on access.

  Original files, and train with extra, are read as a whole.

  Args:
    data_dir, split, with_extra: as `load` takes them.
    share: see `tfds_records.read`.
  """
  if with_extra and split == "train":
    return load(data_dir, split, with_extra=True)
  return _load(data_dir, split, share)


def _join(train: Dataset, extra: Dataset) -> Dataset:
  return Dataset(
    np.concatenate([train.images, extra.images]),
    np.concatenate([train.labels, extra.labels]),
    CLASS_NAMES,
    "train",
    (*train.sources, *extra.sources),
    official_split="train and extra",
  )


def _load(
  data_dir: str | pathlib.Path, split: str, share: tfds_records.Share | None = None
) -> Dataset:
  """The split as TFDS has prepared it, or else from its .mat file."""
  tfds_records.check_split_name("svhn", split, COUNTS)
  paths = None
  if not tfds_records.is_prepared("svhn", data_dir):
    paths = _original_files.find_files(
      pathlib.Path(data_dir), ("", "svhn"), [[f"{split}_32x32.mat"]]
    )
  if paths is None:
    return tfds_records.read("svhn", data_dir, split, share=share, **_EXPECTED)
  images, labels = _original_files.read_svhn(paths[0])
  tfds_records.warn_if_partial(paths[0], split, len(images), COUNTS)
  sources = tuple(f"{paths[0].name}[{i}]" for i in range(len(images)))
  return Dataset(images, labels, CLASS_NAMES, split, sources)
