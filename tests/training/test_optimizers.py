"""Optimizers against their formulas, and the steps at which the rate changes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_network

from emosynth_jax.training import optimizers


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


def test_the_patience_counts_epochs_also_between_validations():
  # Every second epoch is validated: two epochs are one validation, three are two.
  losses = [1.0, 1.0, 1.0, 1.0]
  for patience, expected in ((2, [1, 0.1, 0.01, 1e-3]), (3, [1, 1, 0.1, 0.1])):
    scales = _scales(losses, patience=patience, evaluate_every=2)
    np.testing.assert_allclose(scales, expected, rtol=1e-6)
  np.testing.assert_allclose(_scales(losses, patience=0, evaluate_every=2), 1)


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


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_updates_shrink_with_a_kernels_fan_in_and_nothing_elses(name):
  shapes = {
    "dense": {"kernel": (40, 3), "bias": (3,)},
    "conv": {"kernel": (3, 3, 2, 5), "scale": (5,)},
    "narrow": {"kernel": (8, 3)},
  }
  rng = np.random.default_rng(0)
  draw = lambda shape: jnp.float32(rng.normal(size=shape))  # noqa: E731
  params, gradients = (
    jax.tree.map(draw, shapes, is_leaf=lambda x: isinstance(x, tuple)) for _ in "ab"
  )
  updates = []
  for base in (0, 10):
    optimizer = optimizers.build_optimizer(
      learning_rate=0.1, name=name, base_fan_in=base
    )
    updates.append(optimizer.update(gradients, optimizer.init(params), params)[0])
  plain, scaled = updates
  # base / fan-in: 10 / 40 and 10 / (3 * 3 * 2); 8 inputs are fewer than the base.
  factors = {
    "dense": {"kernel": 0.25, "bias": 1.0},
    "conv": {"kernel": 10 / 18, "scale": 1.0},
    "narrow": {"kernel": 1.0},
  }
  jax.tree.map(
    lambda s, p, f: np.testing.assert_allclose(s, f * p, rtol=1e-6),
    scaled,
    plain,
    factors,
  )


_SHAPES = {"kernel": (2, 3), "bias": (3,), "scale": (3,)}


def _trees(seed):
  rng = np.random.default_rng(seed)
  return {"layer": {k: rng.normal(size=s) for k, s in _SHAPES.items()}}


def _run(optimizer, params, gradients):
  """The parameters after a step for each gradient."""
  params = jax.tree.map(jnp.float32, params)
  state = optimizer.init(params)

  @jax.jit
  def step(params, state, gradient):
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  for gradient in gradients:
    params, state = step(params, state, jax.tree.map(jnp.float32, gradient))
  return params["layer"]


def test_sgd_is_nesterovs_with_the_decay_in_the_kernels_gradient():
  rate, momentum, decay = 0.1, 0.8, 0.3
  optimizer = optimizers.build_optimizer(
    name="sgd", learning_rate=rate, momentum=momentum, weight_decay=decay
  )
  params, gradients = _trees(0), [_trees(seed) for seed in (1, 2, 3)]
  found = _run(optimizer, params, gradients)
  for name, w in params["layer"].items():
    m = 0
    for gradient in gradients:
      g = gradient["layer"][name] + (decay * w if name == "kernel" else 0)
      m = momentum * m + g
      w = w - rate * (g + momentum * m)
    np.testing.assert_allclose(found[name], w, rtol=1e-5, atol=1e-6)


def test_adamw_is_adam_and_a_decay_of_the_kernels_beside_it():
  # Loshchilov and Hutter, algorithm 2, with the decay times the rate as in practice.
  rate, b1, b2, decay = 0.1, 0.7, 0.9, 0.3
  optimizer = optimizers.build_optimizer(
    name="adamw", learning_rate=rate, b1=b1, b2=b2, weight_decay=decay
  )
  params, gradients = _trees(0), [_trees(seed) for seed in (1, 2, 3)]
  found = _run(optimizer, params, gradients)
  for name, w in params["layer"].items():
    m = v = 0
    for t, gradient in enumerate(gradients, start=1):
      g = gradient["layer"][name]
      m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
      step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-8)
      w = w - rate * (step + (decay * w if name == "kernel" else 0))
    np.testing.assert_allclose(found[name], w, rtol=1e-4, atol=1e-5)


def test_the_limit_is_on_the_gradient_and_not_on_the_decay():
  optimizer = optimizers.build_optimizer(
    name="sgd", learning_rate=1.0, momentum=0.0, weight_decay=0.5, gradient_clip=1.0
  )
  params = {"layer": {"kernel": np.array([10.0])}}
  found = _run(optimizer, params, [{"layer": {"kernel": np.array([4.0])}}])
  np.testing.assert_allclose(found["kernel"], [10 - 1 - 5])


def test_what_decays_in_a_network():
  decays = optimizers.is_kernel(tiny_network.create_state().params)
  assert decays == {
    "Dense_0": {"kernel": True},
    "BatchNorm_0": {"scale": False, "bias": False},
    "logits": {"kernel": True, "bias": False},
  }


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"name": "lion"}, "optimizer.name: expected one of adam, adamw, sgd; got 'lion'"),
    (
      {"weight_decay": 0.1},
      'weight_decay: expected 0 for "adam", got 0.1; use "adamw"',
    ),
  ],
)
def test_an_optimizer_that_is_not_there_is_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    optimizers.build_optimizer(learning_rate=0.1, **arguments)


def test_a_patience_of_0_never_decays():
  scales = _scales([1.0, 2.0, np.nan, 4.0], patience=0)
  np.testing.assert_array_equal(scales, np.ones(4))


def _schedule(steps, **arguments):
  schedule = optimizers.build_schedule(**arguments)
  return jax.vmap(jax.jit(schedule))(jnp.arange(steps))


def test_a_cosine_after_a_warm_up_against_optax():
  found = _schedule(
    42,
    name="cosine",
    warmup_epochs=1.5,
    final_scale=0.1,
    num_epochs=6,
    steps_per_epoch=6,
  )
  warmup, total = 9, 36
  np.testing.assert_allclose(found[:warmup], np.arange(1, 10) / 9, rtol=1e-6)
  reference = optax.cosine_decay_schedule(1.0, total - warmup, alpha=0.1)
  # Steps beyond the end, too.
  expected = [reference(t) for t in range(42 - warmup)]
  np.testing.assert_allclose(found[warmup:], expected, rtol=1e-5)
  assert found[warmup] == 1


def test_a_cosine_without_a_warm_up_and_a_warm_up_without_a_cosine():
  found = _schedule(4, name="cosine", num_epochs=2, steps_per_epoch=2)
  half = np.sqrt(0.5) / 2
  np.testing.assert_allclose(found, [1, 0.5 + half, 0.5, 0.5 - half], rtol=1e-5)
  found = _schedule(4, warmup_epochs=1, num_epochs=2, steps_per_epoch=2)
  np.testing.assert_allclose(found, [0.5, 1, 1, 1])


def test_a_constant_rate_needs_no_schedule():
  assert optimizers.build_schedule(num_epochs=2, steps_per_epoch=3) is None


def test_a_run_of_one_epoch_warms_up_for_half_of_it_at_most():
  found = _schedule(4, name="cosine", warmup_epochs=1, num_epochs=1, steps_per_epoch=4)
  np.testing.assert_allclose(found, [0.5, 1, 1, 0.5], rtol=1e-5)
  assert (
    optimizers.build_schedule(warmup_epochs=1, num_epochs=1, steps_per_epoch=1) is None
  )


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"name": "step"}, "schedule.name: expected one of constant, cosine; got 'step'"),
    ({"warmup_epochs": 2}, "warmup_epochs: expected fewer than the 2 epochs .* got 2"),
  ],
)
def test_a_schedule_that_does_not_fit_is_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    optimizers.build_schedule(num_epochs=2, steps_per_epoch=3, **arguments)


def test_a_first_step_moves_a_wide_layers_outputs_as_it_moves_a_narrow_ones():
  """The recipe's purpose: Adam alone moves an output by the rate times the fan-in."""
  changes = {}
  for base in (0, 256):
    for fan_in in (256, 147_456):
      optimizer = optimizers.build_optimizer(
        learning_rate=2e-3, name="adamw", base_fan_in=base
      )
      params = {"kernel": jnp.zeros((fan_in, 2))}
      inputs = jnp.ones(fan_in)
      gradients = {"kernel": jnp.outer(inputs, jnp.array([1.0, -3.0]))}
      updates, _ = optimizer.update(gradients, optimizer.init(params), params)
      changes[base, fan_in] = inputs @ updates["kernel"]
  # Adam's first step is the rate times the sign. A sum of 147,456 numbers in float32.
  np.testing.assert_allclose(changes[256, 147_456], [-0.512, 0.512], rtol=1e-2)
  np.testing.assert_allclose(changes[256, 256], [-0.512, 0.512], rtol=1e-2)
  np.testing.assert_allclose(changes[0, 147_456], [-294.9, 294.9], rtol=1e-2)
