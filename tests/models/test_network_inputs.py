"""Histogram equalization against OpenCV; when training and evaluation apply it."""

import io
import zipfile

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from emosynth_jax.config import defaults
from emosynth_jax.models import network_inputs
from emosynth_jax.training import build

_RNG_SEED = 7


def equalize_by_opencv(images):
  return np.stack([cv2.equalizeHist(image[..., 0]) for image in images])[..., None]


def _kinds(height, width):
  """Images on which a histogram can go wrong, by name, each `(N, height, width, 1)`."""
  rng = np.random.default_rng(_RNG_SEED)
  shape = (8, height, width, 1)
  levels = rng.integers(0, 256, (8, 5))
  few = np.stack([rng.choice(of, (height, width, 1)) for of in levels])
  lone = np.full(shape, 200)
  lone[:, 0, 0, 0] = rng.integers(0, 256, 8)  # one pixel unlike the others
  return {
    "random": rng.integers(0, 256, shape),
    "low contrast": rng.integers(100, 120, shape),
    "skewed": 255 * rng.random(shape) ** 4,
    "few levels": few,
    "two levels": rng.integers(0, 2, shape) * 255,
    "neighboring levels": rng.integers(254, 256, shape),
    "one other pixel": lone,
    "constant": np.broadcast_to(
      np.array([0, 1, 17, 127, 128, 200, 254, 255])[:, None, None, None], shape
    ),
  }


@pytest.mark.parametrize("size", [(48, 48), (1, 1), (5, 7), (1, 13), (33, 2), (96, 97)])
def test_it_is_opencvs_to_the_bit(size):
  for name, images in _kinds(*size).items():
    images = images.astype(np.uint8)
    found = network_inputs.equalize_histogram(jnp.asarray(images))
    assert found.dtype == jnp.uint8
    np.testing.assert_array_equal(found, equalize_by_opencv(images), name)


def test_it_is_opencvs_on_images_of_fer2013(real_data):
  with zipfile.ZipFile(real_data / "fer2013.zip") as archive:
    names = [name for name in archive.namelist() if name.endswith(".jpg")][::500]
    faces = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in names]
  # The zip's images are equalized already: darker and flatter, they are as originals.
  equalized = np.stack(faces)[..., None]
  for images in (equalized, equalized // 3 + 40, (equalized / 16) ** 2):
    images = images.astype(np.uint8)
    found = network_inputs.equalize_histogram(jnp.asarray(images))
    np.testing.assert_array_equal(found, equalize_by_opencv(images))


def test_wrong_images_are_refused():
  with pytest.raises(TypeError, match="expected uint8, got float32"):
    network_inputs.equalize_histogram(jnp.zeros((1, 4, 4, 1)))
  for shape in ((1, 4, 4, 3), (4, 4, 1)):
    with pytest.raises(ValueError, match=r"expected \(N, H, W, 1\), got"):
      network_inputs.equalize_histogram(jnp.zeros(shape, jnp.uint8))


def test_a_share_of_the_images_is_equalized():
  rng = np.random.default_rng(0)
  images = rng.integers(90, 130, (2000, 4, 4, 1)).astype(np.uint8)
  equalized = equalize_by_opencv(images)
  found = network_inputs.equalize_at_random(
    jax.random.key(0), jnp.asarray(images), share=0.3
  )
  is_equalized = (found == equalized).all((1, 2, 3))
  assert (is_equalized != (found == images).all((1, 2, 3))).all()
  # Five standard deviations of 2000 draws.
  assert abs(is_equalized.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 2000)


def _build(equalize, channels=1):
  config = defaults.get_default_config()
  config.model = {"name": "fer_vgg", "width": 0.125, "dtype": "float32"}
  config.input.equalize = equalize
  return build.build_experiment(config, image_shape=(48, 48, channels), num_classes=7)


def _augment(key, images):
  return images + jax.random.uniform(key, images.shape)


def test_training_equalizes_before_augmentation_whose_draws_stay():
  images = np.random.default_rng(1).integers(60, 90, (64, 8, 8, 1)).astype(np.uint8)
  equalized = equalize_by_opencv(images)
  key = jax.random.key(3)
  plain, always, random = (
    network_inputs.build_augment(_augment, equalize, share=0.25)
    for equalize in network_inputs.EQUALIZE
  )
  assert plain is _augment
  np.testing.assert_array_equal(always(key, images), plain(key, equalized))
  found = random(key, images)
  as_they_are = (found == plain(key, images)).all((1, 2, 3))
  as_equalized = (found == plain(key, equalized)).all((1, 2, 3))
  assert (as_they_are != as_equalized).all()
  assert 4 <= as_equalized.sum() <= 30  # of 64, the mean is 16
  # Another step's key chooses other images.
  other = random(jax.random.key(4), images)
  again = (other == plain(jax.random.key(4), equalized)).all((1, 2, 3))
  assert (again != as_equalized).any()


def test_the_choice_is_no_stream_of_the_augmentation():
  key = jax.random.key(11)
  own = jax.random.key_data(jax.random.fold_in(key, network_inputs._RANDOM))
  # Of `augment.augment`.
  streams = jax.random.key_data(jax.random.split(key, 4))
  assert not (streams == own[None]).all(1).any()
  # What the test guards against: numbers below four would be its streams.
  assert (streams[2] == jax.random.key_data(jax.random.fold_in(key, 2))).all()


def test_evaluation_equalizes_always_or_never():
  images = np.random.default_rng(1).integers(60, 90, (3, 48, 48, 1)).astype(np.uint8)
  for equalize in ("none", "random"):
    assert _build(equalize).preprocess is None
  scale = jnp.float32(1 / 255)
  found = network_inputs.network_inputs(
    jnp.asarray(images), scale, preprocess=_build("always").preprocess
  )
  expected = equalize_by_opencv(images).astype(np.float32) * np.float32(1 / 255)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("equalize", ["always", "random"])
def test_color_images_are_refused_by_the_setting(equalize):
  with pytest.raises(
    ValueError,
    match=rf'^config\.input\.equalize: expected "none" for images of 3 channels, got '
    rf"'{equalize}'",
  ):
    _build(equalize, channels=3)
  assert _build("none", channels=3).preprocess is None


def test_an_unchecked_value_is_refused():
  with pytest.raises(ValueError, match=r"config\.input\.equalize: expected one of"):
    _build("allways")
