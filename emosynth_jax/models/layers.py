"""Layers that more than one network uses, in the forms that are fast on a CPU too."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def conv2d(inputs: Array, kernel: Array) -> Array:
  """Stride-1 SAME convolution, whose gradient is fast inside loops on a CPU too.

  XLA's CPU compiler brings a convolution into the form that its fast code takes only
  outside of loops. The forward form is that form already, the kernel's gradient as
  JAX derives it is not: in a `lax.scan` it ran 25 to 90 times slower (both gradients,
  batch 64, two cores; 5x5 with 12 maps at side 24, 3x3 with 32 maps at side 12). So
  the gradient's form is chosen here on CPUs; elsewhere it is JAX's own.

  Since the rule is one for reverse mode, second derivatives are taken by reverse
  over reverse, and are convolutions of these forms as well: the Hessian's product of
  two layers in a loop took a fourteenth of the processor time of JAX's own rule (batch
  16, 3x3, 4 -> 16 -> 16 maps at side 24; less than half outside of loops).

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type, k odd.

  Returns:
    `(N, H, W, F)`.

  Raises:
    ValueError: if the kernel is not square with an odd side.
  """
  if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
    raise ValueError(f"kernel: expected an odd square, got {kernel.shape[:2]}")
  return lax.conv_general_dilated(
    inputs, kernel, (1, 1), "SAME", dimension_numbers=_DIMENSIONS
  )


def _conv2d_forward(inputs, kernel):
  return conv2d(inputs, kernel), (inputs, kernel)


def _conv2d_backward(residuals, cotangent):
  return lax.platform_dependent(
    *residuals, cotangent, cpu=_gradients_on_cpu, default=_gradients_by_jax
  )


conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def _gradients_by_jax(inputs, kernel, cotangent):
  def plain(inputs, kernel):
    return lax.conv_general_dilated(
      inputs, kernel, (1, 1), "SAME", dimension_numbers=_DIMENSIONS
    )

  return jax.vjp(plain, inputs, kernel)[1](cotangent)


def _gradients_on_cpu(inputs, kernel, cotangent):
  """Both gradients in forms that XLA's CPU compiler needs not rewrite."""
  size = kernel.shape[0]
  mirrored = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
  return conv2d(cotangent, mirrored), _kernel_gradient(size, inputs, cotangent)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _kernel_gradient(size, inputs, cotangent):
  """The kernel's gradient: the inputs correlated with the cotangent.

  Over the examples and pixels: the maps take the place of the batch, and the batch that
  of the maps.
  """
  margin = size // 2
  gradient = lax.conv_general_dilated(
    inputs.transpose(3, 1, 2, 0),
    cotangent.transpose(1, 2, 0, 3),
    (1, 1),
    [(margin, margin)] * 2,
    dimension_numbers=_DIMENSIONS,
  )
  return gradient.transpose(1, 2, 0, 3)


def _kernel_gradient_forward(size, inputs, cotangent):
  return _kernel_gradient(size, inputs, cotangent), (inputs, cotangent)


def _kernel_gradient_backward(size, residuals, kernel):
  """For second derivatives: <K(x, c), k> = <conv2d(x, k), c> is linear in each."""
  del size
  inputs, cotangent = residuals
  mirrored = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
  return conv2d(cotangent, mirrored), conv2d(inputs, kernel)


_kernel_gradient.defvjp(_kernel_gradient_forward, _kernel_gradient_backward)


