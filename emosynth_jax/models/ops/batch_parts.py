"""Parts of a batch, whose intermediate arrays fit into a CPU's cache."""

from collections.abc import Callable

import jax
from jax import lax

Array = jax.Array


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
