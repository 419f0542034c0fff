"""A bundle of the tiny network, and a detector that sees what a test wants."""

import numpy as np
import tiny_network

from emosynth_jax import bundle
from emosynth_jax.config import defaults
from emosynth_jax.data.images import face_detector

CLASSES = ("angry", "happy", "neutral")
TEMPERATURE = 1.7


def create_bundle(state):
  """The bundle of a state of the tiny network."""
  config = defaults.get_default_config()
  config.model = {"name": "tiny", "features": 5, "dtype": "float32"}
  return bundle.Bundle(
    config=config,
    class_names=CLASSES,
    image_shape=tiny_network.IMAGE_SHAPE,
    variables=state.variables,
    input_scale=float(state.input_scale),
    temperature=TEMPERATURE,
    facts={},
  )


def write_bundle(path):
  """Writes a bundle of the untrained tiny network."""
  network = create_bundle(tiny_network.create_state())
  bundle.write_bundle(path, network, dtype="float32")
  return str(path)


class FakeDetector:
  """Sees as many faces as the image's first pixel says."""

  loading = 0.0

  def __call__(self, image):
    return [
      face_detector.Face(8.0 * i, 0.0, 8.0 * i + 8, 8.0, 0.9 - 0.1 * i)
      for i in range(image[0, 0, 0])
    ]


def image(number, seed=0):
  """An image with so many faces."""
  pixels = np.random.default_rng(seed).integers(0, 256, (20, 60, 3), np.uint8)
  pixels[0, 0] = number
  return pixels
