"""Test-time augmentation against OpenCV, plain arithmetic and what it must keep."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network

from emosynth_jax.training import test_time_augmentation


def _images(shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32)


def test_flip_is_the_image_and_its_mirror_image():
  images = _images((3, 5, 4, 2))
  first, second = test_time_augmentation.flip(images)
  np.testing.assert_array_equal(first, images)
  np.testing.assert_array_equal(second, [np.fliplr(image) for image in images])


@pytest.mark.parametrize(
  ("height", "width", "h", "w"), [(48, 48, 43, 43), (32, 32, 29, 29), (20, 30, 18, 27)]
)
def test_ten_crop_scales_corners_and_center_as_opencv_does(height, width, h, w):
  images = _images((2, height, width, 3))
  found = np.asarray(jax.jit(test_time_augmentation.ten_crop)(images))
  assert found.shape == (10, *images.shape)
  expected = []
  for y, x in (
    (0, 0),
    (0, width - w),
    (height - h, 0),
    (height - h, width - w),
    ((height - h) // 2, (width - w) // 2),
  ):
    for image in images:
      crop = np.ascontiguousarray(image[y : y + h, x : x + w])
      # Pixels as squares whose centers are interpolated between, as in resampling.
      expected.append(cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR))
  expected = np.reshape(expected, (5, *images.shape))
  np.testing.assert_allclose(found[:5], expected, atol=0.02)
  np.testing.assert_array_equal(found[5:], found[:5, :, :, ::-1])
  assert f"{h}x{w} of {height}x{width} pixels" in test_time_augmentation.describe(
    "ten_crop", height, width
  )


def test_the_mean_is_of_probabilities():
  logits = np.random.default_rng(0).normal(size=(3, 6, 4)) * 3
  found = jax.jit(lambda x: test_time_augmentation.mean_logits(lambda v: v, x))(
    jnp.float32(logits)
  )
  probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
  np.testing.assert_allclose(np.exp(found), probabilities.mean(axis=0), rtol=1e-5)


def test_a_network_sure_of_one_view_stays_finite():
  logits = jnp.array([[[0.0, 200.0]], [[300.0, 0.0]]])
  found = test_time_augmentation.mean_logits(lambda v: v, logits)
  np.testing.assert_allclose(found, np.log([[0.5, 0.5]]), rtol=1e-5)


def _build(augment, batch_size):
  return tiny_network.build_evaluate(
    tiny_network.build_experiment(tiny_network.TinyNetwork()),
    class_names=("angry", "sad", "fear"),
    batch_size=batch_size,
    augment=augment,
  )


@pytest.mark.parametrize("batch_size", [7, 64])
def test_a_split_is_evaluated_by_its_views(batch_size):
  state = tiny_network.create_state()
  images, labels = tiny_network.random_images(40)
  summary = _build("flip", batch_size)(state, images, labels)
  probabilities = 0
  for seen in (images, images[:, :, ::-1]):
    (logits, _) = tiny_network.TinyNetwork().apply(
      state.variables, jnp.float32(seen) / 255, train=False
    )
    probabilities = probabilities + np.float64(jax.nn.softmax(logits)) / 2
  loss = -np.log(probabilities[np.arange(40), labels]).mean()
  assert summary["loss"] == pytest.approx(loss, rel=1e-5)
  assert summary["accuracy"] == np.mean(probabilities.argmax(axis=-1) == labels)
  plain = _build("none", batch_size)(state, images, labels)
  assert plain["loss"] != pytest.approx(loss, rel=1e-4)
  # A mirrored split has the same views.
  mirrored = _build("flip", batch_size)(state, images[:, :, ::-1], labels)
  assert mirrored["loss"] == pytest.approx(loss, rel=1e-5)
