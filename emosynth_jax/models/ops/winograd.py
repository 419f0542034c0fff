"""Winograd convolutions, with fewer multiplications, for CPUs."""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Matrix = tuple[tuple[float, ...], ...]

# Evaluation points of the polynomials, besides infinity, by (tile, kernel size). Of the
# sets tried, these points of six have the smallest rounding error: 2e-6 of the largest
# output against 4e-6 to 8e-6 with the common choice (0, 1, -1, 2, -2); a direct sum has
# 3e-7 (96 maps, float32).
_POINTS = {
  (2, 3): (0, 1, -1),
  (4, 3): (0, 1, -1, Fraction(1, 2), -2),
  (2, 5): (0, 1, -1, 2, Fraction(-1, 2)),
}
TILES = tuple(_POINTS)


class Transforms(NamedTuple):
  """Matrices of y = A^T [(G k) * (B^T x)], m outputs of a kernel of r numbers.

  Attributes:
    outputs: A^T, (m, m + r - 1).
    kernel: G, (m + r - 1, r).
    inputs: B^T, square.
  """

  outputs: Matrix
  kernel: Matrix
  inputs: Matrix


@functools.cache
def transforms(tile: int, size: int) -> Transforms:
  """The matrices of F(tile, size), by evaluation at the points of `_POINTS`.

  The outputs' matrix is that of the product of two polynomials by their values at the
  points; its transpose is a correlation (Winograd, chapter 5).
  """
  points = [Fraction(p) for p in _POINTS[tile, size]]
  rows = [[p**i for p in points] + [Fraction(i == tile - 1)] for i in range(tile)]
  kernel, inputs = [], []
  for point in points:
    others = [p for p in points if p != point]
    scale = Fraction(1)
    for other in others:
      scale *= point - other
    kernel.append([point**i / scale for i in range(size)])
    inputs.append([*_polynomial(others), Fraction(0)])

  kernel.append([Fraction(i == size - 1) for i in range(size)])
  inputs.append(_polynomial(points))
  as_floats = lambda m: tuple(tuple(float(x) for x in row) for row in m)  # noqa: E731
  return Transforms(as_floats(rows), as_floats(kernel), as_floats(inputs))


def _polynomial(roots):
  """Coefficients of the product of x - root, the constant first."""
  coefficients = [Fraction(1)]
  for root in roots:
    shifted = [Fraction(0), *coefficients]
    scaled = [root * c for c in [*coefficients, Fraction(0)]]
    coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
  return coefficients


def convolve(
  inputs: Array,
  kernel: Array,
  *,
  tile: int,
  pixels: int,
  adjoint: bool = False,
  products: Any = None,
) -> Array:
  """Stride-1 SAME convolution by Winograd's algorithm, tile x tile outputs at a time.

  A k x k kernel needs (tile + k - 1)^2 products for the tile^2 outputs instead of
  tile^2 k^2: 16 instead of 36 with tile 2 and k 3.

  Args:
    inputs: `(N, H, W, C)`, floating.
    kernel: `(k, k, C, F)` of the same type; (tile, k) is one of `TILES`.
    tile: side of a tile.
    pixels: approximate N H W processed at a time, so that the intermediate arrays fit
      into a cache.
    adjoint: whether to apply the adjoint, the gradient with respect to the inputs, to
      `(N, H, W, F)` instead. The kernel's channels are not transposed for it: that
      alone took 1/10 of a step.
    products: type to which the products' factors are rounded; None for the inputs'.
      Sums and transforms are in the inputs' type. CPUs with instructions for bfloat16
      multiply it twice as fast as float32.

  Returns:
    `(N, H, W, F)`, or `(N, H, W, C)` of the adjoint.

  References:
    Lavin and Gray, `Fast Algorithms for Convolutional Neural Networks
    <https://arxiv.org/abs/1509.09308>`_, 2016;
    Winograd, Arithmetic Complexity of Computations, 1980
  """
  size, contracted, features = kernel.shape[0], 0, kernel.shape[3]
  if adjoint:
    kernel, contracted, features = kernel[::-1, ::-1], 1, kernel.shape[2]
  matrices = transforms(tile, size)
  weights = _two_sided(matrices.kernel, [list(row) for row in kernel])
  contraction = ((3,), (contracted,)), ((), ())

  def product(tiles, weights):
    # Without a conversion, which would add operations, where the type is the same.
    if products in (None, inputs.dtype):
      return lax.dot_general(tiles, weights, contraction)
    factors = tiles.astype(products), weights.astype(products)
    return lax.dot_general(*factors, contraction, preferred_element_type=inputs.dtype)

  def convolve_part(inputs):
    tiles = _two_sided(matrices.inputs, _input_tiles(inputs, tile, size))
    grid = [
      [product(t, w) for t, w in zip(*rows, strict=True)]
      for rows in zip(tiles, weights, strict=True)
    ]
    return _join(_two_sided(matrices.outputs, grid))[
      :, : inputs.shape[1], : inputs.shape[2]
    ]

  return map_parts(convolve_part, inputs, pixels=pixels, features=features)