class Conv(nn.Module):
  """The layer around `conv2d`, with a bias.

  Attributes:
    features: F, the number of output maps.
    kernel_size: k, odd.
    dtype: the type of the computation; parameters are float32.
    transposed: whether it is a transposed convolution without padding, whose side
      grows by k - 1, instead of a SAME one.
  """

  features: int
  kernel_size: int = 3
  dtype: Any = jnp.float32
  kernel_init: Callable = nn.initializers.he_normal()
  transposed: bool = False

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    """Maps `(N, H, W, C)` to `(N, H, W, F)`, or each side k - 1 longer."""
    shape = (self.kernel_size, self.kernel_size, inputs.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
    inputs, kernel, bias = nn.dtypes.promote_dtype(
      inputs, kernel, bias, dtype=self.dtype
    )
    convolve = conv_transpose_valid if self.transposed else conv2d
    return convolve(inputs, kernel) + bias[None, None, None, :]


def conv_transpose_valid(inputs: Array, kernel: Array) -> Array:
  """Stride-1 transposed convolution without padding: the side grows by k - 1.

  Equal to `lax.conv_transpose(inputs, kernel, (1, 1), "VALID")`. That one pads by
  k - 1 within the convolution, which XLA runs on a slow path on CPU: 17 s of a 20 s
  step of the full network. Padding by half of it first leaves a SAME convolution.

  Args:
    inputs: `(N, H, W, C)`.
    kernel: `(k, k, C, F)` with odd k.

  Returns:
    `(N, H + k - 1, W + k - 1, F)`.

  Raises:
    ValueError: if the kernel is not square with an odd side.
  """
  margin = kernel.shape[0] // 2
  padded = jnp.pad(inputs, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
  return conv2d(padded, kernel)


def average_pool(inputs: Array, window: int, stride: int) -> Array:
  """Average pooling without padding.

  Equal to `nn.avg_pool(inputs, (window, window), (stride, stride), "VALID")`, whose
  gradient dilates and sums over windows: ten times slower on CPU than adding up
  slices, first along the rows and then along the columns.

  Args:
    inputs: `(N, H, W, C)`, floating.
    window: side of the square window.
    stride: step of the window in both directions.

  Returns:
    `(N, (H - window) // stride + 1, (W - window) // stride + 1, C)`.
  """
  for axis in (1, 2):
    span = (inputs.shape[axis] - window) // stride * stride + 1
    inputs = sum(
      lax.slice_in_dim(inputs, i, i + span, stride, axis) for i in range(window)
    ) / jnp.asarray(window, inputs.dtype)
  return inputs


def upsample_nearest(inputs: Array) -> Array:
  """Doubles the side of every map by repeating each pixel; no parameters.

  Args:
    inputs: `(N, H, W, C)`.

  Returns:
    `(N, 2 H, 2 W, C)`.
  """
  n, height, width, channels = inputs.shape
  repeated = jnp.broadcast_to(
    inputs[:, :, None, :, None, :], (n, height, 2, width, 2, channels)
  )
  return repeated.reshape(n, 2 * height, 2 * width, channels)


def max_pool_3x3(inputs: Array, stride: int = 1) -> Array:
  """3x3 maximum with a padding of one pixel, at every pixel or every `stride`-th.

  Equal to `nn.max_pool(inputs, (3, 3), (stride, stride), ((1, 1), (1, 1)))`, whose
  gradient scatters through a window scan that costs 4 (stride 1) to 14 times (stride
  2) as much on a CPU. Here the maximum is taken along the rows and then along the
  columns by selections, whose gradient is again selections. As there, a tie sends the
  gradient to the first pixel of the window in row-major order.

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
    first = jnp.where(before >= here, before, here)
    inputs = jnp.where(first >= after, first, after)
  return inputs


def max_pool_2x2(inputs: Array) -> Array:
  """2x2 maximum without overlap; a last odd row or column is dropped.

  Equal to `nn.max_pool(inputs, (2, 2), (2, 2))`, ties included, in the form of
  `max_pool_3x3`: its gradient takes a twentieth of the time on a CPU.

  Args:
    inputs: `(N, H, W, C)`, floating.

  Returns:
    `(N, H // 2, W // 2, C)`.
  """
  for axis in (2, 1):
    span = inputs.shape[axis] // 2 * 2
    left, right = (lax.slice_in_dim(inputs, i, span, 2, axis) for i in range(2))
    inputs = jnp.where(left >= right, left, right)
  return inputs
