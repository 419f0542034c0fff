"""Convolutions of few channels as products over gathered pixels, for CPUs."""

import jax
import jax.numpy as jnp

from emosynth_jax.models.ops.batch_parts import map_parts

Array = jax.Array

# Pixels of a part of the batch on each device.
_PIXELS = 9216


def convolve(inputs: Array, kernel: Array) -> Array:
  """Stride-1 SAME convolution as one product of gathered pixels with the kernel.

  Of up to three channels all pixels under the kernel are gathered. Of more, those under
  one of its rows are, the product has the outputs of all k rows, and these are added
  at their positions: k times fewer copies, k times wider products.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type, k odd.

  Returns:
    `(N, H, W, F)`.
  """
  of_part = _by_pixels if kernel.shape[2] <= 3 else _by_rows
  return map_parts(
    lambda part: of_part(part, kernel),
    inputs,
    pixels=_PIXELS,
    features=kernel.shape[3],
  )


def _by_pixels(inputs, kernel):
  size, _, channels, features = kernel.shape
  height, width = inputs.shape[1:3]
  padded = _pad(inputs, size)
  taps = [
    padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size)
  ]
  return jnp.concatenate(taps, -1) @ kernel.reshape(size * size * channels, features)


def _by_rows(inputs, kernel):
  size, _, channels, features = kernel.shape
  height, width = inputs.shape[1:3]
  padded = _pad(inputs, size)
  gathered = jnp.concatenate([padded[:, :, j : j + width] for j in range(size)], -1)
  weights = kernel.transpose(1, 2, 0, 3).reshape(size * channels, size * features)
  products = gathered @ weights
  return sum(
    products[:, i : i + height, :, i * features : (i + 1) * features]
    for i in range(size)
  )


def _pad(inputs, size):
  margin = size // 2
  return jnp.pad(inputs, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
