"""Strided and depthwise convolutions, in forms that are fast on a CPU in loops too."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from emosynth_jax.models.ops.unit_stride import (
  DIMENSIONS,
  check_kernel,
  conv2d,
  fast_on_cpu,
)
from emosynth_jax.models.ops.winograd import by_device

Array = jax.Array

# He's initialization by the number of outputs, as torchvision starts its networks.
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# For a depthwise kernel `(k, k, 1, C)` the fan is k k, as each channel is separate.
he_depthwise = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


def strided_conv2d(inputs: Array, kernel: Array, stride: int) -> Array:
  """Convolution with a stride and half the kernel as padding on every side.

  Equal to `lax.conv_general_dilated` with padding k // 2, hence to torch's
  convolution with that padding; "SAME" pads less on the left if strided. On a CPU it is
  a product over gathered patches, whose gradient costs the same in a `lax.scan` as
  outside of it. XLA's gradient of a strided convolution ran 35 to 50 times slower
  inside (batch 32, 3x3, 64 -> 128 channels at side 32: 991 ms against 27; this form 38
  ms).

  It is the form for a stride of 1 too where the image is smaller than the kernel, which
  XLA runs on a slow path (3x3, 512 -> 512 channels at side 2: 140 times slower).

  Second derivatives are taken by reverse over reverse.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type, k odd.
    stride: step in both directions, at least 1.

  Returns:
    `(N, (H - 1) // stride + 1, (W - 1) // stride + 1, F)`.

  Raises:
    ValueError: if the kernel is not square with an odd side.
  """
  check_kernel(kernel)
  plain = functools.partial(_plain, stride=stride)
  return fast_on_cpu(functools.partial(_patch_product, stride=stride), plain)(
    inputs, kernel
  )


def depthwise_conv2d(inputs: Array, kernel: Array, stride: int = 1) -> Array:
  """Depthwise convolution, padded as `strided_conv2d`.

  On a CPU it is the sum of k k shifted products. XLA's own form ran 20 to 40 times
  slower forward and up to 500 times slower in the gradient in a `lax.scan` (batch 32,
  3x3, 96 channels at side 32: 58 ms forward, 5.4 s for the gradient; this form 1.5 and
  10 ms).

  Second derivatives are taken by reverse over reverse.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, 1, C)` of the same type, k odd.
    stride: step in both directions, at least 1.

  Returns:
    `(N, (H - 1) // stride + 1, (W - 1) // stride + 1, C)`.

  Raises:
    ValueError: if the kernel is not square with an odd side, or not one for each
      channel.
  """
  check_kernel(kernel)
  if kernel.shape[2:] != (1, inputs.shape[3]):
    raise ValueError(
      f"kernel: expected (k, k, 1, {inputs.shape[3]}), got {kernel.shape}"
    )
  return fast_on_cpu(
    functools.partial(_shifted_products, stride=stride),
    functools.partial(_plain, stride=stride),
    functools.partial(_shifted_products_gradients, stride=stride),
  )(inputs, kernel)


def _plain(inputs, kernel, stride):
  margin = kernel.shape[0] // 2
  return lax.conv_general_dilated(
    inputs,
    kernel,
    (stride, stride),
    [(margin, margin)] * 2,
    dimension_numbers=DIMENSIONS,
    feature_group_count=inputs.shape[3] // kernel.shape[2],
  )


def _patches(inputs, size, stride):
  """The pixel under each of the kernel's size^2 places, row by row."""
  margin = size // 2
  padded = jnp.pad(inputs, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
  spans = [(length - 1) // stride * stride + 1 for length in inputs.shape[1:3]]
  return [
    padded[:, i : i + spans[0] : stride, j : j + spans[1] : stride]
    for i in range(size)
    for j in range(size)
  ]


def _patch_product(inputs, kernel, stride):
  patches = jnp.concatenate(_patches(inputs, kernel.shape[0], stride), axis=-1)
  return patches @ kernel.reshape(-1, kernel.shape[3])


def _shifted_products(inputs, kernel, stride):
  size = kernel.shape[0]
  taps = kernel.reshape(size * size, 1, 1, 1, kernel.shape[3])
  patches = _patches(inputs, size, stride)
  return sum(p * tap for p, tap in zip(patches, taps, strict=True))


def _shifted_products_gradients(inputs, kernel, cotangent, stride):
  # With zeros between the outputs of a stride, it is the mirrored kernel's
  # convolution.
  spread = _spread(cotangent, stride, inputs.shape)
  inputs_gradient = _shifted_products(spread, kernel[::-1, ::-1], 1)

  # Not in bfloat16, in which a sum of many terms would lose small ones.
  dtype = jnp.promote_types(jnp.float32, inputs.dtype)

  # Example by example (of each device), since each of k k sums over a batch would read
  # it again.
  def add(total, examples):
    patches = _patches(examples[0], kernel.shape[0], stride)
    sums = [jnp.sum(p * examples[1], (1, 2), dtype=dtype) for p in patches]
    return total + jnp.stack(sums, axis=1), None

  examples = [by_device(x).swapaxes(0, 1) for x in (inputs, cotangent)]
  shape = examples[0].shape[1], kernel.shape[0] ** 2, kernel.shape[3]
  total, _ = lax.scan(add, jnp.zeros(shape, dtype), tuple(examples))
  total = total.sum(0).reshape(kernel.shape)
  return inputs_gradient, total.astype(kernel.dtype)


def _spread(x, stride, shape):
  """Scatters the pixels of a strided output to their positions in the input's grid."""
  rests = [
    length - 1 - (small - 1) * stride
    for length, small in zip(shape[1:3], x.shape[1:3], strict=True)
  ]
  pads = [(0, 0, 0), *((0, rest, stride - 1) for rest in rests), (0, 0, 0)]
  return lax.pad(x, jnp.zeros((), x.dtype), pads)


class Normalized(Protocol):
  """A network with BatchNorm, as the comparison networks are."""

  dtype: Any
  norm_momentum: float
  norm_epsilon: float


def layers_of(network: Normalized, *, train: bool) -> tuple[Callable, Callable]:
  """The convolution and BatchNorm of a network, with its settings bound.

  Args:
    network: the module.
    train: whether BatchNorm uses and updates the batch's statistics.

  Returns:
    `Convolution` and `nn.BatchNorm`, which take their remaining arguments.
  """
  norm = functools.partial(
    nn.BatchNorm,
    use_running_average=not train,
    momentum=network.norm_momentum,
    epsilon=network.norm_epsilon,
    dtype=network.dtype,
  )
  return functools.partial(Convolution, dtype=network.dtype), norm


class Convolution(nn.Module):
  """A convolution of the comparison networks: strides, depthwise, mostly no bias.

  Padding is k // 2 on every side. A 1x1 convolution is a product over the channels,
  with a kernel `(C, F)`, which is several times faster on a CPU.

  Attributes:
    features: F, the number of output channels; without effect if depthwise.
    kernel_size: k, odd.
    stride: step in both directions.
    depthwise: whether each channel has its own kernel `(k, k)`.
    use_bias: whether a bias is added.
    kernel_init: the kernel's initialization.
    dtype: the type of the computation; parameters are float32.
  """

  features: int
  kernel_size: int = 3
  stride: int = 1
  depthwise: bool = False
  use_bias: bool = False
  kernel_init: Callable = he_fan_out
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    """Maps `(N, H, W, C)` to `(N, (H - 1) // stride + 1, (W - 1) // stride + 1, F)`."""
    size, channels = self.kernel_size, inputs.shape[-1]
    shape: tuple[int, ...]
    if self.depthwise:
      shape = (size, size, 1, channels)
    elif size == 1:
      shape = (channels, self.features)
    else:
      shape = (size, size, channels, self.features)

    kernel = self.param("kernel", self.kernel_init, shape)
    inputs, kernel = nn.dtypes.promote_dtype(inputs, kernel, dtype=self.dtype)
    if self.depthwise:
      x = depthwise_conv2d(inputs, kernel, self.stride)
    elif size == 1:
      x = inputs[:, :: self.stride, :: self.stride] @ kernel
    elif self.stride == 1 and min(inputs.shape[1:3]) >= size:
      x = conv2d(inputs, kernel)
    else:
      x = strided_conv2d(inputs, kernel, self.stride)

    if self.use_bias:
      bias = self.param("bias", nn.initializers.zeros_init(), shape[-1:])
      x = x + bias.astype(x.dtype)[None, None, None, :]

    return x
