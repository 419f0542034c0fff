"""Adam with a gradient limit, and the epochs at which the learning rate falls."""

import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax import optimizers


def _scales(validation_losses, **changes):
  """The learning rate's scale after each epoch."""
  arguments = {
    "factor": 0.1,
    "patience": 2,
    "min_improvement": 0.01,
    "min_scale": 1e-4,
  }
  plateau = optimizers.build_plateau(**(arguments | changes))
  state = plateau.init({"w": jnp.zeros(3)})
  scales = []
  for loss in validation_losses:
    state = optimizers.update_plateau(plateau, state, loss)
    scales.append(float(state.scale))
  return scales


@pytest.mark.parametrize(
  ("validation_losses", "expected"),
  [
    # Falling all the time.
    ([3.0, 2.5, 2.0, 1.5, 1.0], [1, 1, 1, 1, 1]),
    # The best is of epoch 1: two epochs without a better one, and again two.
    ([1.0, 1.0, 1.1, 1.0, 1.2], [1, 1, 0.1, 0.1, 0.01]),
    # An improvement starts the count anew; the best stays the lowest of all.
    ([2.0, 2.1, 1.0, 1.5, 0.9, 0.95, 0.92], [1, 1, 1, 1, 1, 1, 0.1]),
    # Less than the share of 1 % is none, even when it adds up.
    ([1.0, 0.995, 0.991, 0.98], [1, 1, 0.1, 0.1]),
    # Nor is a loss that is not a number.
    ([1.0, np.nan, np.nan, 0.5], [1, 1, 0.1, 0.1]),
  ],
)
def test_the_rate_falls_at_the_epoch_that_exhausts_the_patience(
  validation_losses, expected
):
  np.testing.assert_allclose(_scales(validation_losses), expected, rtol=1e-6)


def test_the_decay_ends_at_the_least_scale():
  scales = _scales([1.0] * 6, factor=0.3, patience=1, min_scale=0.02)
  np.testing.assert_allclose(scales, [1, 0.3, 0.09, 0.027, 0.02, 0.02], rtol=1e-6)


def test_the_first_step_is_the_learning_rate_whatever_the_gradients_size():
  # Kingma and Ba 2015, section 2.1: after bias correction m / sqrt(v) is the sign.
  optimizer = optimizers.build_optimizer(
    learning_rate=0.25, b1=0.9, b2=0.999, gradient_clip=0.0
  )
  params = {"w": jnp.zeros(3)}
  gradients = {"w": jnp.array([1e-3, -5.0, 2e4])}
  updates, _ = optimizer.update(gradients, optimizer.init(params), params)
  np.testing.assert_allclose(updates["w"], [-0.25, 0.25, -0.25], rtol=1e-4)


@pytest.mark.parametrize(
  ("clip", "second"),
  [
    # Without memory of the first moment, step 2 is lr g / sqrt(v), where
    # v = (b2 (1 - b2) g1^2 + (1 - b2) g2^2) / (1 - b2^2), b2 = 1/2: g2 = 1 and g1 = 4.
    (0.0, 1 / np.sqrt((16 + 2) / 3)),
    # Limited to the norm 2, g1 is 2; g2 is below the limit and stays.
    (2.0, 1 / np.sqrt((4 + 2) / 3)),
    # Both are limited to 1/2.
    (0.5, 1.0),
  ],
)
def test_gradients_are_limited_to_a_norm_before_adam(clip, second):
  optimizer = optimizers.build_optimizer(
    learning_rate=1.0, b1=0.0, b2=0.5, gradient_clip=clip
  )
  # Norms 4 and 1 in the direction (0.6, 0.8), over two arrays.
  direction = {"a": jnp.array([0.6]), "b": jnp.array([0.8])}
  state = optimizer.init(direction)
  for norm in (4.0, 1.0):
    gradients = {name: norm * value for name, value in direction.items()}
    updates, state = optimizer.update(gradients, state, direction)
  for name in direction:
    np.testing.assert_allclose(updates[name], [-second], rtol=1e-5)
