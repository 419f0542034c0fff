"""The fast forms against the plain ones, in values and gradients, in loops and out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from emosynth_jax.models import layers

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _random(seed, *shape):
  return jax.random.normal(jax.random.key(seed), shape)


def _plain_conv(inputs, kernel):
  return lax.conv_general_dilated(
    inputs, kernel, (1, 1), "SAME", dimension_numbers=_DIMENSIONS
  )


def _assert_same(fast, plain, *arguments, tolerance=1e-5):
  """Values and all gradients of a function against another's."""
  expected, plain_vjp = jax.vjp(jax.jit(plain), *arguments)
  found, fast_vjp = jax.vjp(jax.jit(fast), *arguments)
  np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
  cotangent = _random(9, *expected.shape).astype(expected.dtype)
  for got, want in zip(fast_vjp(cotangent), plain_vjp(cotangent), strict=True):
    assert got.dtype == want.dtype
    scale = float(jnp.abs(want).max())
    np.testing.assert_allclose(got / scale, want / scale, atol=tolerance)


@pytest.mark.parametrize(
  ("side", "channels", "features", "size"),
  [(7, 3, 5, 3), (8, 4, 2, 5), (6, 1, 4, 1), (5, 6, 6, 3)],
)
def test_conv2d_equals_the_plain_convolution(side, channels, features, size):
  inputs = _random(0, 3, side, side, channels)
  kernel = _random(1, size, size, channels, features)
  _assert_same(layers.conv2d, _plain_conv, inputs, kernel)


def test_conv2d_gradient_in_a_loop():
  inputs, kernel = _random(0, 4, 6, 6, 3), 0.1 * _random(1, 3, 3, 3, 3)

  def descend(conv, kernel):
    def step(kernel, _):
      gradient = jax.grad(lambda k: jnp.sum(jnp.tanh(conv(inputs, k)) ** 2))(kernel)
      return kernel - 0.01 * gradient, None

    return lax.scan(step, kernel, None, length=4)[0]

  found = jax.jit(descend, static_argnums=0)(layers.conv2d, kernel)
  expected = jax.jit(descend, static_argnums=0)(_plain_conv, kernel)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_conv2d_has_second_derivatives_by_reverse_over_reverse():
  inputs, kernel = _random(0, 2, 5, 5, 2), _random(1, 3, 3, 2, 2)
  direction = _random(2, 3, 3, 2, 2)

  def curvature(conv):
    def loss(k):
      return jnp.sum(jnp.tanh(conv(inputs, k)) ** 3)

    return jax.grad(lambda k: jnp.vdot(jax.grad(loss)(k), direction))(kernel)

  np.testing.assert_allclose(
    curvature(layers.conv2d), curvature(_plain_conv), rtol=1e-4, atol=1e-4
  )


def test_conv2d_in_bfloat16_keeps_the_type_of_its_gradients():
  inputs = _random(0, 2, 6, 6, 3).astype(jnp.bfloat16)
  kernel = _random(1, 3, 3, 3, 4).astype(jnp.bfloat16)
  _assert_same(layers.conv2d, _plain_conv, inputs, kernel, tolerance=0.05)


def test_conv2d_refuses_an_even_kernel():
  with pytest.raises(ValueError, match=r"odd square, got \(2, 2\)"):
    layers.conv2d(jnp.zeros((1, 4, 4, 1)), jnp.zeros((2, 2, 1, 1)))


@pytest.mark.parametrize(
  ("side", "window", "stride"), [(8, 2, 2), (24, 7, 4), (16, 7, 3), (9, 7, 1)]
)
def test_average_pool_equals_flax(side, window, stride):
  inputs = _random(0, 2, side, side, 3)
  _assert_same(
    lambda x: layers.average_pool(x, window, stride),
    lambda x: nn.avg_pool(x, (window, window), (stride, stride), "VALID"),
    inputs,
  )


def _pooling_input(height, width, with_ties):
  inputs = _random(0, 3, height, width, 4)
  # As after a ReLU: most windows hold several equal maxima.
  return jnp.maximum(jnp.round(inputs), 0) if with_ties else inputs


@pytest.mark.parametrize("with_ties", [False, True])
@pytest.mark.parametrize("side", [9, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_max_pool_3x3_equals_flax_also_where_pixels_tie(stride, side, with_ties):
  _assert_same(
    lambda x: layers.max_pool_3x3(x, stride),
    lambda x: nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1))),
    _pooling_input(side, side + 1, with_ties),
  )


@pytest.mark.parametrize("with_ties", [False, True])
@pytest.mark.parametrize("side", [9, 8])
def test_max_pool_2x2_equals_flax_also_where_pixels_tie(side, with_ties):
  _assert_same(
    layers.max_pool_2x2,
    lambda x: nn.max_pool(x, (2, 2), (2, 2)),
    _pooling_input(side, side + 1, with_ties),
  )
