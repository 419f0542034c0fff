"""Only the orientation of an image's metadata is needed, and no other refuses it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from emosynth_jax.data.images import decoding
from emosynth_jax.predict import image_input

_RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
# Pixels of `_RGB`, turned by numpy, as the EXIF standard has the orientations.
_SHOWN = {
  1: _RGB,
  2: _RGB[:, ::-1],
  3: _RGB[::-1, ::-1],
  4: _RGB[::-1],
  5: _RGB.swapaxes(0, 1),
  6: np.rot90(_RGB, -1),
  7: np.rot90(_RGB, 2).swapaxes(0, 1),
  8: np.rot90(_RGB),
}


def _exif(orientation, *, resolution=b"72 dpi\0"):
  """EXIF with XResolution as text, which Pillow reads and can't write."""
  entries = [
    struct.pack("<HHII", 0x0112, 3, 1, orientation),
    struct.pack("<HHII", 0x011A, 2, len(resolution), 8 + 2 + 24 + 4),
  ]
  head = b"II*\0" + struct.pack("<IH", 8, 2) + b"".join(entries) + struct.pack("<I", 0)
  return b"Exif\0\0" + head + resolution


def _encode(form="PNG", **options):
  file = io.BytesIO()
  Image.fromarray(_RGB).save(file, form, **options)
  return file.getvalue()


def _read(content):
  """By the data sets and by the predictions, which agree."""
  pixels = decoding.decode(content, "a", 3)
  np.testing.assert_array_equal(image_input.decode(content, "a"), pixels)
  return pixels


@pytest.mark.parametrize("orientation", _SHOWN)
def test_orientations_beside_what_cannot_be_written_again(orientation):
  content = _encode(exif=_exif(orientation))
  np.testing.assert_array_equal(_read(content), _SHOWN[orientation])


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_other_formats(form):
  found = _read(_encode(form, exif=_exif(6), quality=100))
  np.testing.assert_allclose(found.mean((0, 1)), _RGB.mean((0, 1)), atol=8)
  assert found.shape == (9, 6, 3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_upright(orientation):
  np.testing.assert_array_equal(_read(_encode(exif=_exif(orientation))), _RGB)


@pytest.mark.parametrize("damaged", [b"\xff" * 20, b"II*\0\xff\xff\xff\xff", b"MM"])
def test_damaged_exif_is_no_orientation(damaged):
  content = _encode()
  chunk = struct.pack(">I", len(damaged)) + b"eXIf" + damaged
  chunk += struct.pack(">I", zlib.crc32(b"eXIf" + damaged))
  end_of_header = 8 + 25
  content = content[:end_of_header] + chunk + content[end_of_header:]
  np.testing.assert_array_equal(_read(content), _RGB)


@pytest.mark.parametrize("method", ["add_text", "add_itxt"])
def test_much_compressed_text_in_a_png(method):
  """As of image editors, which keep their settings or their history there."""
  info = PngImagePlugin.PngInfo()
  getattr(info, method)("settings", "x" * 3 * 2**20, zip=True)
  np.testing.assert_array_equal(_read(_encode(pnginfo=info)), _RGB)


def test_an_orientation_in_xmp_is_kept():
  info = PngImagePlugin.PngInfo()
  info.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="3"/>')
  info.add_text("settings", "x" * 3 * 2**20, zip=True)
  np.testing.assert_array_equal(_read(_encode(pnginfo=info)), _SHOWN[3])


def test_damaged_pixels_are_still_refused():
  info = PngImagePlugin.PngInfo()
  info.add_text("settings", "x" * 100, zip=True)
  content = _encode(pnginfo=info)
  for cut in (content[:-30], content[:60]):
    with pytest.raises(ValueError, match="a: cannot decode"):
      _read(cut)
