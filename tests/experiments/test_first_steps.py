"""The first steps' cross-entropy against plain arithmetic, and their table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
import tiny_workdir

from emosynth_jax import losses
from emosynth_jax.data import run_data
from emosynth_jax.training import build
from emosynth_jax.training.train_step import epoch_order
from experiments import first_steps

pytestmark = pytest.mark.usefixtures("tiny_networks")

_LEARNING_RATE = 0.01


@pytest.fixture(scope="module")
def config():
  """Plain descent along the gradient of a loss that is not the cross-entropy."""
  config = tiny_workdir.config(
    batch_size=8,
    loss={"name": "mam_softmax+sce_loss"},
    optimizer__name="sgd",
    optimizer__momentum=0.0,
    optimizer__learning_rate=_LEARNING_RATE,
    optimizer__base_fan_in=0,
  )
  config.data.options.num_examples = 32
  return config


def _cross_entropy(logits, labels):
  logits = np.asarray(logits, np.float64)
  logits -= logits.max(axis=1, keepdims=True)
  return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[range(8), labels])


def test_the_values_are_those_of_the_initial_network_and_of_one_step(config):
  datasets = run_data.load_data(config, ("train", "validation"))
  found = first_steps.first_cross_entropies(config, datasets, 2)
  assert len(found) == 2

  train = datasets["train"]
  built = build.experiment_of(config, train)
  state = build.create_state(built, config.seed)
  order = epoch_order(state.key, state.step, num_images=len(train), batch_size=8)
  first, second = np.asarray(order)[:16].reshape(2, 8)
  assert isinstance(built.model, tiny_network.TinyNetwork)
  train_images = jnp.asarray(train.images)

  @jax.jit
  def logits_of(params, rows):
    variables, images = state.variables | {"params": params}, train_images[rows] / 255
    (logits, _), _ = built.model.apply(
      variables, images, train=True, mutable=["batch_stats"]
    )
    return logits

  @jax.jit
  @jax.grad
  def gradient(params):
    loss = losses.get_loss("mam_softmax+sce_loss")
    return loss(logits_of(params, first), train.labels[first]).mean()

  moved = jax.tree.map(
    lambda p, g: p - _LEARNING_RATE * g, state.params, gradient(state.params)
  )
  expected = [
    _cross_entropy(logits_of(params, rows), train.labels[rows])
    for params, rows in ((state.params, first), (moved, second))
  ]
  np.testing.assert_allclose(found, expected, rtol=1e-3)
  # The step did move the network.
  still = _cross_entropy(logits_of(state.params, second), train.labels[second])
  assert abs(expected[1] - still) > 0.01 * still


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
