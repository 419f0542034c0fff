"""Strict decoding of image files: a damaged file is an error that names it."""

import io

import numpy as np
from PIL import Image, ImageOps

_MODES = {1: "L", 3: "RGB"}


def decode(content: bytes, source: str, channels: int) -> np.ndarray:
  """Decodes an encoded image (JPEG, PNG, ...) to uint8, upright.

  Pillow rather than OpenCV, which returns an image for a JPEG whose middle is damaged
  and says so only on stderr.

  Args:
    content: the bytes of the file.
    source: the file's name in error messages.
    channels: 1 for grayscale (ITU-R 601 luma), 3 for RGB; the image is converted, and
      an alpha channel dropped.

  Returns:
    uint8 array `(height, width, channels)`.

  Raises:
    ValueError: the bytes are no image, or a damaged one, or hold more than 8 bits a
      channel.
  """
  try:
    with Image.open(io.BytesIO(content)) as image:
      mode = image.mode
      ImageOps.exif_transpose(image, in_place=True)
      pixels = np.asarray(
        image if mode == _MODES[channels] else image.convert(_MODES[channels])
      )
  except Image.UnidentifiedImageError as error:
    raise ValueError(
      f"{source}: cannot decode this file: no known image format"
    ) from error
  except Exception as error:  # Pillow's decoders raise many types.
    raise ValueError(f"{source}: cannot decode this image ({error})") from error

  if mode.startswith(("I", "F")):
    # Pillow would clip these at 255.
    raise ValueError(f"{source}: expected 8 bits a channel, got Pillow mode {mode!r}")

  return pixels.reshape(*pixels.shape[:2], channels)


def convert(image: np.ndarray, channels: int) -> np.ndarray:
  """Converts an image to 1 or 3 channels, as `decode` does.

  Args:
    image: uint8 `(H, W, 1)`, or `(H, W, 3)` in RGB.
    channels: 1 or 3.

  Returns:
    uint8 `(H, W, channels)`.
  """
  if image.shape[-1] == channels:
    return image
  if channels == 3:
    return np.repeat(image, 3, axis=-1)
  return np.asarray(Image.fromarray(image).convert(_MODES[channels]))[..., None]
