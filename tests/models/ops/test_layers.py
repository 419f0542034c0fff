"""The fast forms against the plain ones, in values and gradients, in loops and out."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from emosynth_jax.models.ops import layers, unit_stride

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
  _assert_same(unit_stride.conv2d, _plain_conv, inputs, kernel)


def test_conv2d_gradient_in_a_loop():
  inputs, kernel = _random(0, 4, 6, 6, 3), 0.1 * _random(1, 3, 3, 3, 3)

  def descend(conv, kernel):
    def step(kernel, _):
      gradient = jax.grad(lambda k: jnp.sum(jnp.tanh(conv(inputs, k)) ** 2))(kernel)
      return kernel - 0.01 * gradient, None

    return lax.scan(step, kernel, None, length=4)[0]

  found = jax.jit(descend, static_argnums=0)(unit_stride.conv2d, kernel)
  expected = jax.jit(descend, static_argnums=0)(_plain_conv, kernel)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_conv2d_has_second_derivatives_by_reverse_over_reverse():
  inputs, kernel = _random(0, 2, 5, 5, 2), _random(1, 3, 3, 2, 2)
  direction = _random(2, 3, 3, 2, 2)

  def curvature(conv):
    def loss(k):
      return jnp.sum(jnp.tanh(conv(inputs, k)) ** 3)

    along = jax.grad(lambda k: jnp.vdot(jax.grad(loss)(k), direction))
    return jax.jit(along)(kernel)

  np.testing.assert_allclose(
    curvature(unit_stride.conv2d), curvature(_plain_conv), rtol=1e-4, atol=1e-4
  )


def test_conv2d_in_bfloat16_keeps_the_type_of_its_gradients():
  inputs = _random(0, 2, 6, 6, 3).astype(jnp.bfloat16)
  kernel = _random(1, 3, 3, 3, 4).astype(jnp.bfloat16)
  _assert_same(unit_stride.conv2d, _plain_conv, inputs, kernel, tolerance=0.05)


def test_conv2d_refuses_an_even_kernel():
  with pytest.raises(ValueError, match=r"odd square, got \(2, 2\)"):
    unit_stride.conv2d(jnp.zeros((1, 4, 4, 1)), jnp.zeros((2, 2, 1, 1)))


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


def test_average_pool_in_float64_with_second_derivatives():
  with jax.enable_x64():
    inputs = jax.random.normal(jax.random.key(0), (2, 16, 13, 3), jnp.float64)
    direction = jax.random.normal(jax.random.key(1), inputs.shape, jnp.float64)

    def derivatives(pool):
      def loss(x):
        return jnp.sum(jnp.tanh(pool(x)) ** 3)

      first = jax.grad(loss)
      second = jax.grad(lambda x: jnp.vdot(first(x), direction))
      return jax.jit(lambda x: (pool(x), first(x), second(x)))(inputs)

    found = derivatives(lambda x: layers.average_pool(x, 7, 3))
    plain = derivatives(lambda x: nn.avg_pool(x, (7, 7), (3, 3), "VALID"))
    for got, want in zip(found, plain, strict=True):
      assert got.dtype == jnp.float64
      np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def test_average_pool_is_a_product_on_a_cpu_alone():
  inputs = jnp.zeros((2, 16, 16, 3))
  traced = jax.jit(lambda x: layers.average_pool(x, 7, 3)).trace(inputs)
  products = {
    platform: traced.lower(lowering_platforms=(platform,))
    .as_text()
    .count("stablehlo.dot_general")
    for platform in ("cpu", "cuda", "tpu")
  }
  assert products == {"cpu": 2, "cuda": 0, "tpu": 0}


@pytest.mark.parametrize(
  ("ours", "window", "padding"),
  [(layers.max_pool_3x3, 3, ((1, 1), (1, 1))), (layers.max_pool_2x2, 2, "VALID")],
)
def test_what_is_not_a_number_is_no_maximum_but_stays(ours, window, padding):
  inputs = np.array(_random(0, 4, 6, 6, 2))
  # At every place of a window: its first and its last pixel, and between.
  for i, place in enumerate([(0, 0), (3, 3), (2, 3), (5, 4)]):
    inputs[i, *place, 0] = np.nan
  step = 1 if window == 3 else 2
  plain = nn.max_pool(inputs, (window, window), (step, step), padding)
  assert np.isnan(plain).any()
  np.testing.assert_array_equal(ours(jnp.asarray(inputs)), plain)


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
