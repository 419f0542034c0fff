"""Winograd's forms against lax's convolution, in float64 and in what float32 loses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from emosynth_jax.models.ops import unit_stride, winograd

# What is compared runs once: compiling it costs more.
_QUICK = {"xla_backend_optimization_level": 0}


def _random(seed, *shape, dtype=np.float64):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def _plain(inputs, kernel):
  return lax.conv_general_dilated(
    inputs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


def _run(function, *arguments):
  return jax.tree.leaves(jax.jit(function, compiler_options=_QUICK)(*arguments))


# (3, 2) leaves a tile unfinished; 40 pixels make parts of one image, 10**6 one of all.
@pytest.mark.parametrize(
  ("shape", "pixels"), [((4, 8, 8), 128), ((3, 3, 2), 10**6), ((2, 7, 10), 40)]
)
@pytest.mark.parametrize(("tile", "size"), winograd.TILES)
def test_values_and_kernel_gradient_in_float64(tile, size, shape, pixels):
  with jax.enable_x64():
    inputs, kernel = _random(0, *shape, 3), _random(1, size, size, 3, 4)
    cotangent = _random(2, *shape, 4)

    def fast(inputs, kernel, cotangent):
      arguments = {"tile": tile, "pixels": pixels}
      return (
        winograd.convolve(inputs, kernel, **arguments),
        winograd.kernel_gradient(inputs, cotangent, size=size, **arguments),
      )

    def plain(inputs, kernel, cotangent):
      value, vjp = jax.vjp(lambda k: _plain(inputs, k), kernel)
      return value, *vjp(cotangent)

    arguments = inputs, kernel, cotangent
    for got, want in zip(_run(fast, *arguments), _run(plain, *arguments), strict=True):
      assert got.dtype == jnp.float64
      np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("images", [11, 12])
def test_parts_are_equal_and_hold_every_image(images):
  array = jnp.arange(images)[:, None, None, None] * jnp.ones((1, 4, 4, 1))
  parts = winograd.split(array, 64)
  assert parts.shape[:3] == ((1, 1, 11) if images == 11 else (3, 1, 4))
  np.testing.assert_array_equal(parts.reshape(array.shape), array)


@pytest.fixture
def wide():
  """A convolution that takes Winograd's forms on a CPU, in and out of a tile."""
  with jax.enable_x64():
    yield _random(0, 8, 12, 12, 48), _random(1, 3, 3, 48, 50) / 20


def test_conv2d_takes_the_forms_where_maps_are_many(wide):
  inputs, kernel = wide
  assert unit_stride._value_form(inputs.shape, kernel.shape) is not None
  assert unit_stride._kernel_gradient_form(inputs.shape, 50, 3) is not None
  assert unit_stride._kernel_gradient_form(inputs.shape, 50, 5) is not None
  assert unit_stride._value_form((8, 12, 12, 3), (3, 3, 3, 50)) is None
  assert unit_stride._value_form((1, 4, 4, 48), (3, 3, 48, 48)) is None

  # 32 channels need more pixels than 48 do.
  few = (3, 3, 32, 40)
  assert unit_stride._value_form((64, 12, 12, 32), few) is None
  assert unit_stride._value_form((64, 24, 24, 32), few) is not None
  assert unit_stride._value_form((64, 48, 48, 32), few) is not None
  assert unit_stride._value_form((64, 52, 52, 32), few) is None
  assert unit_stride._kernel_gradient_form((64, 12, 12, 32), 40, 3) is None
  assert unit_stride._kernel_gradient_form((64, 24, 24, 32), 40, 3) is not None
  assert unit_stride._value_form((8, 12, 12, 48), (5, 5, 48, 48)) is None


def test_gradients_and_second_derivatives_of_conv2d_in_float64(wide):
  inputs, kernel = wide
  direction = _random(2, *kernel.shape)

  def all_of(convolve):
    def loss(inputs, kernel):
      return jnp.mean(jnp.tanh(convolve(inputs, kernel)) ** 3)

    def slope(inputs, kernel):
      return jnp.vdot(jax.grad(loss, 1)(inputs, kernel), direction)

    def compute(inputs, kernel):
      return (
        jax.grad(loss, (0, 1))(inputs, kernel),
        jax.grad(slope, (0, 1))(inputs, kernel),
      )

    return _run(compute, inputs, kernel)

  found, expected = all_of(unit_stride.conv2d), all_of(_plain)
  for got, want in zip(found, expected, strict=True):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.abs(want).max())


def test_rounding_in_float32(wide):
  inputs, kernel = wide
  exact = _run(_plain, inputs, kernel)[0]
  rounded = inputs.astype(jnp.float32), kernel.astype(jnp.float32)
  found = _run(unit_stride.conv2d, *rounded)[0]
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, exact, rtol=0, atol=2e-6 * np.abs(exact).max())


def test_bfloat16_has_no_digits_to_lose(wide):
  arguments = [jax.ShapeDtypeStruct(a.shape, jnp.bfloat16) for a in wide]
  traced = jax.jit(unit_stride.conv2d).trace(*arguments)
  assert traced.lower().as_text().count("stablehlo.convolution") == 1


# A factor rounded to bfloat16 is off by up to 2^-9 of itself, and the transforms add
# up to 16 of them; exactly rounded products, as of float32, would be closer than 1e-5.
def test_precision_bfloat16_rounds_values_and_the_gradient_of_inputs(wide):
  inputs, kernel = wide
  cotangent = _random(3, *inputs.shape[:3], kernel.shape[3])

  def all_of(convolve, *arguments):
    def compute(inputs, kernel, cotangent):
      value, vjp = jax.vjp(convolve, inputs, kernel)
      return value, *vjp(cotangent)

    return _run(compute, *arguments)

  exact = all_of(_plain, inputs, kernel, cotangent)
  rounded = [x.astype(jnp.float32) for x in (inputs, kernel, cotangent)]
  with jax.default_matmul_precision("bfloat16"):
    found = all_of(unit_stride.conv2d, *rounded)
    double = all_of(unit_stride.conv2d, inputs, kernel, cotangent)

  value, of_inputs, of_kernel = (
    np.abs(got - want).max() / np.abs(want).max()
    for got, want in zip(found, exact, strict=True)
  )
  assert [x.dtype for x in found] == [jnp.float32] * 3
  assert 1e-4 < value < 1e-2
  assert 1e-4 < of_inputs < 1e-2
  assert of_kernel < 1e-5
  for got, want in zip(double, exact, strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
