"""Image decoding for prediction: transparent pixels are blended with white."""

import io

import numpy as np
from PIL import Image, ImageOps

from emosynth_jax.data.images import decoding


def decode(content: bytes, source: str) -> np.ndarray:
  """Decodes an encoded image, as `data._images.decode` does, onto a white background.

  The data sets drop alpha, which may reveal hidden colors; here an image with a cut-out
  face is decoded as viewers show it. The page in `web/` does the same.

  Args:
    content: the bytes of the file.
    source: the file's name in error messages.

  Returns:
    uint8 `(height, width, 3)`, RGB and upright.

  Raises:
    ValueError: the bytes are no image, or a damaged one, or hold more than 8 bits a
      channel.
  """
  pixels = decoding.decode(content, source, 3)
  with Image.open(io.BytesIO(content)) as image:
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
      return pixels
    ImageOps.exif_transpose(image, in_place=True)
    rgba = np.asarray(image.convert("RGBA")).astype(np.uint32)

  colour, alpha = rgba[..., :3], rgba[..., 3:]
  # Rounded to the nearest: the weight of white is an integer.
  return ((colour * alpha + 127) // 255 + 255 - alpha).astype(np.uint8)
