"""What the steps of a run have in common is what its config says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
import tiny_workdir
from sklearn.utils.class_weight import compute_class_weight

from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.training import build, programs

pytestmark = pytest.mark.usefixtures("tiny_networks")

_LABELS = np.array([0] * 5 + [1] * 2 + [2], np.int32)


def _setup(**changes):
  """What is built for eight images, of four steps an epoch."""
  config = tiny_workdir.config(**changes)
  images, _ = tiny_network.random_images(len(_LABELS))
  training = from_arrays(np.asarray(images), _LABELS, tiny_workdir.CLASSES)
  experiment = build.experiment_of(config, training)
  return programs.build_setup(config, experiment, training, steps_per_epoch=4)


def test_classes_are_weighted_and_counted():
  setup = _setup(class_weights="balanced")
  expected = compute_class_weight("balanced", classes=np.arange(3), y=_LABELS)
  np.testing.assert_allclose(setup.class_weights, expected, rtol=1e-6)
  np.testing.assert_array_equal(setup.class_counts, [5, 2, 1])
  plain = _setup(class_weights="none")
  np.testing.assert_array_equal(plain.class_weights, [1, 1, 1])


def test_mixup_has_the_shape_of_the_config():
  assert _setup(mixup_alpha=0.0).mixup is None
  images, one_hot = jnp.zeros((8, 4, 4, 1)), jnp.eye(8)
  mixup = jax.jit(_setup(mixup_alpha=1e4).mixup)
  # A Beta distribution of so large a shape is nothing but one half.
  _, mixed = mixup(jax.random.key(0), images, one_hot)
  np.testing.assert_allclose(mixed.max(axis=1)[mixed.max(axis=1) < 1], 0.5, atol=0.05)
  assert (mixed.max(axis=1) < 1).any()


@pytest.mark.parametrize(("first_epoch", "step"), [(1, 0), (3, 8)])
def test_the_sharp_gradient_begins_with_its_epoch(first_epoch, step):
  setup = _setup(num_epochs=3, sam__radius=0.05, sam__first_epoch=first_epoch)
  assert (setup.sam_radius, setup.sam_from_step) == (0.05, step)
  assert _setup(sam__radius=0.0).sam_radius == 0


def test_the_precision_is_that_of_the_config():
  assert _setup(matmul_precision="bfloat16").matmul_precision == "bfloat16"
  assert _setup().matmul_precision == "default"


def test_averages_and_groups_are_those_of_the_config():
  setup = _setup(ema_decay=0.75, batch_norm_groups=2)
  assert (setup.ema_decay, setup.batch_norm_groups) == (0.75, 2)
  plain = _setup(ema_decay=0.0, batch_norm_groups=1)
  assert (plain.ema_decay, plain.batch_norm_groups) == (0, 1)


def test_the_schedule_counts_the_epochs_steps():
  setup = _setup(num_epochs=3, schedule__name="cosine", schedule__warmup_epochs=1.0)
  # A quarter more of the rate with each step of the first epoch; then, from step 4 on,
  # half a cosine of the eight that remain.
  rates = [float(setup.schedule(jnp.int32(step))) for step in (0, 1, 3, 8)]
  np.testing.assert_allclose(rates, [1 / 4, 2 / 4, 1, 1 / 2], rtol=1e-5)
