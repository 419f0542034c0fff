"""Strided and depthwise convolutions against lax's, in values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from emosynth_jax.models.ops import convolutions
from emosynth_jax.models.ops.convolutions import Convolution


def _random(seed, *shape):
  values = np.random.default_rng(seed).normal(size=shape)
  return jnp.asarray(values.astype(np.float32))


def _plain(inputs, kernel, stride):
  margin = kernel.shape[0] // 2
  return lax.conv_general_dilated(
    inputs,
    kernel,
    (stride, stride),
    [(margin, margin)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=inputs.shape[3] // kernel.shape[2],
  )


def _assert_same(fast, plain, *arguments, tolerance=1e-5):
  """Values and all gradients of a function against another's."""

  def both(function):
    def value_and_gradients(*arguments):
      value, vjp = jax.vjp(function, *arguments)
      weights = jnp.cos(jnp.arange(value.size)).reshape(value.shape)
      return value, *vjp(weights.astype(value.dtype))

    compiled = jax.jit(
      value_and_gradients, compiler_options={"xla_backend_optimization_level": 0}
    )
    return compiled(*arguments)

  for got, want in zip(both(fast), both(plain), strict=True):
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    want = np.asarray(want, np.float32)
    np.testing.assert_allclose(
      np.asarray(got, np.float32), want, rtol=0, atol=tolerance * np.abs(want).max()
    )


of_both_kinds = pytest.mark.parametrize(
  ("convolve", "maps_in"),
  [(convolutions.strided_conv2d, 3), (convolutions.depthwise_conv2d, 1)],
)

STRIDED = [(8, 6, 3, 2), (7, 9, 3, 2), (12, 13, 7, 2), (10, 11, 3, 3), (6, 5, 5, 1)]


DEPTHWISE = [
  *((8, 6, 3, 1), (8, 6, 3, 2), (7, 9, 3, 2)),
  *((9, 6, 5, 1), (10, 11, 5, 2), (8, 8, 3, 3)),
]


@pytest.mark.parametrize(
  ("convolve", "sizes", "kernel_maps"),
  [
    *((convolutions.strided_conv2d, sizes, (3, 4)) for sizes in STRIDED),
    *((convolutions.depthwise_conv2d, sizes, (1, 3)) for sizes in DEPTHWISE),
  ],
)
def test_convolutions_equal_lax(convolve, sizes, kernel_maps):
  height, width, size, stride = sizes
  _assert_same(
    lambda x, k: convolve(x, k, stride),
    lambda x, k: _plain(x, k, stride),
    _random(0, 2, height, width, 3),
    _random(1, size, size, *kernel_maps),
  )


def test_depthwise_gradients_keep_float64():
  with jax.enable_x64():
    inputs = jax.random.normal(jax.random.key(0), (3, 7, 5, 4), jnp.float64)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, 4), jnp.float64)

    def gradients(convolve):
      def total(x, k):
        return jnp.sum(convolve(x, k, 2) ** 2)

      return jax.jit(jax.grad(total, (0, 1)))(inputs, kernel)

    found = gradients(convolutions.depthwise_conv2d)
    for got, want in zip(found, gradients(_plain), strict=True):
      np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


@of_both_kinds
def test_gradients_in_a_loop(convolve, maps_in):
  inputs, kernel = _random(0, 4, 6, 6, 3), 0.3 * _random(1, 3, 3, maps_in, 3)

  def descend(convolve):
    def step(kernel, _):
      gradient = jax.grad(lambda k: jnp.sum(jnp.tanh(convolve(inputs, k, 2)) ** 2))
      return kernel - 0.01 * gradient(kernel), None

    return jax.jit(lambda k: lax.scan(step, k, None, length=3)[0])(kernel)

  np.testing.assert_allclose(descend(convolve), descend(_plain), rtol=1e-5, atol=1e-6)


@of_both_kinds
def test_second_derivatives_by_reverse_over_reverse(convolve, maps_in):
  inputs, kernel = _random(0, 2, 5, 5, 3), _random(1, 3, 3, maps_in, 3)
  direction = _random(2, *kernel.shape)

  def curvature(convolve):
    def loss(k):
      return jnp.sum(jnp.tanh(convolve(inputs, k, 2)) ** 3)

    return jax.jit(jax.grad(lambda k: jnp.vdot(jax.grad(loss)(k), direction)))(kernel)

  np.testing.assert_allclose(
    curvature(convolve), curvature(_plain), rtol=1e-4, atol=1e-4
  )


@of_both_kinds
def test_bfloat16_keeps_the_type_of_values_and_gradients(convolve, maps_in):
  inputs = _random(0, 2, 6, 6, 3).astype(jnp.bfloat16)
  kernel = _random(1, 3, 3, maps_in, 3).astype(jnp.bfloat16)
  _assert_same(
    lambda x, k: convolve(x, k, 2),
    lambda x, k: _plain(x, k, 2),
    inputs,
    kernel,
    tolerance=0.05,
  )


def test_kernels_that_do_not_fit_are_refused():
  images = jnp.zeros((1, 4, 4, 3))
  with pytest.raises(ValueError, match=r"odd square, got \(2, 2\)"):
    convolutions.strided_conv2d(images, jnp.zeros((2, 2, 3, 1)), 2)
  with pytest.raises(ValueError, match=r"expected \(k, k, 1, 3\), got \(3, 3, 3, 3\)"):
    convolutions.depthwise_conv2d(images, jnp.zeros((3, 3, 3, 3)), 1)


@pytest.mark.parametrize(
  ("arguments", "shape"),
  [
    ({"kernel_size": 3}, (3, 3, 4, 6)),
    ({"kernel_size": 9}, (9, 9, 4, 6)),
    ({"kernel_size": 3, "stride": 2}, (3, 3, 4, 6)),
    ({"kernel_size": 1}, (4, 6)),
    ({"kernel_size": 1, "stride": 2}, (4, 6)),
    ({"kernel_size": 5, "stride": 2, "depthwise": True}, (5, 5, 1, 4)),
  ],
)
@pytest.mark.parametrize("use_bias", [False, True])
def test_layer_picks_the_form_of_its_shape(arguments, shape, use_bias):
  features = 4 if arguments.get("depthwise") else 6
  layer = Convolution(features, use_bias=use_bias, **arguments)
  inputs = _random(0, 2, 7, 6, 4)
  params = jax.eval_shape(layer.init, jax.random.key(1), inputs)["params"]
  assert params["kernel"].shape == shape
  assert ("bias" in params) == use_bias
  params = {"kernel": _random(1, *shape)}
  if use_bias:
    params["bias"] = _random(3, features)

  def plain(params):
    kernel = params["kernel"].reshape((1,) * (4 - len(shape)) + shape)
    x = _plain(inputs, kernel, arguments.get("stride", 1))
    return x + params["bias"][None, None, None] if use_bias else x

  np.testing.assert_allclose(
    jax.jit(layer.apply)({"params": params}, inputs),
    jax.jit(plain)(params),
    rtol=1e-4,
    atol=1e-4,
  )
