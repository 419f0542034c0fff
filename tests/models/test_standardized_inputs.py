"""Images that are standardized by their own mean and variance, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from emosynth_jax.config import defaults
from emosynth_jax.export.onnx import writer as onnx_writer
from emosynth_jax.models import build_model
from emosynth_jax.models.normalized_inputs import StandardizedInputs
from emosynth_jax.training import build


@pytest.fixture(scope="module")
def network():
  return build_model("fer_vgg", num_classes=3, width=1 / 32, dense_features=(4,))


@pytest.fixture(scope="module")
def variables(network):
  images = jnp.zeros((1, 16, 16, 3))
  return jax.jit(lambda k: network.init(k, images, train=False))(jax.random.key(0))


@pytest.fixture(scope="module")
def images():
  """Of any light and contrast, in pixels / 255."""
  rng = np.random.default_rng(0)
  noise = rng.random((6, 16, 16, 3)) * rng.random((6, 1, 1, 1))
  return (noise * 0.5 + 0.5 * rng.random((6, 1, 1, 1))).astype(np.float32)


def _standardized(images):
  """In float64."""
  images = np.asarray(images, np.float64)
  mean = images.mean((1, 2, 3), keepdims=True)
  variance = images.var((1, 2, 3), keepdims=True)
  # A variance of 1e-5 is noise of 0.8 gray levels.
  return (images - mean) / np.sqrt(variance + 1e-5)


def _apply(model, variables, images):
  return jax.jit(lambda x: model.apply(variables, x, train=False)[0])(images)


def test_they_are_the_networks_own_with_its_variables(network, variables, images):
  standardized = StandardizedInputs(network)
  own = jax.jit(lambda k: standardized.init(k, images, train=False))(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, own, variables)
  found = _apply(standardized, variables, images)
  expected = _apply(network, variables, _standardized(images).astype(np.float32))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_light_and_contrast_do_not_matter(network, variables, images):
  standardized = StandardizedInputs(network)
  found = _apply(standardized, variables, images)
  changed = _apply(standardized, variables, 3 * images + 0.2)
  np.testing.assert_allclose(found, changed, atol=0.02)
  # They do without.
  plain = [_apply(network, variables, x) for x in (images, 3 * images + 0.2)]
  assert np.abs(plain[0] - plain[1]).max() > 0.1


def test_an_image_of_one_color_is_zeros_and_has_gradients(network, variables):
  standardized = StandardizedInputs(network)
  constant = jnp.full((2, 16, 16, 3), 0.7)
  expected = _apply(network, variables, jnp.zeros_like(constant))
  found = _apply(standardized, variables, constant)
  np.testing.assert_allclose(found, expected, atol=1e-6)

  @jax.jit
  @jax.grad
  def gradient(x):
    return standardized.apply(variables, x, train=False)[0].sum()

  assert np.isfinite(gradient(constant)).all()


def test_an_onnx_file_standardizes(network, variables):
  standardized = StandardizedInputs(network)
  pixels = np.random.default_rng(1).integers(60, 90, (5, 16, 16, 3)).astype(np.uint8)
  scale = np.float32(1 / 255)
  model = onnx_writer.write_onnx(
    lambda x: [standardized.apply(variables, x * scale, train=False)[0]],
    (16, 16, 3),
    output_names=["logits"],
  )
  session = onnxruntime.InferenceSession(model.SerializeToString())
  (found,) = session.run(None, {"images": pixels})
  inputs = _standardized(pixels / 255).astype(np.float32)
  expected = _apply(network, variables, inputs)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_setting_wraps_the_network():
  config = defaults.get_default_config()
  config.model = {"name": "fer_vgg", "width": 0.125, "dtype": "float32"}
  config.input.standardize = True
  defaults.check_config(config)
  built = build.build_experiment(config, image_shape=(48, 48, 1), num_classes=7)
  assert isinstance(built.model, StandardizedInputs)
  config.input.mean, config.input.std = (0.5,), (0.2,)
  with pytest.raises(ValueError, match=r"config\.input\.standardize: expected False"):
    defaults.check_config(config)
