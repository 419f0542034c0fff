"""Layers that more than one network uses, in the forms that are fast on a CPU too."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

Array = jax.Array


def conv_transpose_valid(inputs: Array, kernel: Array) -> Array:
  """Stride-1 transposed convolution without padding: the side grows by k - 1.

  `lax.conv_transpose(inputs, kernel, (1, 1), "VALID")` pads its input by k - 1 inside
  the convolution, which XLA runs on a slow path on CPU. Here the padding is an
  operation of its own where it must be, and the convolution is a SAME one: the values
  and gradients are the same and the step is several times faster.

  Args:
    inputs: `(N, H, W, C)`.
    kernel: `(k, k, C, F)` with odd k.

  Returns:
    `(N, H + k - 1, W + k - 1, F)`.

  Raises:
    ValueError: if the kernel is not square with an odd side.
  """
  size = kernel.shape[0]
  if kernel.shape[1] != size or size % 2 == 0:
    raise ValueError(f"kernel: expected an odd square, got {kernel.shape[:2]}")
  margin = size // 2
  padded = jnp.pad(inputs, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
  return lax.conv_general_dilated(
    padded, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )


class ConvTransposeValid(nn.Module):
  """The layer around `conv_transpose_valid`, with a bias.

  Attributes:
    features: F, the number of output maps.
    kernel_size: k, odd.
    dtype: the type of the computation; parameters are float32.
  """

  features: int
  kernel_size: int = 3
  dtype: Any = jnp.float32
  kernel_init: Callable = nn.initializers.he_normal()

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    """Maps `(N, H, W, C)` to `(N, H + k - 1, W + k - 1, F)`."""
    size = self.kernel_size
    shape = (size, size, inputs.shape[-1], self.features)
    kernel = self.param("kernel", self.kernel_init, shape)
    bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
    inputs, kernel, bias = nn.dtypes.promote_dtype(
      inputs, kernel, bias, dtype=self.dtype
    )
    return conv_transpose_valid(inputs, kernel) + bias[None, None, None, :]


def average_pool(inputs: Array, window: int, stride: int) -> Array:
  """Average pooling without padding.

  Non-overlapping windows are a reshape and a mean, whose gradient is a broadcast;
  the general case goes through a window reduction.

  Args:
    inputs: `(N, H, W, C)`.
    window: side of the square window.
    stride: step of the window in both directions.

  Returns:
    `(N, (H - window) // stride + 1, (W - window) // stride + 1, C)`.
  """
  n, height, width, channels = inputs.shape
  if window == stride and height % window == 0 and width % window == 0:
    blocks = inputs.reshape(
      n, height // window, window, width // window, window, channels
    )
    return blocks.mean((2, 4))
  return nn.avg_pool(inputs, (window, window), (stride, stride), "VALID")


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


def max_pool_3x3(inputs: Array) -> Array:
  """3x3 maximum at every pixel, SAME padding, stride 1.

  `nn.max_pool` computes the same, but its gradient scatters through a window scan
  that costs five times as much on CPU. Here the maximum is taken along the rows and
  then along the columns by selections, whose gradient is again selections. As there,
  a tie sends the gradient to the first pixel of the window in row-major order.

  Args:
    inputs: `(N, H, W, C)`, floating.

  Returns:
    `(N, H, W, C)`.
  """

  def running_max(x, axis):
    padding = [(0, 0)] * 4
    padding[axis] = (1, 1)
    padded = jnp.pad(x, padding, constant_values=-jnp.inf)
    before, here, after = (
      lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(3)
    )
    first = jnp.where(before >= here, before, here)
    return jnp.where(first >= after, first, after)

  return running_max(running_max(inputs, 2), 1)
