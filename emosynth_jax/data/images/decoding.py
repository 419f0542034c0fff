"""Strict decoding of image files: a damaged file is an error that names it."""

import contextlib
import contextvars
import io
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from PIL import ExifTags, Image

# End of the error for bytes that are no image at all.
UNKNOWN = "no known image format"

_MODES = {1: "L", 3: "RGB"}
# What turns an image of this EXIF orientation upright.
_TURNS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
_XMP = b"XML:com.adobe.xmp\0"
# Name of the file that this thread decodes.
_reading: contextvars.ContextVar[str | None] = contextvars.ContextVar(
  "reading", default=None
)


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
    ValueError: the bytes are no image, or a damaged one, or hold more than 16 bits a
      channel.
  """
  with reading(source):
    return to_array(open_upright(content, source), channels)


@contextlib.contextmanager
def reading(source: str) -> Iterator[None]:
  """Context whose warnings are about a file, see `log_warnings_by_file`."""
  token = _reading.set(source)
  try:
    yield
  finally:
    _reading.reset(token)


def open_upright(content: bytes, source: str) -> Image.Image:
  """Decodes an encoded image to a Pillow image, in its own mode and upright.

  Args:
    content: the bytes of the file.
    source: the file's name in error messages.

  Returns:
    The image, with all of its pixels read.

  Raises:
    ValueError: as `decode`.
  """
  try:
    image: Image.Image = Image.open(io.BytesIO(_without_png_text(content)))
    image.load()
    image = turn_upright(image)
  except Image.UnidentifiedImageError as error:
    raise ValueError(f"{source}: cannot decode this file: {UNKNOWN}") from error
  except Exception as error:  # Pillow's decoders raise many types.
    raise ValueError(f"{source}: cannot decode this image ({error})") from error
  return to_eight_bits(image, source)


def turn_upright(image: Image.Image) -> Image.Image:
  """Applies the EXIF orientation; other metadata is neither needed nor checked.

  Args:
    image: any image.

  Returns:
    The image as viewers show it.
  """
  try:
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    turn = _TURNS.get(orientation) if orientation else None
  except Exception:  # Damaged metadata of whole pixels.
    turn = None
  return image if turn is None else image.transpose(turn)


def _without_png_text(content: bytes) -> bytes:
  """Drops compressed text from a PNG file, for whose size Pillow refuses the image."""
  kept, at = [content[:8]], 8
  if kept[0] != b"\x89PNG\r\n\x1a\n":
    return content
  while at + 8 <= len(content):
    length, kind = struct.unpack(">I4s", content[at : at + 8])
    end = at + 12 + length
    # The orientation may be in XMP.
    is_text = kind == b"zTXt" or (
      kind == b"iTXt" and not content.startswith(_XMP, at + 8)
    )
    if not is_text:
      kept.append(content[at:end])
    at = end
  return b"".join(kept) if len(kept) > 1 else content


def to_eight_bits(image: Image.Image, source: str) -> Image.Image:
  """Takes the upper eight of 16 bits a channel, as Pillow does for color.

  Args:
    image: any image.
    source: its name in error messages.

  Returns:
    An image of 8 bits a channel.

  Raises:
    ValueError: for 32 bits, which have no range of their own.
  """
  if image.mode.startswith("I;16"):
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
  if image.mode.startswith(("I", "F")):
    raise ValueError(
      f"{source}: expected 8 or 16 bits a channel, got Pillow mode {image.mode!r}; "
      "convert it to 8 bits"
    )
  return image


def to_array(image: Image.Image, channels: int) -> np.ndarray:
  """Pixels of an image, its alpha channel dropped.

  Args:
    image: of 8 bits a channel.
    channels: as for `decode`.

  Returns:
    uint8 array `(height, width, channels)`.
  """
  mode = _MODES[channels]
  pixels = np.asarray(image if image.mode == mode else image.convert(mode))
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


def log_warnings_by_file() -> None:
  """Logs Pillow's warnings as lines that name the file, for every file.

  For commands, since it changes how the process shows warnings.
  """
  warnings.filterwarnings("always", module=r"PIL\.")
  show = warnings.showwarning

  def log(message: Any, *arguments: Any, **options: Any) -> None:
    source = _reading.get()
    if source is None:
      show(message, *arguments, **options)
    else:
      logging.warning("%s: %s", source, message)

  warnings.showwarning = log
