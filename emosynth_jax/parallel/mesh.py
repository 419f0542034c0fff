"""Where a run's arrays lie: images split over the devices, the state on all of them.

One program serves one device or many. Its arrays carry their placement, XLA puts the
communication in, and what is computed stays the same: the order of the images, the
random keys (by position in the batch) and sums over the whole batch.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# A dense kernel of so many numbers is worth splitting: EmoSynthNet's first one has 13
# million for images of 32x32, all others below 10,000.
_WIDE = 1 << 20


def build_mesh(model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
  """The devices of a run as a grid of two axes, "data" and "model".

  Args:
    model: devices that share one wide dense layer; the rest of the axes is data.
    devices: those to use, by default all of all processes.

  Returns:
    A mesh of shape `(len(devices) // model, model)`. The devices of one process stand
    beside each other, so that each process has one stretch of the images.

  Raises:
    ValueError: if `model` does not divide the number of devices, or a group of so many
      would lie across processes and not fill them.
  """
  devices = jax.devices() if devices is None else list(devices)
  if model < 1 or len(devices) % model:
    raise ValueError(
      f"config.mesh.model: expected a divisor of the {len(devices)} devices, got "
      f"{model}"
    )
  devices = sorted(devices, key=lambda d: (d.process_index, d.id))
  own = len(devices) // len({d.process_index for d in devices})
  if own % model and model % own:
    raise ValueError(
      f"config.mesh.model: expected a divisor or a multiple of the {own} devices of a "
      f"process, got {model}"
    )
  return Mesh(np.array(devices).reshape(-1, model), ("data", "model"))


def check_batch_size(mesh: Mesh, batch_size: int) -> None:
  """Refuses a batch that the devices can't share out evenly.

  Raises:
    ValueError: naming the nearest sizes that fit.
  """
  parts = mesh.shape["data"]
  if batch_size % parts:
    lower = batch_size // parts * parts
    nearest = " or ".join(str(n) for n in (lower, lower + parts) if n)
    raise ValueError(
      f"config.batch_size: expected a multiple of {parts}, so that as many devices "
      f"share a batch out evenly, got {batch_size}; {nearest} would fit"
    )


def batch_sharding(mesh: Mesh) -> NamedSharding | None:
  """How a batch lies on the devices; None for a single one, which has no choice."""
  return split_rows(mesh) if mesh.size > 1 else None


def split_rows(mesh: Mesh) -> NamedSharding:
  """The first axis split over "data"."""
  return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
  """All of it on every device."""
  return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, state: Any) -> Any:
  """How a training state lies on the devices.

  Everything is on every device, but for wide dense kernels, of which each device along
  "model" has a part, and for what the optimizer and the averages keep of them.

  Args:
    mesh: of `build_mesh`.
    state: arrays or their shapes.

  Returns:
    A `NamedSharding` for each array.
  """

  def sharding(path, leaf):
    name = getattr(path[-1], "key", None) if path else None
    parts = mesh.shape["model"]
    if parts > 1 and name == "kernel" and len(leaf.shape) == 2:
      # By what goes in: a device then takes its part of the layer's input, and only
      # the few outputs are added up over the devices.
      if leaf.shape[0] * leaf.shape[1] >= _WIDE and leaf.shape[0] % parts == 0:
        return NamedSharding(mesh, PartitionSpec("model"))
    return replicated(mesh)

  return jax.tree_util.tree_map_with_path(sharding, state)


def place(tree: Any, shardings: Any) -> Any:
  """Puts arrays, which every process has whole and alike, where they are to lie.

  Args:
    tree: arrays; those that lie there already stay.
    shardings: one for all of them, or one each.

  Returns:
    The tree as global arrays.
  """

  def put(leaf, sharding):
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding and leaf.committed:
      return leaf
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda at: value[at])

  if isinstance(shardings, NamedSharding):
    shardings = jax.tree.map(lambda _: shardings, tree)
  return jax.tree.map(put, tree, shardings)


def place_images(mesh: Mesh, images: Any) -> jax.Array:
  """Puts a split's images on the devices, each of which gets one stretch of them.

  Each process reads only the stretches of its own devices.

  Args:
    mesh: of `build_mesh`.
    images: uint8 `(M, H, W, C)`, M at least 1; an array, or what is read on being
      sliced as one would be.

  Returns:
    uint8 `(M', H, W, C)` split over "data", M' the next multiple of the axis, black
    images at the end; which are never to be drawn.
  """
  total, parts = len(images), mesh.shape["data"]
  shape = (-(-total // parts) * parts, *images.shape[1:])
  read: dict[tuple[int, int], np.ndarray] = {}

  def stretch(index):
    start, stop, _ = index[0].indices(shape[0])
    if (start, stop) not in read:  # Devices along "model" have the same one.
      part = np.asarray(images[start : min(stop, total)])
      padding = [(0, stop - start - len(part))] + [(0, 0)] * 3
      read[start, stop] = np.pad(part, padding) if padding[0][1] else part
    return read[start, stop]

  return jax.make_array_from_callback(shape, split_rows(mesh), stretch)


def own_rows(mesh: Mesh, total: int) -> range:
  """The rows of `place_images` that lie on this process's devices.

  Args:
    mesh: of `build_mesh`.
    total: M, the padding not counted.

  Returns:
    One stretch of 0..M-1, perhaps empty.
  """
  parts = mesh.shape["data"]
  rows = -(-total // parts) * parts
  indices = split_rows(mesh).addressable_devices_indices_map((rows,)).values()
  spans = [index[0].indices(rows)[:2] for index in indices if index is not None]
  start = min(start for start, _ in spans)
  return range(min(start, total), min(max(stop for _, stop in spans), total))


def whole(array: jax.Array) -> np.ndarray:
  """All of an array on the host, also where other processes hold parts of it."""
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    if not array.is_fully_replicated:
      return np.asarray(multihost_utils.process_allgather(array, tiled=True))
  return np.asarray(array)
