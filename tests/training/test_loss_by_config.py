"""Any loss of the library, by its name in a config, in a training step."""

import functools

import commands
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_network

from emosynth_jax import losses
from emosynth_jax.training.state import create_train_state
from emosynth_jax.training.train_step import Batch, StepSetup, train_step

_NEEDED = {
  "deferred_reweighting": {"reweight_step": 80},
  "mixed_cross_entropy": {"total_steps": 100},
  "real_world_weight_cross_entropy": {
    "fn_weights": (1.0, 1.0, 1.0),
    "fp_weights": ((0.0,) * 3,) * 3,
  },
  "small_loss_cross_entropy": {"noise_rate": 0.2, "warmup_steps": 10},
  "subcenter_arcface": {"sub_centers": 2},
}
_NUM_CLASSES = 3
_NAMES = [*losses.LOSSES, "mam_softmax+sce_loss", "arcface+focal"]


def _step(name, **arguments):
  """A step of the tiny network under a loss, and its initial state's maker."""
  columns = _NUM_CLASSES * arguments.get("sub_centers", 1)
  model = tiny_network.TinyNetwork(num_classes=columns)
  optimizer, plateau = optax.sgd(0.1), tiny_network.build_plateau()
  create = functools.partial(
    create_train_state,
    model=model,
    optimizer=optimizer,
    plateau=plateau,
    image_shape=tiny_network.IMAGE_SHAPE,
    input_scale=1 / 255,
    init_loss_state=functools.partial(losses.init_state, name, _NUM_CLASSES),
  )
  setup = StepSetup(
    model=model,
    loss=losses.get_loss(name, **arguments),
    evaluation_logits=losses.get_evaluation_logits(name, **arguments),
    optimizer=optimizer,
    augment=lambda key, images: images.astype(jnp.float32),
    class_weights=np.ones(_NUM_CLASSES, np.float32),
    class_counts=jnp.array([5, 3, 2]),
  )
  return create, functools.partial(train_step, setup=setup)


def _batch():
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (6, *tiny_network.IMAGE_SHAPE), dtype=np.uint8)
  return Batch(jnp.asarray(images), jnp.array([0, 1, 2, 0, 1, 2]))


@pytest.mark.parametrize("name", _NAMES)
def test_every_loss_finds_its_inputs(name):
  create, step = _step(name, **_NEEDED.get(name, {}))
  state = jax.eval_shape(create, jax.random.key(0))
  after = jax.eval_shape(step, state, _batch())
  assert jax.tree.structure(after) == jax.tree.structure(state)


@pytest.mark.parametrize("name", ["center_loss", "mam_softmax_class_ema+center_loss"])
def test_the_state_of_a_loss_moves_with_the_step(name):
  create, step = _step(name)
  before = jax.jit(create)(jax.random.key(0))
  after = jax.jit(step)(before, _batch())
  for old, new in zip(
    jax.tree.leaves(before.loss_state), jax.tree.leaves(after.loss_state), strict=True
  ):
    assert np.isfinite(new).all()
    assert np.abs(np.asarray(new) - np.asarray(old)).max() > 0


def test_a_cosine_margin_trains_the_last_layers_kernel_and_not_its_bias():
  create, step = _step("arcface", scale=16.0, margin=0.3)
  before = jax.jit(create)(jax.random.key(0))
  after = jax.jit(step)(before, _batch())
  old, new = before.params["logits"], after.params["logits"]
  assert np.abs(new["kernel"] - old["kernel"]).max() > 0
  np.testing.assert_array_equal(new["bias"], old["bias"])


def test_accuracy_in_training_is_counted_without_the_margin():
  # With so large a margin the label's logit is never the largest.
  create, step = _step("cosface", scale=1.0, margin=2.0)
  state = jax.jit(create)(jax.random.key(0))
  images, _ = _batch()
  model = tiny_network.TinyNetwork()
  (_, out), _ = model.apply(
    state.variables,
    images.astype(jnp.float32) / 255,
    train=True,
    mutable=["batch_stats"],
  )
  kernel = np.asarray(state.params["logits"]["kernel"])
  embeddings = np.asarray(out["pre_logits"])
  cosines = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)) @ (
    kernel / np.linalg.norm(kernel, axis=0, keepdims=True)
  )
  labels = jnp.asarray(cosines.argmax(1), jnp.int32)
  after = jax.jit(step)(state, Batch(images, labels))
  assert int(after.totals["correct"]) == len(labels)


_BY_FLAGS = """
import sys
from absl import flags
from emosynth_jax import main
from emosynth_jax.config import command_line
from emosynth_jax.training import build

command_line.parse_config_flags(sys.argv)
config = command_line.config_of(flags.FLAGS)
built = build.build_experiment(config, image_shape=(32, 32, 1), num_classes=7)
print(built.loss.func.__name__, built.loss.keywords)
"""


def test_names_and_arguments_come_from_the_command_line():
  """Others, within a process: tests/utils/test_config_files.py."""
  done = commands.run(
    *("-c", _BY_FLAGS),
    "--config=configs/synthetic_faces.py:small,strong",
    "--config.loss.name=mam_softmax+sce_loss",
    *("--config.loss.reading=intent", "--config.loss.kappa=2"),
  )
  said = "mam_softmax+sce_loss {'kappa': 2, 'reading': 'intent'}\n"
  assert done.stdout == said, done.stderr
