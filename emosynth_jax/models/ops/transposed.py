"""Transposed convolutions and upsampling without redundant multiply-adds."""

import jax
import jax.numpy as jnp
from jax import lax

from emosynth_jax.models.ops.platforms import fast_on_cpu

Array = jax.Array


def upsample_nearest(inputs: Array) -> Array:
  """Nearest-neighbor upsampling by 2.

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


def conv_transpose_valid(inputs: Array, kernel: Array) -> Array:
  """Stride-1 transposed convolution without padding: the side grows by k - 1.

  Equal to `lax.conv_transpose(inputs, kernel, (1, 1), "VALID")`. That one pads by
  k - 1 within the convolution, which XLA runs on a slow path on CPU: 17 s of a 20 s
  step of the full network. On a CPU each pixel is multiplied by the whole kernel in one
  product, and the k k results are added at their positions: no padding is multiplied.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type, k odd.

  Returns:
    `(N, H + k - 1, W + k - 1, F)`.

  Raises:
    ValueError: if the kernel is not square with an odd side.
  """
  _check_kernel(kernel)
  return _valid(inputs, kernel)


def conv_transpose_upsampled(inputs: Array, kernel: Array) -> Array:
  """Transposed convolution of the upsampled input, computed on the small input.

  Equal to `conv_transpose_valid(upsample_nearest(inputs), kernel)`. The four copies of
  a pixel have the same products with the kernel. On a CPU these are computed once, and
  each is added to the outputs of all four: 9 H W products of C with F channels for a
  3x3 kernel instead of 9 (2 H + 2) (2 W + 2), which is 1/6 at H = W = 4.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type, k odd.

  Returns:
    `(N, 2 H + k - 1, 2 W + k - 1, F)`.

  Raises:
    ValueError: if the kernel is not square with an odd side.
  """
  _check_kernel(kernel)
  return _upsampled(inputs, kernel)


def flat_product_upsampled(inputs: Array, kernel: Array) -> Array:
  """Dense layer on the flattened upsampled input, computed on the small input.

  Equal to `upsample_nearest(inputs).reshape(N, -1) @ kernel`. On a CPU the rows of the
  kernel that multiply copies of one value are summed first, so that the product has 1/4
  of the multiply-adds.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(4 H W C, F)` of the same type.

  Returns:
    `(N, F)`.
  """
  return _flat(inputs, kernel)


def _plain_valid(inputs, kernel):
  margin = kernel.shape[0] - 1
  return lax.conv_general_dilated(
    inputs,
    kernel,
    (1, 1),
    [(margin, margin)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _scattered_products(inputs, kernel, scale):
  """The transposed convolution of the inputs, each pixel repeated `scale` times."""
  size, _, channels, features = kernel.shape
  weights = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
  products = (inputs @ weights).reshape(*inputs.shape[:3], size, size, features)
  margin = (size - 1) // scale
  for axis in (1, 2):
    # The row taps are on axis 3 first, then the column taps.
    length = inputs.shape[axis] + margin
    padding = [(0, 0)] * products.ndim
    padding[axis] = (margin, margin)
    padded = jnp.pad(products, padding)

    # Output scale * a + phase takes tap t of the pixel a + (t - size + 1 + phase) //
    # scale of the inputs.
    phases = [
      sum(
        lax.index_in_dim(
          lax.slice_in_dim(padded, start, start + length, axis=axis),
          tap,
          axis=3,
          keepdims=False,
        )
        for tap in range(size)
        for start in [margin + (tap - size + 1 + phase) // scale]
      )
      for phase in range(scale)
    ]
    stacked = jnp.stack(phases, axis=axis + 1)
    shape = (*stacked.shape[:axis], scale * length, *stacked.shape[axis + 2 :])
    products = stacked.reshape(shape)

  return products


def _folded_product(inputs, kernel):
  n, height, width, channels = inputs.shape
  blocks = kernel.reshape(height, 2, width, 2, channels, kernel.shape[1])
  folded = blocks.sum((1, 3)).reshape(-1, kernel.shape[1])
  return inputs.reshape(n, -1) @ folded


def _check_kernel(kernel):
  if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
    raise ValueError(f"kernel: expected an odd square, got {kernel.shape[:2]}")


_valid = fast_on_cpu(
  lambda inputs, kernel: _scattered_products(inputs, kernel, 1), _plain_valid
)
_upsampled = fast_on_cpu(
  lambda inputs, kernel: _scattered_products(inputs, kernel, 2),
  lambda inputs, kernel: _plain_valid(upsample_nearest(inputs), kernel),
)
_flat = fast_on_cpu(
  _folded_product,
  lambda inputs, kernel: upsample_nearest(inputs).reshape(inputs.shape[0], -1) @ kernel,
)