def kernel_gradient(
  inputs: Array, cotangent: Array, *, size: int, tile: int, pixels: int
) -> Array:
  """Gradient of `convolve` with respect to the kernel, in as many products.

  Args:
    inputs: `(N, H, W, C)`.
    cotangent: `(N, H, W, F)`, of the outputs.
    size: k.
    tile: as `convolve` takes it.
    pixels: as `convolve` takes it.

  Returns:
    `(k, k, C, F)`.
  """
  matrices = transforms(tile, size)
  side = tile + size - 1

  def gradient_of(inputs, cotangent):
    tiles = _two_sided(matrices.inputs, _input_tiles(inputs, tile, size))
    spread = _two_sided(_transpose(matrices.outputs), _split(cotangent, tile))
    # One batched product is faster than separate products, with the sum over the rows.
    return jnp.einsum("utc,utf->ucf", _stack(tiles), _stack(spread))

  parts = split(inputs, pixels), split(cotangent, pixels)
  if parts[0].shape[0] == 1:
    total = gradient_of(inputs, cotangent)
  else:
    # A sum for each device, or they would communicate at every iteration.
    of_devices = jax.vmap(gradient_of)
    shape = parts[0].shape[1], side * side, inputs.shape[3], cotangent.shape[3]
    total = lax.scan(
      lambda total, part: (total + of_devices(*part), None),
      jnp.zeros(shape, inputs.dtype),
      parts,
    )[0].sum(0)

  total = [list(row) for row in total.reshape(side, side, *total.shape[1:])]
  gradient = _two_sided(_transpose(matrices.kernel), total)
  return jnp.stack([jnp.stack(row) for row in gradient])


def _transpose(matrix):
  return tuple(zip(*matrix, strict=True))


def _two_sided(matrix: Matrix, grid: Sequence[Sequence[Array]]) -> list[list[Array]]:
  """M g M^T of a grid of arrays."""
  rows = [_combine(matrix, column) for column in zip(*grid, strict=True)]
  return [_combine(matrix, row) for row in zip(*rows, strict=True)]


def _combine(matrix, arrays):
  combined = []
  for row in matrix:
    terms = [a if c == 1 else c * a for c, a in zip(row, arrays, strict=True) if c]
    combined.append(functools.reduce(lambda x, y: x + y, terms))
  return combined


def _input_tiles(inputs, tile, size):
  """The pixels at each place of the tiles, which overlap by size - 1."""
  before = size // 2
  spans = [-(-length // tile) * tile for length in inputs.shape[1:3]]
  side = tile + size - 1
  after = [
    span + side - tile - before - length
    for span, length in zip(spans, inputs.shape[1:3], strict=True)
  ]
  padded = jnp.pad(inputs, ((0, 0), (before, after[0]), (before, after[1]), (0, 0)))
  return [
    [
      padded[:, i : i + spans[0] - tile + 1 : tile, j : j + spans[1] - tile + 1 : tile]
      for j in range(side)
    ]
    for i in range(side)
  ]


def _split(outputs, tile):
  """Splits an array into its pixels by position in the tile, zero-padded at the end."""
  height, width = outputs.shape[1:3]
  padded = jnp.pad(outputs, ((0, 0), (0, -height % tile), (0, -width % tile), (0, 0)))
  return [[padded[:, i::tile, j::tile] for j in range(tile)] for i in range(tile)]


def _join(grid):
  """The inverse of `_split`."""
  rows = [jnp.stack(row, axis=3) for row in grid]
  stacked = jnp.stack(rows, axis=2)
  n, height, tile, width, _, features = stacked.shape
  return stacked.reshape(n, height * tile, width * tile, features)


def _stack(grid):
  return jnp.stack([a.reshape(-1, a.shape[-1]) for row in grid for a in row])


def by_device(batch: Array) -> Array:
  """Reshapes a batch to one part per device, see `on_mesh`.

  A loop over a sharded axis would be executed in full on every device. A loop over the
  images of a part runs on each device's own images.

  Args:
    batch: `(N, ...)`.

  Returns:
    `(D, N / D, ...)`; D is 1 if no mesh is known or N is not a multiple of it.
  """
  devices = jax.sharding.get_abstract_mesh().shape.get("data", 1)
  if batch.shape[0] % devices:
    devices = 1
  return batch.reshape(devices, batch.shape[0] // devices, *batch.shape[1:])


def split(maps: Array, pixels: int) -> Array:
  """Splits a batch of maps into equal parts, each of every device's images.

  Args:
    maps: `(N, H, W, C)`.
    pixels: approximate number of pixels of a part on each device.

  Returns:
    `(parts, devices, images, H, W, C)`.
  """
  maps = by_device(maps)
  devices, n, height, width, _ = maps.shape
  most = max(1, pixels // (height * width))
  images = max(d for d in range(1, min(n, most) + 1) if n % d == 0)
  if 2 * images < min(n, most):
    images = n  # No suitable divisor.
  parts = maps.reshape(devices, n // images, images, *maps.shape[2:])
  return parts.swapaxes(0, 1)


def map_parts(
  function: Callable[[Array], Array], maps: Array, *, pixels: int, features: int
) -> Array:
  """Applies a function of maps to one part of a batch after the other.

  Args:
    function: `(n, H, W, C)` to `(n, H, W, F)`, each image by itself.
    maps: `(N, H, W, C)`.
    pixels: as `split` takes it.
    features: F.

  Returns:
    `(N, H, W, F)`.
  """
  parts = split(maps, pixels)
  if parts.shape[0] == 1:
    return function(maps)

  devices, images = parts.shape[1:3]
  outputs = lax.map(lambda part: function(part.reshape(-1, *maps.shape[1:])), parts)
  outputs = outputs.reshape(-1, devices, images, *maps.shape[1:3], features)
  return outputs.swapaxes(0, 1).reshape(*maps.shape[:3], features)
