"""Decoding of image files, strictly: a damaged file is refused by name."""

import io

import numpy as np
from PIL import Image

_MODES = {1: "L", 3: "RGB"}


def decode(content: bytes, source: str, channels: int) -> np.ndarray:
  """Decodes an encoded image (JPEG, PNG, ...) to uint8.

  Pillow rather than OpenCV, which returns a half-grey image for a JPEG whose middle
  is damaged and says so only on stderr.

  Args:
    content: the bytes of the file.
    source: the name by which an error calls it.
    channels: 1 for greyscale (ITU-R 601 luma), 3 for RGB; the image is converted.

  Returns:
    uint8 array `(height, width, channels)`.

  Raises:
    ValueError: the bytes are no image, or a damaged one.
  """
  if channels not in _MODES:
    raise ValueError(f"channels: expected 1 or 3, got {channels}")
  try:
    with Image.open(io.BytesIO(content)) as image:
      pixels = np.asarray(image.convert(_MODES[channels]))
  # Pillow's decoders raise a different type for each way of being damaged.
  except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
    reason = "no image format that Pillow knows"
    if not isinstance(error, Image.UnidentifiedImageError):
      reason = str(error)
    raise ValueError(f"{source}: cannot decode this image ({reason})") from error
  return pixels.reshape(*pixels.shape[:2], channels)
