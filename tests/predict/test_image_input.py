"""Images with alpha lie on white, whatever their format; others are as before."""

import io

import numpy as np
import pytest
from PIL import Image

from emosynth_jax.data.images import decoding
from emosynth_jax.predict import image_input, media, sources

_RNG = np.random.default_rng(0)
_RGBA = _RNG.integers(0, 256, (9, 7, 4), np.uint8)


def _encode(image, **options):
  file = io.BytesIO()
  image.save(file, "PNG", **options)
  return file.getvalue()


def _on_white(rgba):
  """In exact numbers, rounded: 255 is odd, so there are no halves."""
  color, alpha = rgba[..., :3].astype(float), rgba[..., 3:] / 255
  return np.rint(color * alpha + 255 * (1 - alpha)).astype(np.uint8)


def test_alpha_lies_on_white():
  content = _encode(Image.fromarray(_RGBA))
  np.testing.assert_array_equal(image_input.decode(content, ""), _on_white(_RGBA))


def test_hidden_colors_stay_hidden():
  rgba = _RGBA.copy()
  rgba[..., 3] = 0
  assert (image_input.decode(_encode(Image.fromarray(rgba)), "") == 255).all()


def test_gray_with_alpha():
  gray = _RGBA[..., :2].copy()
  expected = _on_white(np.concatenate([gray[..., [0, 0, 0]], gray[..., 1:]], -1))
  found = image_input.decode(_encode(Image.fromarray(gray, "LA")), "")
  np.testing.assert_array_equal(found, expected)


def test_a_palette_with_a_transparent_color():
  image = Image.fromarray(_RNG.integers(0, 3, (6, 5), np.uint8), "P")
  image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 250])
  colors = np.array([[10, 20, 30], [255, 255, 255], [0, 0, 250]], np.uint8)
  found = image_input.decode(_encode(image, transparency=1), "")
  np.testing.assert_array_equal(found, colors[np.asarray(image)])


def test_a_turned_image_with_alpha_is_upright():
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned clockwise by a quarter.
  found = image_input.decode(_encode(Image.fromarray(_RGBA), exif=exif), "")
  np.testing.assert_array_equal(found, np.rot90(_on_white(_RGBA), -1))


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_without_alpha_nothing_changes(mode):
  content = _encode(Image.fromarray(_RGBA[..., :3]).convert(mode))
  np.testing.assert_array_equal(
    image_input.decode(content, ""), decoding.decode(content, "", 3)
  )


def test_the_command_and_the_predictor_read_alike(tmp_path):
  path = tmp_path / "a.png"
  path.write_bytes(_encode(Image.fromarray(_RGBA)))
  (frame,) = media.read_all(sources.find([str(path)]))
  np.testing.assert_array_equal(frame.image, _on_white(_RGBA))
  np.testing.assert_array_equal(image_input.load(path), _on_white(_RGBA))


def test_a_damaged_file_is_refused_by_name():
  content = _encode(Image.fromarray(_RGBA))
  with pytest.raises(ValueError, match=r"cut\.png: cannot decode"):
    image_input.decode(content[: len(content) // 2], "cut.png")
