"""Products over gathered pixels against lax's convolution, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from emosynth_jax.models.ops import unit_stride


def _random(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def _plain(inputs, kernel):
  return lax.conv_general_dilated(
    inputs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


@pytest.mark.parametrize(
  ("inputs", "kernel"),
  [
    ((2, 5, 7, 1), (3, 3, 1, 4)),
    ((3, 6, 4, 3), (5, 5, 3, 2)),
    ((3, 6, 4, 4), (3, 3, 4, 5)),
    # 96 x 96 pixels are a part: two parts here.
    ((2, 96, 96, 1), (3, 3, 1, 2)),
    ((2, 96, 96, 4), (3, 3, 4, 2)),
  ],
)
def test_it_is_the_convolution(inputs, kernel):
  with jax.enable_x64():
    arguments = _random(0, *inputs), _random(1, *kernel)
    found = jax.jit(unit_stride.few_channels)(*arguments)
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, _plain(*arguments), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("channels", "features"), [(1, 8), (8, 16), (16, 8)])
def test_conv2d_takes_it_with_gradients(channels, features, monkeypatch):
  calls = []
  convolve = unit_stride.few_channels

  def counted(inputs, kernel):
    calls.append(kernel.shape)
    return convolve(inputs, kernel)

  monkeypatch.setattr(unit_stride, "few_channels", counted)
  with jax.enable_x64():
    inputs = _random(0, 32, 24, 24, channels)
    kernel = _random(1, 3, 3, channels, features)
    cotangent = _random(2, *inputs.shape[:3], features)

    def loss(convolve, inputs, kernel):
      return jnp.vdot(jnp.tanh(convolve(inputs, kernel)), cotangent)

    def gradients(convolve):
      gradient = jax.grad(functools.partial(loss, convolve), (0, 1))

      def slope(inputs, kernel):
        return sum(jnp.sum(g**2) for g in gradient(inputs, kernel))

      compute = jax.jit(lambda *x: (gradient(*x), jax.grad(slope, (0, 1))(*x)))
      return jax.tree.leaves(compute(inputs, kernel))

    found, expected = gradients(unit_stride.conv2d), gradients(_plain)
    for got, want in zip(found, expected, strict=True):
      np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.abs(want).max())

  # The gradient of a single channel has one output, fewer than the form suits.
  swapped = (3, 3, features, channels)
  assert set(calls) == {kernel.shape} | ({swapped} if channels > 1 else set())


def test_conv2d_takes_other_forms_for_more_channels_and_fewer_pixels():
  takes = unit_stride._has_few_channels
  assert takes((32, 24, 24, 8), (3, 3, 8, 16))
  assert not takes((24, 24, 24, 8), (3, 3, 8, 16))
  assert not takes((1009, 24, 24, 8), (3, 3, 8, 16))
  assert not takes((64, 20, 20, 8), (3, 3, 8, 8))
  assert not takes((64, 24, 24, 16), (3, 3, 16, 16))
  assert not takes((64, 24, 24, 4), (3, 3, 4, 8))
  assert not takes((64, 24, 24, 1), (3, 3, 1, 16))
  assert not takes((64, 24, 24, 8), (5, 5, 8, 8))
