"""ckextended.csv: Kaggle's 920 cropped faces of CK+, one of each sequence.

The table has FER-2013's columns, 48x48 pixels, and names no subjects.
"""

import pathlib

import numpy as np

from emosynth_jax.data.class_names import EXPRESSIONS
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import _counts, fer2013
from emosynth_jax.data.images import files as image_files

FILE = "ckextended.csv"
NUM_IMAGES = 920
# The codes are FER-2013's, and 7, contempt, which counts as neutral as in all of CK+.
_CODES = (*EXPRESSIONS, "neutral")


def load(path: pathlib.Path, split: str, *, image_size: int, channels: int) -> Dataset:
  """Reads one split of ckextended.csv, as its column Usage has it.

  Args:
    path: the file.
    split: "train" (Training, 80 %), "validation" (PublicTest) or "test" (PrivateTest).
    image_size: side in pixels to which the images are resized.
    channels: 1, or 3 for three equal ones.

  Returns:
    A `Dataset` of images `(N, image_size, image_size, channels)`.

  Raises:
    ValueError: the file is malformed; the line is named.
  """
  usage = fer2013.USAGES[split]
  images, labels, sources, total = [], [], [], 0
  for line, emotion, pixels, row_usage in fer2013.table_rows(path):
    where = f"{path}, line {line}"
    total += 1
    if emotion not in map(str, range(len(_CODES))):
      raise ValueError(f"{where}: emotion: expected 0..7, got {emotion!r}")
    if row_usage == usage:
      image = fer2013.parse_pixels(pixels, where).repeat(channels, axis=-1)
      images.append(image_files.resize(image, image_size))
      labels.append(EXPRESSIONS.index(_CODES[int(emotion)]))
      sources.append(f"{path.name} line {line}")
  if not images:
    raise ValueError(f"{path}: no {usage} image in it")
  _counts.warn_if_partial(f"CK+: {path}", total, "images", NUM_IMAGES)
  return Dataset(
    images=np.stack(images),
    labels=np.array(labels, np.int32),
    class_names=EXPRESSIONS,
    split=split,
    sources=tuple(sources),
    official_split=f"ckextended.csv, {usage}: by frame, leaky",
  ).with_pixel_forms()
