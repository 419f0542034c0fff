"""BatchNorm in groups against flax's own on each group alone."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import network_shapes
import numpy as np
import pytest

from emosynth_jax import models
from emosynth_jax.models.ops.batch_norm_groups import normalize_in_groups

_MOMENTUM = 0.7


class _Layer(nn.Module):
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x, train):
    norm = nn.BatchNorm(
      use_running_average=not train, momentum=_MOMENTUM, dtype=self.dtype
    )
    return norm(x)


@pytest.fixture(scope="module", params=[(6, 4, 4, 3), (6, 3)], ids=["maps", "vectors"])
def inputs(request):
  scale = np.arange(1, 7).reshape(6, *[1] * (len(request.param) - 1))
  draw = np.random.default_rng(0).standard_normal(request.param)
  return jnp.asarray(draw * scale + scale, jnp.float32)


def _variables():
  return {
    "params": {
      "BatchNorm_0": {
        "scale": jnp.array([0.5, 1.0, 2.0]),
        "bias": jnp.array([0.1, 0.2, 0.3]),
      }
    },
    "batch_stats": {
      "BatchNorm_0": {
        "mean": jnp.array([1.0, 2.0, 3.0]),
        "var": jnp.array([4.0, 5.0, 6.0]),
      }
    },
  }


@functools.cache
def _program(groups, train, dtype):
  @jax.jit
  def run(variables, x):
    with normalize_in_groups(groups):
      return _Layer(dtype).apply(variables, x, train, mutable=["batch_stats"])

  return run


def _apply(x, groups, train=True, dtype=jnp.float32):
  return _program(groups, train, dtype)(_variables(), x)


@pytest.mark.parametrize("groups", [2, 3])
def test_each_group_is_normalized_as_flax_does_it_alone(inputs, groups):
  outputs, updated = _apply(inputs, groups)
  parts = [_apply(part, 1) for part in np.split(inputs, groups)]
  expected = np.concatenate([part for part, _ in parts])
  np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
  means = jax.tree.map(lambda *x: np.mean(x, axis=0), *[stats for _, stats in parts])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
    jax.tree.map(np.asarray, updated),
    means,
  )
  # The groups differ, so it is not the same as a whole batch.
  assert np.abs(outputs - _apply(inputs, 1)[0]).max() > 0.1


def test_running_statistics_know_no_groups(inputs):
  outputs, _ = _apply(inputs, 2, train=False)
  np.testing.assert_array_equal(outputs, _apply(inputs, 1, train=False)[0])


def test_half_precision_keeps_its_type(inputs):
  outputs, updated = _apply(inputs.astype(jnp.bfloat16), 3, dtype=jnp.bfloat16)
  assert outputs.dtype == jnp.bfloat16
  assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
  full, _ = _apply(inputs, 3)
  np.testing.assert_allclose(outputs.astype(jnp.float32), full, atol=0.05)


def test_a_batch_that_groups_cannot_share_is_refused(inputs):
  with pytest.raises(ValueError, match="a divisor of the batch's 6 images, got 4"):
    _apply(inputs, 4)


def test_a_network_takes_it_layer_by_layer():
  network = models.build_model("fer_vgg", num_classes=3, width=1 / 32)
  images = jax.ShapeDtypeStruct((4, 32, 32, 1), jnp.float32)
  variables, *_ = network_shapes.of(network, images.shape)

  def run(groups, variables, x):
    with normalize_in_groups(groups):
      return network.apply(
        variables,
        x,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(1)},
      )

  outputs = [
    jax.eval_shape(functools.partial(run, g), variables, images) for g in (1, 2)
  ]
  assert outputs[0] == outputs[1]
  # Each layer's statistics are taken once, as two groups of two images.
  program = str(jax.make_jaxpr(functools.partial(run, 2))(variables, images))
  assert program.count("rsqrt") == len(variables["batch_stats"])
  assert program.count("[2,1,1,1,") >= len(variables["batch_stats"])


@pytest.mark.parametrize("momentum", [0.3, 0.99])
def test_running_statistics_decay_as_flaxs_do(momentum):
  """Parts with equal images have the statistics of one of them."""
  layer = nn.BatchNorm(use_running_average=False, momentum=momentum)
  part = jax.random.normal(jax.random.key(0), (4, 2, 2, 3)) * 3 + 1
  variables = layer.init(jax.random.key(1), part)

  def updates(groups, x):
    with normalize_in_groups(groups):
      return layer.apply(variables, x, mutable=["batch_stats"])[1]

  expected = jax.jit(functools.partial(updates, 1))(part)
  both = jnp.tile(part, (2, 1, 1, 1))
  found = jax.jit(functools.partial(updates, 2))(both)
  for name, value in found["batch_stats"].items():
    np.testing.assert_allclose(value, expected["batch_stats"][name], rtol=1e-5)
