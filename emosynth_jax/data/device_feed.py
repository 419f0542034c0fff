"""Transfer of images to the devices: a whole split at once, or batch by batch."""

from collections.abc import Iterator

import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh

from emosynth_jax import data
from emosynth_jax.data import grain_pipeline
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images.lazy import LazyImages
from emosynth_jax.parallel import mesh as meshes

# Bytes of images per call of a streamed training, on each device.
_BYTES_PER_CALL = 256 << 20


def is_resident(
  dataset: Dataset, settings: ml_collections.ConfigDict, mesh: Mesh
) -> bool:
  """Returns whether a whole split is kept on the devices.

  Args:
    dataset: the split.
    settings: `config.data`; `pipeline` decides, or in "auto" the comparison of one
      device's part with `resident_gib`.
    mesh: of `mesh.build_mesh`.

  Returns:
    True if it is.
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
    The data set, with its images in memory: all, or those of this process's devices if
    there are several processes, or none if the split is streamed from disk. Images read
    as a whole have their forms, see `data.PHOTOGRAPHS`.

  Raises:
    ValueError: an image is damaged; the message names it.
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


def place_split(
  mesh: Mesh, dataset: Dataset, *, training: bool = False
) -> tuple[jax.Array, jax.Array]:
  """A split's images, sharded over the devices, and all its labels.

  Args:
    mesh: of `mesh.build_mesh`.
    dataset: the split.
    training: takes `Dataset.targets` instead of the labels.

  Returns:
    The images and the labels.
  """
  labels = dataset.targets if training else dataset.labels
  labels = meshes.place(labels, meshes.replicated(mesh))
  return meshes.place_images(mesh, dataset.images), labels


def max_steps_per_call(dataset: Dataset, batch_size: int, mesh: Mesh) -> int:
  """Number of batches of a streamed split per call and device, at least 1."""
  batch = batch_size * int(np.prod(dataset.images.shape[1:])) // mesh.shape["data"]
  return max(1, _BYTES_PER_CALL // batch)


def stream_in_order(
  dataset: Dataset, batch_size: int, mesh: Mesh
) -> Iterator[tuple[jax.Array, jax.Array, jax.Array]]:
  """Yields a split batch by batch, once, for an evaluation.

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
