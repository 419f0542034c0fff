"""Images inside a page: PNG data URIs of arrays."""

import base64
import io
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image

# Small images are enlarged in advance, since interpolation differs between browsers.
_LEAST_SIDE = 96


def data_uri(pixels: np.ndarray) -> str:
  """Encodes an image as a data URI.

  Args:
    pixels: uint8 `(H, W)`, `(H, W, 1)` or `(H, W, 3)`, or floating in [0, 1].

  Returns:
    "data:image/png;base64,...".
  """
  if np.issubdtype(pixels.dtype, np.floating):
    pixels = np.clip(np.rint(255 * pixels), 0, 255).astype(np.uint8)
  image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
  if min(image.size) < _LEAST_SIDE:
    times = -(-_LEAST_SIDE // min(image.size))
    size = (times * image.width, times * image.height)
    image = image.resize(size, Image.Resampling.BICUBIC)

  content = io.BytesIO()
  image.save(content, "PNG", optimize=True)
  return _uri(content.getvalue())


def png_file(path: str | os.PathLike) -> dict[str, Any]:
  """A PNG file as a data URI, with its size in pixels.

  Raises:
    ValueError: if it is not a PNG image.
  """
  content = pathlib.Path(path).read_bytes()
  try:
    with Image.open(io.BytesIO(content)) as image:
      width, height = image.size
  except OSError as error:
    raise ValueError(f"{path} is damaged ({error})") from error
  return {"uri": _uri(content), "width": width, "height": height}


def _uri(png: bytes) -> str:
  return f"data:image/png;base64,{base64.b64encode(png).decode()}"
