"""A workdir of a tiny network that nobody trained, and its data."""

import contextlib
import importlib

import numpy as np
import tiny_network

from emosynth_jax import models
from emosynth_jax.config import defaults
from emosynth_jax.data import run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.training import build
from emosynth_jax.workdir import record as run_record
from emosynth_jax.workdir.checkpoints import Checkpoints

CLASSES = ("angry", "happy", "neutral")


def change(config, **changes):
  """Changes settings of a config, and returns it; "__" is a dot in a name."""
  for path, value in changes.items():
    parent, _, key = path.rpartition("__")
    (config[parent] if parent else config)[key] = value
  return config


def config(**changes):
  """The config of epochs of two steps of a tiny network, see `change`."""
  config = defaults.get_default_config()
  config.model = {"name": "tiny", "features": 4, "dtype": "float32"}
  config.data.options.num_examples = 14
  config.batch_size = 7
  # Epochs of milliseconds that each leave a checkpoint.
  config.checkpoint.min_seconds = 0.0
  return change(config, **changes)


def dataset(number, *, seed=1, split="validation", class_names=CLASSES):
  """Random images; validation is called PublicTest and test PrivateTest."""
  images, labels = tiny_network.random_images(number, seed=seed)
  return Dataset(
    images=np.asarray(images),
    labels=np.asarray(labels, np.int32),
    class_names=class_names,
    split=split,
    sources=("",) * number,
    official_split={"validation": "PublicTest", "test": "PrivateTest"}.get(split, ""),
  )


def install(patch, load=None):
  """Names the tiny networks; the data is that of `load(config, split)`."""
  patch.setitem(models.MODELS, "tiny", tiny_network.TinyNetwork)
  patch.setitem(models.MODELS, "tiny_maps", tiny_network.TinyMaps)
  if load is not None:
    patch.setattr(
      run_data,
      "load_data",
      lambda config, splits, **_: {split: load(config, split) for split in splits},
    )


def shrink_recipe(patch, name, **changes):
  """configs/NAME.py has a network that compiles fast and one epoch, see `change`."""
  module = importlib.import_module(f"configs.{name}")

  def get_config(variants, real=module.get_config):
    config = real(variants)
    config.model = {"name": "tiny", "features": 4, "dtype": "float32"}
    return change(config, num_epochs=1, batch_size=16, **changes)

  patch.setattr(module, "get_config", get_config)


def keep_fingerprint(data, workdir):
  """Writes the fingerprint of data sets, by split."""
  run_record.write_fingerprint(run_data.fingerprint(data), workdir)


def write(workdir, config, state, data=None):
  """Writes the config, the best checkpoint and the fingerprint of the data."""
  run_record.keep_config(config, workdir)
  if data is not None:
    keep_fingerprint(data, workdir)
  checkpoints = Checkpoints(workdir, keep=1)
  checkpoints.save("best", state)
  checkpoints.close()
  return workdir


def restore(config, workdir, kind, *, image_shape=(48, 48, 1), num_classes=7):
  """The newest state among a run's checkpoints "last" or "best"."""
  built = build.build_experiment(
    config, image_shape=image_shape, num_classes=num_classes
  )
  checkpoints = Checkpoints(workdir, keep=2, read_only=True)
  with contextlib.closing(checkpoints):
    return checkpoints.restore(kind, build.state_shapes(built))
