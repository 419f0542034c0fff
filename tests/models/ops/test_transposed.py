"""Transposed convolutions on small maps against lax's on the upsampled ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from emosynth_jax.models.ops import unit_stride

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def _random(seed, *shape, dtype=np.float64):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def _repeat(inputs):
  return jnp.repeat(jnp.repeat(inputs, 2, axis=1), 2, axis=2)


def _lax_transposed(inputs, kernel):
  return lax.conv_transpose(
    inputs, kernel, (1, 1), "VALID", dimension_numbers=_DIMENSIONS
  )


def _flat(inputs, kernel):
  return _repeat(inputs).reshape(inputs.shape[0], -1) @ kernel


PAIRS = {
  "valid": (unit_stride.conv_transpose_valid, _lax_transposed),
  "upsampled": (
    unit_stride.conv_transpose_upsampled,
    lambda inputs, kernel: _lax_transposed(_repeat(inputs), kernel),
  ),
  "flat": (unit_stride.flat_product_upsampled, _flat),
}


def _kernel_shape(name, shape, size):
  height, width, channels = shape
  if name == "flat":
    return (4 * height * width * channels, 5)
  return (size, size, channels, 5)


@pytest.mark.parametrize(
  ("shape", "size"), [((2, 2, 3), 3), ((3, 4, 2), 3), ((4, 2, 2), 5), ((1, 3, 2), 1)]
)
@pytest.mark.parametrize("name", list(PAIRS))
def test_values_gradients_and_second_derivatives_in_float64(name, shape, size):
  fast, plain = PAIRS[name]
  with jax.enable_x64():
    inputs = _random(0, 2, *shape)
    kernel = _random(1, *_kernel_shape(name, shape, size))
    direction = _random(2, *kernel.shape)

    def all_of(function):
      def loss(inputs, kernel):
        return jnp.sum(jnp.tanh(function(inputs, kernel)) ** 3)

      def slope(inputs, kernel):
        return jnp.vdot(jax.grad(loss, 1)(inputs, kernel), direction)

      @jax.jit
      def compute(inputs, kernel):
        return (
          function(inputs, kernel),
          jax.grad(loss, (0, 1))(inputs, kernel),
          jax.grad(slope, (0, 1))(inputs, kernel),
        )

      return jax.tree.leaves(compute(inputs, kernel))

    for found, expected in zip(all_of(fast), all_of(plain), strict=True):
      assert found.dtype == jnp.float64
      np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", list(PAIRS))
def test_bfloat16_keeps_the_type_of_values_and_gradients(name):
  fast, plain = PAIRS[name]
  inputs = _random(0, 2, 3, 3, 4, dtype=jnp.bfloat16)
  kernel = _random(1, *_kernel_shape(name, (3, 3, 4), 3), dtype=jnp.bfloat16)

  def all_of(function):
    def compute(inputs, kernel):
      value, vjp = jax.vjp(function, inputs, kernel)
      return value, *vjp(jnp.ones_like(value))

    return jax.jit(compute)(inputs, kernel)

  for found, expected in zip(all_of(fast), all_of(plain), strict=True):
    assert found.dtype == expected.dtype == jnp.bfloat16
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(
      np.asarray(found, np.float32), np.asarray(expected, np.float32), atol=0.03 * scale
    )


def test_upsampling_repeats_pixels():
  inputs = _random(0, 2, 3, 4, 2, dtype=np.float32)
  expected = np.repeat(np.repeat(inputs, 2, axis=1), 2, axis=2)
  np.testing.assert_array_equal(unit_stride.upsample_nearest(inputs), expected)


@pytest.mark.parametrize(
  "function", [unit_stride.conv_transpose_valid, unit_stride.conv_transpose_upsampled]
)
def test_an_even_kernel_is_refused(function):
  with pytest.raises(ValueError, match=r"odd square, got \(2, 2\)"):
    function(jnp.zeros((1, 4, 4, 1)), jnp.zeros((2, 2, 1, 1)))
