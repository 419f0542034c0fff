"""Device mesh and sharding: images split over the devices, the state replicated.

One program is used for one device or many. Its arrays carry their sharding, XLA inserts
the communication, and the computation stays the same: the order of the images, the
random keys (by position in the batch) and sums over the whole batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# Minimum size of a dense kernel for sharding: EmoSynthNet's first one has 13 million
# for images of 32x32, all others below 10,000.
_WIDE = 1 << 20


def build_mesh(model: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
  """Builds the mesh of a run's devices, with the axes "data" and "model".

  Args:
    model: number of devices along "model", over which a wide dense layer is sharded;
      the rest is "data".
    devices: devices to use, by default those of all processes.

  Returns:
    A mesh of shape `(len(devices) // model, model)`. The devices of one process are
    adjacent, so that each process has one contiguous part of the images.

  Raises:
    ValueError: if `model` does not divide the number of devices, or a group of that
      size would span processes only in part.
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


@dataclasses.dataclass(frozen=True)
class Placement:
  """Placement of a run's arrays: images split over its devices, the rest replicated.

  Attributes:
    mesh: of `build_mesh`.
  """

  mesh: Mesh

  @property
  def parts(self) -> int:
    """Number of parts that a batch is split into."""
    return self.mesh.shape["data"]

  @property
  def rows(self) -> NamedSharding:
    """Sharding of the first axis over "data"."""
    return NamedSharding(self.mesh, PartitionSpec("data"))

  @property
  def batch(self) -> NamedSharding | None:
    """Sharding of a batch; None for a single device."""
    return self.rows if self.mesh.size > 1 else None

  @property
  def replicate(self) -> NamedSharding:
    """Replication on every device."""
    return NamedSharding(self.mesh, PartitionSpec())

  def state(self, state: Any) -> Any:
    """Sharding of a training state.

    All arrays are replicated, except wide dense kernels, which are sharded along
    "model", and their optimizer state and averages.

    Args:
      state: arrays or their shapes.

    Returns:
      A `NamedSharding` for each array.
    """
    parts = self.mesh.shape["model"]

    def sharding(path, leaf):
      name = getattr(path[-1], "key", None) if path else None
      if parts > 1 and name == "kernel" and len(leaf.shape) == 2:
        # Sharded by inputs: a device then takes its part of the layer's input, and only
        # the few outputs are summed over the devices.
        if leaf.shape[0] * leaf.shape[1] >= _WIDE and leaf.shape[0] % parts == 0:
          return NamedSharding(self.mesh, PartitionSpec("model"))
      return self.replicate

    return jax.tree_util.tree_map_with_path(sharding, state)

  def check_batch_size(self, batch_size: int) -> None:
    """Checks that the devices divide the batch evenly.

    Raises:
      ValueError: naming the nearest sizes that fit.
    """
    if batch_size % self.parts:
      lower = batch_size // self.parts * self.parts
      nearest = " or ".join(str(n) for n in (lower, lower + self.parts) if n)
      raise ValueError(
        f"config.batch_size: expected a multiple of {self.parts}, to split a batch "
        f"evenly over that many devices, got {batch_size}; the nearest is {nearest}"
      )

  def put(self, tree: Any, shardings: Any = None) -> Any:
    """Places arrays, of which every process has an identical copy, on the devices.

    Args:
      tree: arrays; those that are already placed stay.
      shardings: one for all of them, or one each; None replicates them.

    Returns:
      The tree as global arrays.
    """

    def put(leaf, sharding):
      if isinstance(leaf, jax.Array) and leaf.sharding == sharding and leaf.committed:
        return leaf
      value = np.asarray(leaf)
      return jax.make_array_from_callback(value.shape, sharding, lambda at: value[at])

    shardings = self.replicate if shardings is None else shardings
    if isinstance(shardings, NamedSharding):
      shardings = jax.tree.map(lambda _: shardings, tree)
    return jax.tree.map(put, tree, shardings)

  def put_images(self, images: Any) -> jax.Array:
    """Places a split's images on the devices, each with one contiguous part.

    Each process reads only the parts of its own devices.

    Args:
      images: uint8 `(M, H, W, C)`, M at least 1; an array, or an object that is read on
        slicing.

    Returns:
      uint8 `(M', H, W, C)` split over "data", M' the next multiple of the axis, padded
      with black images, which must never be drawn.
    """
    total = len(images)
    shape = (-(-total // self.parts) * self.parts, *images.shape[1:])
    read: dict[tuple[int, int], np.ndarray] = {}

    def stretch(index):
      start, stop, _ = index[0].indices(shape[0])
      if (start, stop) not in read:  # Devices along "model" have the same part.
        part = np.asarray(images[start : min(stop, total)])
        padding = [(0, stop - start - len(part))] + [(0, 0)] * 3
        read[start, stop] = np.pad(part, padding) if padding[0][1] else part
      return read[start, stop]

    return jax.make_array_from_callback(shape, self.rows, stretch)

  def put_split(self, images: Any, labels: Any) -> tuple[jax.Array, jax.Array]:
    """Places a split's images, see `put_images`, and replicates all its labels."""
    return self.put_images(images), self.put(labels)

  def own_rows(self, total: int) -> range:
    """The rows of `put_images` on this process's devices.

    Args:
      total: M, without the padding.

    Returns:
      A contiguous range of 0..M-1, perhaps empty.
    """
    rows = -(-total // self.parts) * self.parts
    indices = self.rows.addressable_devices_indices_map((rows,)).values()
    spans = [index[0].indices(rows)[:2] for index in indices if index is not None]
    start = min(start for start, _ in spans)
    return range(min(start, total), min(max(stop for _, stop in spans), total))


def build_placement(model: int = 1, devices: Sequence[Any] | None = None) -> Placement:
  """Builds the placement of a run on its devices; see `build_mesh`."""
  return Placement(build_mesh(model, devices))


def whole(array: jax.Array) -> np.ndarray:
  """Gathers an array on the host, also if other processes hold parts of it."""
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    if not array.is_fully_replicated:
      return np.asarray(multihost_utils.process_allgather(array, tiled=True))
  return np.asarray(array)


def on_mesh(
  placement: Placement | None, function: Callable[..., Any]
) -> Callable[..., Any]:
  """Makes the number of devices that share a batch known to a function's CPU forms.

  Args:
    placement: of the batch; None for a single device.
    function: to be compiled.

  Returns:
    The function, traced with the mesh around it.
  """
  if placement is None:
    return function

  @functools.wraps(function)
  def traced(*arguments, **keywords):
    with jax.sharding.use_abstract_mesh(placement.mesh.abstract_mesh):
      return function(*arguments, **keywords)

  return traced
