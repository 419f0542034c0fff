"""CIFAR-10: 60,000 color photographs of 32x32 in ten classes (Krizhevsky, 2009)."""

import pathlib

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import _original_files, tfds_records

CLASS_NAMES = (
  "airplane",
  "automobile",
  "bird",
  "cat",
  "deer",
  "dog",
  "frog",
  "horse",
  "ship",
  "truck",
)
COUNTS = {"train": 50000, "test": 10000}


def load(
  data_dir: str | pathlib.Path, split: str, *, share: tfds_records.Share | None = None
) -> Dataset:
  """Reads one split of CIFAR-10.

  Args:
    data_dir: TFDS's data folder, which holds `cifar10/<version>`; or a folder that
      holds `cifar-10-batches-py/` or its files, or `cifar-10-python.tar.gz`, itself or
      in its subfolder `cifar10`.
    split: "train" (50,000 images) or "test" (10,000).
    share: with it each image is read on access, see `tfds_records.read`.

  Returns:
    A `Dataset` of RGB images `(N, 32, 32, 3)`.

  Raises:
    FileNotFoundError: the data set isn't there.
    ValueError: the split is unknown or the data malformed.
  """
  return tfds_records.read(
    "cifar10",
    data_dir,
    split,
    image_shape=(32, 32, 3),
    class_names=CLASS_NAMES,
    counts=COUNTS,
    read_original=_original_files.read_cifar10,
    share=share,
  )
