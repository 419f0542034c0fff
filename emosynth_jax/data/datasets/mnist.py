"""MNIST: 70,000 handwritten digits (LeCun et al., 1998), padded to 32x32.

EmoSynthNet halves its input four times, and 28 can't be halved four times. Two rows
and columns of zeros on every side (MNIST's own background) bring it to 32 and leave
each pixel as it was, where resampling would blur the strokes. The splits are "train"
(60,000 images) and "test" (10,000).
"""

import functools

from emosynth_jax.data.datasets import tfds_records

CLASS_NAMES = tuple("0123456789")
COUNTS = {"train": 60000, "test": 10000}
_EXPECTED = tfds_records.Expected("mnist", (28, 28, 1), CLASS_NAMES, COUNTS, padding=2)

load = functools.partial(tfds_records.read, _EXPECTED)
open_split = functools.partial(tfds_records.open_split, _EXPECTED)
