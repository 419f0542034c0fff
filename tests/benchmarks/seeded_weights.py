"""EmoSynthNet's variables by seeds, so that no file need hold them."""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from emosynth_jax import models

SIDE, CHANNELS, CLASSES, WIDTH, DENSE = 32, 3, 5, 1 / 32, (8, 6)


def model(classes=CLASSES, dense=DENSE):
  """The network of the comparison, or a smaller one."""
  return models.build_model(
    "emosynthnet", num_classes=classes, width=WIDTH, dense_features=dense
  )


def _uniform(seed, shape):
  """Numbers in [-1, 1). RandomState's are the same in every version of numpy."""
  return np.random.RandomState(seed).uniform(-1, 1, shape)


def variables(channels=CHANNELS, **sizes):
  """Its variables, float64."""
  images, network = jnp.zeros((1, SIDE, SIDE, channels)), model(**sizes)
  shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), images, train=False))
  flat = flax.traverse_util.flatten_dict(shapes, sep="/")
  made = {}
  for i, (name, shape) in enumerate(sorted(flat.items())):
    u = _uniform(i, shape.shape)
    if name.endswith("kernel"):
      made[name] = u * np.sqrt(6 / np.prod(shape.shape[:-1]))
    elif name.endswith(("scale", "var")):
      made[name] = 1 + 0.3 * u
    else:
      made[name] = 0.3 * u
  return flax.traverse_util.unflatten_dict(made, sep="/")


def images():
  """Four images of 4x4 fields and noise, float64."""
  fields = np.kron(_uniform(1000, (4, 4, 4, CHANNELS)), np.ones((1, 8, 8, 1)))
  return 2 * fields + _uniform(1001, (4, SIDE, SIDE, CHANNELS))


def labels():
  """Their labels."""
  return np.arange(4) % CLASSES
