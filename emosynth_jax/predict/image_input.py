"""Images in the forms that callers have; transparent pixels are blended with white."""

import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from emosynth_jax.data.images import decoding
from emosynth_jax.predict import sources

ORDERS = ("rgb", "bgr")


def decode(content: bytes, source: str) -> np.ndarray:
  """Decodes an encoded image, as `decoding.decode` does, onto a white background.

  The data sets drop alpha, which may reveal hidden colors; here an image with a cut-out
  face is decoded as viewers show it. The page in `web/` does the same.

  Args:
    content: the bytes of the file.
    source: the file's name in error messages.

  Returns:
    uint8 `(height, width, 3)`, RGB and upright.

  Raises:
    ValueError: the bytes are empty, no image, or a damaged one, or hold more than 16
      bits a channel.
  """
  if not content:
    raise ValueError(f"{source}: the file is empty")
  try:
    with decoding.reading(source):
      return _to_rgb(decoding.open_upright(content, source))
  except ValueError as error:
    # HEIC and AVIF are one container, which begins with a list of what it holds.
    if content[4:8] == b"ftyp" and b"avif" not in content[:64]:
      if content[8:12] in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"mif1"):
        raise ValueError(
          f"{source}: HEIC is not supported; convert it to JPEG or PNG"
        ) from error
    raise


def load(image: Any, *, order: str = "rgb") -> np.ndarray:
  """Converts an image, in any form that `predict.Predictor` takes, to an array.

  Args:
    image: the path of an image file; its bytes, or the file opened as binary; a
      Pillow image; or an array `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)` of
      NumPy, JAX or another library that NumPy converts, of uint8, or of floats in
      [0, 1].
    order: of an array's channels, "rgb" or, as OpenCV has them, "bgr".

  Returns:
    uint8 `(H, W, C)`, C 1 or 3, RGB; transparent pixels on white.

  Raises:
    TypeError: for another type or dtype.
    ValueError: for an array of another shape or range, or a file that is no image.
    OSError: if a file can't be read.
  """
  if isinstance(image, str | os.PathLike):
    return _read(os.fspath(image))
  if isinstance(image, bytes | bytearray | memoryview):
    return decode(bytes(image), "image")
  if isinstance(image, Image.Image):
    return _to_rgb(decoding.turn_upright(decoding.to_eight_bits(image, "image")))
  if hasattr(image, "read"):
    content = image.read()
    if not isinstance(content, bytes):
      raise TypeError('image: expected a file opened as binary, with "rb"')
    return decode(content, str(getattr(image, "name", "image")))
  if hasattr(image, "__array__"):
    return _from_array(np.asarray(image), order)
  raise TypeError(
    "image: expected a path, the bytes or the open file of an image, a Pillow image or "
    f"an array, got {type(image).__name__}"
  )


def is_one(image: Any) -> bool:
  """Returns whether this is one image, in a form that `load` takes, and not several.

  Raises:
    ValueError: for an array of three dimensions that may be one image with its channels
      first, or with gray and alpha, or several gray images.
  """
  if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
    return True
  if isinstance(image, Image.Image) or hasattr(image, "read"):
    return True
  shape = getattr(image, "shape", None)
  if shape is None or len(shape) not in (2, 3):
    return False
  if len(shape) == 2 or shape[-1] in (1, 3, 4):
    return True
  if shape[0] in (1, 3, 4) or shape[-1] == 2:
    raise ValueError(
      f"image: the shape {tuple(shape)} is not clear; an image is (H, W), (H, W, 1), "
      "(H, W, 3) or (H, W, 4), and several gray ones are a list, or (N, H, W, 1)"
    )
  # Another array of three dimensions is several gray images.
  return False


def _read(name: str) -> np.ndarray:
  path = pathlib.Path(name)
  hint = "for a video, a stream or a webcam, call Predictor.video"
  if sources.is_url(name):
    raise ValueError(f"{name}: expected an image file; {hint}")
  if path.is_dir():
    raise IsADirectoryError(
      f"{name!r}: expected an image file, got a folder; name its files, as in "
      "predictor(pathlib.Path(folder).glob('*.jpg'))"
    )
  try:
    return decode(path.read_bytes(), str(path))
  except ValueError as error:
    if str(error).endswith(decoding.UNKNOWN):
      raise ValueError(f"{error}; {hint}") from error
    raise


def _from_array(array: np.ndarray, order: str) -> np.ndarray:
  if array.dtype.kind in "fV":  # V: bfloat16 and similar types.
    values = array.astype(np.float32)
    if not ((values >= 0) & (values <= 1)).all():
      raise ValueError(
        f"image: expected floats in [0, 1], got {values.min():g} to {values.max():g}; "
        "convert 0 to 255 with image.round().astype('uint8')"
      )
    array = np.rint(255 * values).astype(np.uint8)
  if array.dtype != np.uint8:
    raise TypeError(
      f"image: expected uint8, or floats in [0, 1], got {array.dtype}; convert 0 to "
      "255 with image.astype('uint8')"
    )
  if array.ndim == 2:
    array = array[..., None]
  if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or not array.size:
    raise ValueError(
      "image: expected the shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got "
      f"{array.shape}"
    )
  if array.shape[-1] == 1:
    return array
  if order == "bgr":
    array = array[..., [2, 1, 0, 3][: array.shape[-1]]]
  return _on_white(array) if array.shape[-1] == 4 else array


def _to_rgb(image: Image.Image) -> np.ndarray:
  if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
    return _on_white(np.asarray(image.convert("RGBA")))
  return decoding.to_array(image, 3)


def _on_white(rgba: np.ndarray) -> np.ndarray:
  rgba = rgba.astype(np.uint32)
  color, alpha = rgba[..., :3], rgba[..., 3:]
  # Rounded to the nearest: the weight of white is an integer.
  return ((color * alpha + 127) // 255 + 255 - alpha).astype(np.uint8)
