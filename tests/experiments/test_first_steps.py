"""The first steps' cross-entropy against plain arithmetic, and their table."""

import functools

import jax
import numpy as np
import pytest

from configs import synthetic_faces
from emosynth_jax import models
from emosynth_jax.data import run_data
from emosynth_jax.training import build
from emosynth_jax.training.train_step import epoch_order
from experiments import first_steps


@pytest.fixture(scope="module")
def config():
  config = synthetic_faces.get_config("fer_vgg,small,mam_sce")
  config.data.options.num_examples = 32
  config.model.width = 0.0625
  config.model.dropout_rate = 0.0
  config.augment = {**config.augment, "zoom": 0.0, "shift": 0.0, "rotation": 0.0}
  config.augment.flip = False
  config.batch_size = 8
  config.steps_per_call = 1
  return config


def test_the_first_value_is_that_of_the_initial_network(config):
  datasets = run_data.load_data(config, ("train", "validation"))
  found = first_steps.first_cross_entropies(config, datasets, 2)
  assert len(found) == 2

  train = datasets["train"]
  built = build.build_experiment(
    config, image_shape=train.images.shape[1:], num_classes=len(train.class_names)
  )
  state = build.create_state(built, config.seed)
  rows = epoch_order(state.key, state.step, num_images=len(train), batch_size=8)[:8]
  images = np.asarray(train.images[np.asarray(rows)], np.float32) / 255
  apply = functools.partial(built.model.apply, train=True, mutable=["batch_stats"])
  (logits, _), _ = jax.jit(apply)(
    state.variables, images, rngs={"dropout": jax.random.key(0)}
  )
  assert isinstance(built.model, models.MODELS["fer_vgg"])
  logits = np.asarray(logits, np.float64)
  logits -= logits.max(axis=1, keepdims=True)
  chosen = logits[range(8), train.labels[np.asarray(rows)]]
  expected = np.mean(np.log(np.exp(logits).sum(axis=1)) - chosen)
  np.testing.assert_allclose(found[0], expected, rtol=1e-3)


def test_more_steps_than_an_epoch_has_are_refused(config):
  datasets = run_data.load_data(config, ("train", "validation"))
  with pytest.raises(ValueError, match="--steps: expected at most the epoch's 4"):
    first_steps.first_cross_entropies(config, datasets, 5)


def test_the_table_tells_what_was_not_finite():
  member = {
    "width": 1.0,
    "variant": "thesis",
    "pixels": "fer2013.csv",
    "num_steps": 4,
    "hardware": "2 cores",
    "commit": "abc",
  }
  table = first_steps.format_table(
    [
      member | {"cross_entropy": [2.0, 9.0, 1.0, 2.0]},
      member | {"cross_entropy": [3.0]},
    ]
  )
  assert "| 4 of 4 | 2.000 | 9.000 | 1.500 |" in table
  assert "| 1 of 4 | 3.000 | 3.000 | not finite |" in table
