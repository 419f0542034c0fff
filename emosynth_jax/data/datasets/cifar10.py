"""CIFAR-10: 60,000 color photographs of 32x32 in ten classes (Krizhevsky, 2009).

The splits are "train" (50,000 images) and "test" (10,000), RGB.
"""

import functools

from emosynth_jax.data.datasets import tfds_records

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
_EXPECTED = tfds_records.Expected("cifar10", (32, 32, 3), CLASS_NAMES, COUNTS)

load = functools.partial(tfds_records.read, _EXPECTED)
open_split = functools.partial(tfds_records.open_split, _EXPECTED)
