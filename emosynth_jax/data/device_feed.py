"""How images come to the devices: a whole split at once, or batch by batch."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from emosynth_jax import data, train_step
from emosynth_jax import mesh as meshes
from emosynth_jax.data import grain_pipeline
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.lazy_images import LazyImages
from emosynth_jax.train_state import TrainState

# Bytes of the images that a call of a streamed training takes, on each device.
_BYTES_PER_CALL = 256 << 20


def is_resident(
  dataset: Dataset, settings: ml_collections.ConfigDict, mesh: Mesh
) -> bool:
  """Whether a split lies on the devices as a whole.

  Args:
    dataset: the split.
    settings: `config.data`; its `pipeline` says so, or in "auto" the part of one device
      against `resident_gib`.
    mesh: of `mesh.build_mesh`.

  Returns:
    Whether it does.
  """
  if settings.pipeline != "auto":
    return settings.pipeline == "resident"
  part = int(np.prod(dataset.images.shape)) / mesh.shape["data"]
  return part <= settings.resident_gib * 2**30


def fetch(dataset: Dataset, settings: ml_collections.ConfigDict, mesh: Mesh) -> Dataset:
  """Reads from disk what this process needs of a split from the start.

  Args:
    dataset: the split, its images perhaps `LazyImages`.
    settings: `config.data`.
    mesh: of `mesh.build_mesh`.

  Returns:
    The data set, with its images in memory; those of this process's devices if there
    are others; none if the split is streamed and lies on disk. Images read as a whole
    have their forms, see `data.PHOTOGRAPHS`.

  Raises:
    ValueError: an image is damaged; it is named.
  """
  if not isinstance(dataset.images, LazyImages):
    return dataset
  if not is_resident(dataset, settings, mesh):
    return dataset
  if jax.process_count() == 1:
    whole = dataset.in_memory()
    return whole.with_pixel_forms() if settings.name in data.PHOTOGRAPHS else whole
  dataset.images.hold(meshes.own_rows(mesh, len(dataset)))
  return dataset


def place_split(mesh: Mesh, dataset: Dataset) -> tuple[jax.Array, jax.Array]:
  """A split's images, each device having a stretch of them, and all its labels."""
  labels = meshes.place(dataset.labels, meshes.replicated(mesh))
  return meshes.place_images(mesh, dataset.images), labels


def max_steps_per_call(dataset: Dataset, batch_size: int, mesh: Mesh) -> int:
  """How many batches of a streamed split a device takes in one call, at least 1."""
  batch = batch_size * int(np.prod(dataset.images.shape[1:])) // mesh.shape["data"]
  return max(1, _BYTES_PER_CALL // batch)


class StreamedSteps:
  """Training steps on batches that are read while the devices compute.

  The batches are those that `train_step.train_steps` draws from a resident split.
  """

  def __init__(
    self,
    dataset: Dataset,
    program: Callable[..., TrainState],
    class_weights: jax.Array,
    *,
    batch_size: int,
    mesh: Mesh,
  ):
    """Reads nothing yet.

    Args:
      dataset: the training split.
      program: of `train_step.compile_train_on_batches`.
      class_weights: float32 `(K,)`.
      batch_size: N.
      mesh: of `mesh.build_mesh`.
    """
    self._dataset = dataset
    self._program = program
    self._class_weights = class_weights
    self._batch_size = batch_size
    self._mesh = mesh
    self._steps_per_epoch = len(dataset) // batch_size
    self._source: Iterator[tuple[np.ndarray, np.ndarray]] | None = None
    self._next_step = -1
    self._ahead: tuple[int, int, Any] | None = None

  def __call__(self, state: TrainState, *, num_steps: int) -> TrainState:
    """Takes steps that don't pass the end of the epoch, as `train_steps` does."""
    step, key = int(state.step), np.asarray(state.key)
    if self._ahead is not None and self._ahead[:2] == (step, num_steps):
      arrays = self._ahead[2]
    else:
      arrays = self._read(key, step, num_steps)
    self._ahead = None
    state = self._program(state, *arrays, self._class_weights)
    # The program runs by itself now: time to read what the next call will ask for.
    done = step + num_steps
    left = -done % self._steps_per_epoch
    if left:
      count = min(num_steps, left)
      self._ahead = (done, count, self._read(key, done, count))
    return state

  def _read(self, key: np.ndarray, step: int, count: int) -> tuple[Any, Any]:
    if self._source is None or step != self._next_step:
      self._source = self._batches(key, step)
    batches = [next(self._source) for _ in range(count)]
    self._next_step = step + count
    images, labels = (np.stack(part) for part in zip(*batches, strict=True))
    placed = jax.make_array_from_process_local_data(
      NamedSharding(self._mesh, PartitionSpec(None, "data")),
      images,
      (count, self._batch_size, *images.shape[2:]),
    )
    return placed, meshes.place(labels, meshes.replicated(self._mesh))

  def _batches(
    self, key: np.ndarray, step: int
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """This process's images of each batch from `step` on, and all its labels."""
    draw = jax.jit(train_step.epoch_order, static_argnames=("num_images", "batch_size"))
    while True:
      first = step % self._steps_per_epoch
      order = np.asarray(
        draw(
          key,
          np.int32(step),
          num_images=len(self._dataset),
          batch_size=self._batch_size,
        )
      )
      images = grain_pipeline.batches(
        self._dataset.images,
        order,
        batch_size=self._batch_size,
        part=meshes.own_rows(self._mesh, self._batch_size),
        first=first,
      )
      for number, batch in enumerate(images, first):
        start = number * self._batch_size
        rows = order[start : start + self._batch_size]
        yield batch, self._dataset.labels[rows]
        step += 1


def stream_in_order(
  dataset: Dataset, batch_size: int, mesh: Mesh
) -> Iterator[tuple[jax.Array, jax.Array, jax.Array]]:
  """A split batch by batch, once, for an evaluation.

  Args:
    dataset: the split.
    batch_size: N, a multiple of the mesh's data axis.
    mesh: of `mesh.build_mesh`.

  Yields:
    Images, labels and a mask `(N,)` that is False where a row fills up the last batch.
  """
  total = len(dataset)
  rows = np.arange(-(-total // batch_size) * batch_size)
  images = grain_pipeline.batches(
    dataset.images,
    rows % total,
    batch_size=batch_size,
    part=meshes.own_rows(mesh, batch_size),
  )
  sharding = meshes.split_rows(mesh)
  for number, batch in enumerate(images):
    own = rows[number * batch_size : (number + 1) * batch_size]
    yield (
      jax.make_array_from_process_local_data(
        sharding, batch, (batch_size, *batch.shape[1:])
      ),
      *meshes.place(
        (dataset.labels[own % total], own < total), meshes.replicated(mesh)
      ),
    )
