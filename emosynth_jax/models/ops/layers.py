"""Layers shared by several networks, in forms that are also fast on a CPU."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from emosynth_jax.models.ops import unit_stride

Array = jax.Array


class Conv(nn.Module):
  """The layer around `conv2d`, with a bias.

  Attributes:
    features: F, the number of output channels.
    kernel_size: k, odd.
    dtype: the type of the computation; parameters are float32.
    transposed: whether it is a transposed convolution without padding, whose side
      grows by k - 1, instead of a SAME one.
    upsampled: whether each pixel of the input is repeated 2x2 before that.
  """

  features: int
  kernel_size: int = 3
  dtype: Any = jnp.float32
  kernel_init: Callable = nn.initializers.he_normal()
  transposed: bool = False
  upsampled: bool = False

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    """Maps `(N, H, W, C)` to `(N, H, W, F)`, or each side k - 1 longer.

    Upsampled: to `(N, 2 H + k - 1, 2 W + k - 1, F)`.
    """
    shape = (self.kernel_size, self.kernel_size, inputs.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
    inputs, kernel, bias = nn.dtypes.promote_dtype(
      inputs, kernel, bias, dtype=self.dtype
    )

    if self.upsampled:
      convolve = unit_stride.conv_transpose_upsampled
    elif self.transposed:
      convolve = unit_stride.conv_transpose_valid
    else:
      convolve = unit_stride.conv2d

    return convolve(inputs, kernel) + bias[None, None, None, :]


class DenseOfUpsampled(nn.Module):
  """A dense layer on the flattened output of `upsample_nearest`.

  Attributes:
    features: F, the number of outputs.
    dtype: the type of the computation; parameters are float32.
    kernel_init: initialization of the kernel `(4 H W C, F)`.
  """

  features: int
  dtype: Any = jnp.float32
  kernel_init: Callable = nn.initializers.he_normal()

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    """Maps `(N, H, W, C)` to `(N, F)`."""
    shape = (4 * math.prod(inputs.shape[1:]), self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
    inputs, kernel, bias = nn.dtypes.promote_dtype(
      inputs, kernel, bias, dtype=self.dtype
    )
    product = unit_stride.flat_product_upsampled(inputs, kernel)
    return product + bias[None, :]


# A separate jitted function of this name, by which guided Grad-CAM and the export
# recognize an activation.
@jax.jit
def elu(inputs: Array) -> Array:
  r"""The exponential linear unit, whose gradient is computed from its output.

  Its values and gradients are those of `jax.nn.elu`.

  .. math:: f(x) = x \text{ if } x > 0 \text{ else } e^x - 1

  Where :math:`x \le 0` the slope :math:`e^x` is :math:`f(x) + 1`. The backward pass
  thus needs only the output, which the next layer keeps for its own gradient, and
  neither the input nor a second exponential.

  Reverse mode only; second derivatives are taken by reverse over reverse.

  Args:
    inputs: floating, of any shape.

  Returns:
    Of the same shape and type.

  References:
    Clevert et al., "Fast and Accurate Deep Network Learning by Exponential Linear Units
    (ELUs)", 2016, section 3.
  """
  return _elu(inputs)


@jax.custom_vjp
def _elu(x):
  return jax.nn.elu(x)


def _elu_forward(x):
  y = jax.nn.elu(x)
  return y, y


def _elu_backward(y, gradient):
  return (gradient * jnp.where(y > 0, jnp.ones_like(y), y + 1),)


_elu.defvjp(_elu_forward, _elu_backward)


def average_pool(inputs: Array, window: int, stride: int) -> Array:
  """Average pooling without padding.

  Equal to `nn.avg_pool(inputs, (window, window), (stride, stride), "VALID")`, whose
  gradient dilates and sums over windows: ten times slower on CPU than adding slices,
  first along the rows and then along the columns. Where windows overlap, on a CPU, a
  product with the matrix of each axis is used: with sums of slices the gradient wrote
  the array once for each (7x7 over 640 channels at side 16: 0.1 s of a step).

  Args:
    inputs: `(N, H, W, C)`, floating.
    window: side of the square window.
    stride: step of the window in both directions.

  Returns:
    `(N, (H - window) // stride + 1, (W - window) // stride + 1, C)`.
  """
  by_slices = functools.partial(_pool_by_slices, window=window, stride=stride)
  if window <= stride:
    return by_slices(inputs)
  by_products = functools.partial(_pool_by_products, window=window, stride=stride)
  return unit_stride.fast_on_cpu(by_products, by_slices)(inputs)


def _pool_by_slices(inputs, window, stride):
  for axis in (1, 2):
    span = (inputs.shape[axis] - window) // stride * stride + 1
    inputs = sum(
      lax.slice_in_dim(inputs, i, i + span, stride, axis) for i in range(window)
    ) / jnp.asarray(window, inputs.dtype)
  return inputs


def _pool_by_products(inputs, window, stride):
  def matrix(length):
    starts = np.arange(0, length - window + 1, stride)[:, None]
    places = np.arange(length)[None]
    covered = (places >= starts) & (places < starts + window)
    return jnp.asarray(covered / window, inputs.dtype)

  rows, columns = (matrix(length) for length in inputs.shape[1:3])
  half = jnp.einsum("ah,nhwc->nawc", rows, inputs)
  return jnp.einsum("bw,nawc->nabc", columns, half)


def max_pool_3x3(inputs: Array, stride: int = 1) -> Array:
  """3x3 maximum with a padding of one pixel, at every pixel or every `stride`-th.

  Equal to `nn.max_pool(inputs, (3, 3), (stride, stride), ((1, 1), (1, 1)))`, whose
  gradient scatters through a window scan that costs 4 (stride 1) to 14 times (stride 2)
  more on a CPU. Here the maximum is taken along the rows and then along the columns by
  selections, whose gradient is again selections. As there, a tie sends the gradient to
  the first pixel of the window in row-major order.

  Args:
    inputs: `(N, H, W, C)`, floating.
    stride: step in both directions.

  Returns:
    `(N, (H - 1) // stride + 1, (W - 1) // stride + 1, C)`.
  """
  for axis in (2, 1):
    padding = [(0, 0)] * 4
    padding[axis] = (1, 1)
    padded = jnp.pad(inputs, padding, constant_values=-jnp.inf)
    span = (inputs.shape[axis] - 1) // stride * stride + 1
    before, here, after = (
      lax.slice_in_dim(padded, i, i + span, stride, axis) for i in range(3)
    )
    inputs = _first_largest(_first_largest(before, here), after)
  return inputs


def max_pool_2x2(inputs: Array) -> Array:
  """2x2 maximum without overlap; a last odd row or column is dropped.

  Equal to `nn.max_pool(inputs, (2, 2), (2, 2))`, ties included, in the form of
  `max_pool_3x3`: its gradient takes 1/20 of the time on a CPU.

  Args:
    inputs: `(N, H, W, C)`, floating.

  Returns:
    `(N, H // 2, W // 2, C)`.
  """
  for axis in (2, 1):
    span = inputs.shape[axis] // 2 * 2
    left, right = (lax.slice_in_dim(inputs, i, span, 2, axis) for i in range(2))
    inputs = _first_largest(left, right)
  return inputs


def _first_largest(first: Array, second: Array) -> Array:
  """Elementwise maximum, the first for ties; NaN if one is NaN."""
  return jnp.where((first >= second) | jnp.isnan(first), first, second)
