"""The tiny network as a bundle, and a detector that sees what a test wants."""

import pytest
import tiny_network
import tiny_predictor

from emosynth_jax import bundle
from emosynth_jax.data.images import face_detector


@pytest.fixture(scope="module")
def network(tiny_networks):
  return tiny_predictor.create_bundle(tiny_network.create_state())


@pytest.fixture
def file(network, tmp_path):
  """The network in a file."""
  path = tmp_path / "network.safetensors"
  bundle.write_bundle(path, network, dtype="float32")
  return path


@pytest.fixture
def fake_detector(monkeypatch):
  detector = tiny_predictor.FakeDetector()
  monkeypatch.setattr(face_detector, "Detector", lambda **arguments: detector)
