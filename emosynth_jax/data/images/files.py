"""Image files of any size, read and resized to one size."""

import pathlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from emosynth_jax.data.images import decoding
from emosynth_jax.data.images.lazy import LazyImages


def check_options(image_size: int, channels: int) -> None:
  """Checks the side and the number of channels."""
  if not isinstance(image_size, int) or isinstance(image_size, bool):
    raise TypeError(f"image_size: expected an integer, got {image_size!r}")
  if image_size <= 0:
    raise ValueError(f"image_size: expected a positive side, got {image_size}")
  if channels not in (1, 3):
    raise ValueError(f"channels: expected 1 or 3, got {channels}")


def lazily(paths: Sequence[pathlib.Path], image_size: int, channels: int) -> Any:
  """Images of files as a lazy array, see `LazyImages`."""
  shape = (image_size, image_size, channels)

  def read_rows(rows: np.ndarray) -> np.ndarray:
    images = np.empty((len(rows), *shape), np.uint8)
    for i, row in enumerate(rows):
      images[i] = read(paths[row], image_size, channels)
    return images

  return LazyImages(read_rows, (len(paths), *shape))


def read(path: pathlib.Path, image_size: int, channels: int) -> np.ndarray:
  """Reads an image: uint8 `(image_size, image_size, channels)`.

  Raises:
    ValueError: the file is no image, or a folder.
  """
  if path.is_dir():
    raise ValueError(f"{path}: expected an image file, got a folder")
  return resize(decoding.decode(path.read_bytes(), str(path), channels), image_size)


def resize(image: np.ndarray, size: int) -> np.ndarray:
  """Resizes an image `(H, W, C)` to a square; other aspect ratios are stretched.

  Shrinking averages over areas, enlarging is bilinear.
  """
  height, width, channels = image.shape
  # In two steps, because OpenCV no longer averages over areas where it enlarges
  # either side. A step that changes nothing copies.
  image = cv2.resize(
    image, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA
  )
  image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
  return image.reshape(size, size, channels)
