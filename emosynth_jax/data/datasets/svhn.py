"""SVHN: house numbers from street photographs, one digit of 32x32 (Netzer, 2011).

The splits are "train" (73,257 images), "test" (26,032) and "extra" (531,131 easier
ones, 1.6 GB in memory), RGB; the label of digit zero is 0.
"""

import functools

from emosynth_jax.data.datasets import tfds_records

CLASS_NAMES = tuple("0123456789")
COUNTS = {"train": 73257, "test": 26032, "extra": 531131}
_EXPECTED = tfds_records.Expected("svhn", (32, 32, 3), CLASS_NAMES, COUNTS)

load = functools.partial(tfds_records.read, _EXPECTED)
open_split = functools.partial(tfds_records.open_split, _EXPECTED)
