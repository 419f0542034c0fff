"""The included pretrained model: read, calibrated and exported as its file says.

It needs no data, and pins no number of the weights, which may be replaced.
"""

import cv2
import numpy as np
import pytest
import safetensors.numpy
from scipy import special

from emosynth_jax import bundle, predict
from emosynth_jax.export import export, verify


@pytest.fixture(scope="module")
def network():
  return bundle.read_bundle(bundle.PRETRAINED)


@pytest.fixture(scope="module")
def images(network):
  """Noise of full and of low contrast, a ramp, a plain gray and a checkerboard."""
  height, width, channels = network.image_shape
  rows, columns = np.mgrid[:height, :width]
  noise = np.random.default_rng(0).integers(0, 256, (5, *network.image_shape))
  plain = np.stack(
    [255 * rows // (height - 1), np.full_like(rows, 90), 255 * ((rows + columns) % 2)]
  )
  plain = np.repeat(plain[..., None], channels, -1)
  return np.concatenate([noise, 90 + noise // 16, plain]).astype(np.uint8)


def test_predictions_are_those_of_onnxruntime(network, images):
  content = export.export_network(network, "onnx")
  logits, probabilities = verify.read_answer(content, "onnx")(images)
  predictor = predict.Predictor(faces="none", batch_size=3)
  found = predictor.probabilities(images)
  np.testing.assert_allclose(found, probabilities, atol=export.TOLERANCE)
  # The temperature of the file, by hand, on both ways.
  expected = special.softmax(logits.astype(float) / network.temperature, -1)
  np.testing.assert_allclose(probabilities, expected, atol=1e-6)
  np.testing.assert_allclose(found, expected, atol=export.TOLERANCE)
  assert np.ptp(found, 0).max() > 0.01  # It looks at the images.


def test_photographs_are_equalized_by_the_network(network, images):
  # FER-2013's zip, which it was trained on, is equalized; photographs are not.
  config = network.config.copy_and_resolve_references()
  assert config.input.equalize == "always"
  config.input.equalize = "none"
  compute = bundle.compile_logits(network._replace(config=config), batch_size=3)
  equalized = np.stack([cv2.equalizeHist(image[..., 0]) for image in images])
  logits = compute(equalized[..., None]).astype(float)
  expected = special.softmax(logits / network.temperature, -1)
  found = predict.Predictor(faces="none", batch_size=3).probabilities(images)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  # It matters: as they are, the images have other answers.
  plain = special.softmax(compute(images).astype(float) / network.temperature, -1)
  assert np.abs(found - plain).max() > 0.05


def test_the_temperature_is_applied(network, images, tmp_path):
  path = tmp_path / "hotter.safetensors"
  hotter = network._replace(temperature=3 * network.temperature)
  bundle.write_bundle(path, hotter, dtype="float32")
  content = export.export_network(hotter, "onnx")
  logits, probabilities = verify.read_answer(content, "onnx")(images)
  expected = special.softmax(logits / (3 * network.temperature), -1)
  found = predict.Predictor(path, faces="none").probabilities(images)
  np.testing.assert_allclose(probabilities, expected, atol=1e-5)
  np.testing.assert_allclose(found, expected, atol=export.TOLERANCE)
  # Neither forgets it: as it came, the network answers otherwise.
  own = predict.Predictor(faces="none").probabilities(images)
  assert np.abs(found - own).max() > 0.01


def test_its_temperature_is_the_one_that_was_fitted(network):
  fitted = network.facts["calibration"]
  assert network.temperature == fitted["temperature"]
  assert fitted["split"] == "validation"
  assert fitted["nll_after"] <= fitted["nll_before"]
  assert len(fitted["class_names"]) == len(network.class_names)


def test_without_a_temperature_it_is_refused(network, tmp_path):
  path = tmp_path / "network.safetensors"
  with safetensors.safe_open(bundle.PRETRAINED, "np") as file:
    metadata = file.metadata()
  assert '"temperature"' in metadata["header"]
  metadata["header"] = metadata["header"].replace('"temperature"', '"warmth"')
  tensors = safetensors.numpy.load_file(bundle.PRETRAINED)
  safetensors.numpy.save_file(tensors, path, metadata)
  with pytest.raises(ValueError, match="'temperature' is missing"):
    predict.Predictor(path, faces="none")
