"""The included networks: read, calibrated and exported as their files say.

It needs no data, and pins no number of the weights, which may be replaced.
"""

import pathlib

import commands
import numpy as np
import pytest
import safetensors.numpy
from scipy import special

from emosynth_jax import bundle, predict, pretrained
from emosynth_jax.data.datasets import fer2013, fer_plus, synthetic_faces
from emosynth_jax.export import export, verify


@pytest.fixture(scope="module", params=list(pretrained.NETWORKS))
def name(request):
  return request.param


@pytest.fixture(scope="module")
def network(name):
  return bundle.read_network(name)


def test_names_and_classes():
  assert repr(bundle.read_network()) == repr(bundle.read_network(pretrained.DEFAULT))
  assert bundle.read_network("fer2013").class_names == fer2013.CLASS_NAMES
  assert bundle.read_network("ferplus").class_names == fer_plus.CLASS_NAMES
  assert predict.Predictor("ferplus", faces="none").network.class_names[-1] == (
    "contempt"
  )
  for path in pretrained.NETWORKS.values():
    assert path.stat().st_size <= 4_000_000  # What a bundled network may take.


def test_a_folder_of_a_networks_name_is_a_path(tmp_path, monkeypatch):
  (tmp_path / "ferplus").mkdir()
  monkeypatch.chdir(tmp_path)
  assert len(bundle.read_network("ferplus").class_names) == 8
  for source in ("./ferplus", pathlib.Path("ferplus")):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
      bundle.read_network(source)
  # A --workdir is always a path.
  command = "-m", "emosynth_jax.export", "--workdir=ferplus", "--output=a.onnx"
  done = commands.run(*command, cwd=tmp_path)
  assert done.returncode == 1
  assert "config.json" in done.stderr


def test_an_unknown_name_is_told_the_known_ones():
  with pytest.raises(FileNotFoundError, match=r"ferplus, fer2013\), got 'fer_plus'"):
    predict.Predictor("fer_plus", faces="none")


@pytest.fixture(scope="module")
def images():
  """Drawn faces of full and of low contrast, noise, a ramp, a gray, a checkerboard."""
  faces = synthetic_faces.load("", "test", num_examples=14).images[::3]
  noise = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 1))
  rows, columns = np.mgrid[:48, :48]
  plain = np.stack(
    [255 * rows // 47, np.full_like(rows, 90), 255 * ((rows + columns) % 2)]
  )
  parts = [faces, 90 + faces // 16, noise, plain[..., None]]
  return np.concatenate(parts).astype(np.uint8)


def test_a_bundle_needs_no_file_of_soft_labels(network):
  assert network.config.data.soft_labels == ""


def test_light_and_contrast_do_not_matter(network, images):
  # A photograph of a quarter of the contrast, and a brighter one.
  compute = bundle.compile_logits(network, batch_size=8)
  levels = images[:5].astype(int) // 16
  dim, bright = (
    compute((factor * levels + offset).astype(np.uint8)).astype(float)
    for factor, offset in ((4, 60), (8, 30))
  )
  np.testing.assert_allclose(dim, bright, atol=0.1)
  assert np.ptp(dim, 0).max() > 0.5  # Of different images.


def test_predictions_are_those_of_onnxruntime(name, network, images, tmp_path):
  """With the temperature of the file by hand, also another one's."""
  path = tmp_path / "hotter.safetensors"
  hotter = network._replace(temperature=3 * network.temperature)
  bundle.write_bundle(path, hotter, dtype="float32")
  content = export.export_network(hotter, "onnx")
  logits, probabilities = verify.read_answer(content, "onnx")(images)
  logits = logits.astype(float)
  expected = special.softmax(logits / (3 * network.temperature), -1)
  found = predict.Predictor(path, faces="none").probabilities(images)
  np.testing.assert_allclose(probabilities, expected, atol=1e-6)
  np.testing.assert_allclose(found, expected, atol=export.TOLERANCE)
  # As it came, the network answers otherwise.
  own = predict.Predictor(name, faces="none", batch_size=3).probabilities(images)
  expected = special.softmax(logits / network.temperature, -1)
  np.testing.assert_allclose(own, expected, atol=export.TOLERANCE)
  assert np.abs(found - own).max() > 0.01
  assert np.ptp(own, 0).max() > 0.01  # It looks at the images.


def test_its_temperature_is_the_one_that_was_fitted(network):
  fitted = network.facts["calibration"]
  assert network.temperature == fitted["temperature"]
  assert fitted["split"] == "validation"
  assert fitted["nll_after"] <= fitted["nll_before"]
  assert len(fitted["class_names"]) == len(network.class_names)


def test_without_a_temperature_it_is_refused(name, tmp_path):
  path = tmp_path / "network.safetensors"
  with safetensors.safe_open(pretrained.NETWORKS[name], "np") as file:
    metadata = file.metadata()
  assert '"temperature"' in metadata["header"]
  metadata["header"] = metadata["header"].replace('"temperature"', '"warmth"')
  tensors = safetensors.numpy.load_file(pretrained.NETWORKS[name])
  safetensors.numpy.save_file(tensors, path, metadata)
  with pytest.raises(ValueError, match="'temperature' is missing"):
    predict.Predictor(path, faces="none")
