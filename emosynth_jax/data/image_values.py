"""Values of a training split's images from a file: probabilities, logits, or folds."""

import dataclasses
import os
from collections.abc import Mapping

import numpy as np

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.utils import npz

SOFT_LABELS = "soft_labels"
FOLDS = "folds"

# What identifies the images in a file.
_SOURCES, _LABELS, _CLASS_NAMES = "sources", "labels", "class_names"


def write_values(
  path: str | os.PathLike, dataset: Dataset, values: Mapping[str, np.ndarray]
) -> None:
  """Writes values of a split's images to an .npz file.

  Args:
    path: the file; its folder must exist.
    dataset: the split of N images, K classes.
    values: name to `(N, ...)`, as `SOFT_LABELS` to `(N, K)`; or one value of all.
  """
  identity = {
    _SOURCES: np.asarray(dataset.sources),
    _LABELS: dataset.labels,
    _CLASS_NAMES: np.asarray(dataset.class_names),
  }
  npz.write_npz(path, {**identity, **values})


def with_soft_labels(dataset: Dataset, path: str | os.PathLike) -> Dataset:
  """Replaces what training learns by the class probabilities of a file.

  Args:
    dataset: the training split, or some of its images.
    path: of `write_values`, with `SOFT_LABELS`.

  Returns:
    The data set, with `soft_labels`.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, not of these images, or has no class probabilities.
  """
  setting = "config.data.soft_labels"
  if dataset.soft_labels is not None:
    raise ValueError(
      f"{setting}: this data set's loader gives class probabilities itself (of votes); "
      "choose one of the two"
    )
  rows = read_values(dataset, path, SOFT_LABELS, setting).astype(np.float32)
  shape = (len(dataset), len(dataset.class_names))
  if rows.shape != shape:
    raise ValueError(
      f"{setting}: expected {SOFT_LABELS} of shape {shape}, got {rows.shape} in {path}"
    )
  if not (np.all(rows >= 0) and np.allclose(rows.sum(axis=1), 1, atol=1e-3)):
    raise ValueError(
      f"{setting}: expected rows of numbers >= 0 that sum to 1, {path} has others"
    )
  return dataclasses.replace(dataset, soft_labels=rows)


def without_fold(dataset: Dataset, path: str | os.PathLike, fold: int) -> Dataset:
  """Leaves out the images of one fold.

  Args:
    dataset: the training split, or some of its images.
    path: of `write_values`, with `FOLDS`.
    fold: the fold to leave out.

  Returns:
    The other images, in their order.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, not of these images, or has no such fold.
  """
  folds = read_values(dataset, path, FOLDS, "config.data.folds.file")
  if fold not in folds:
    raise ValueError(
      f"config.data.folds.left_out: expected one of {np.unique(folds).tolist()}, the "
      f"folds in {path}; got {fold}"
    )
  whole = dataset.official_split or dataset.split
  return dataset.take(
    np.flatnonzero(folds != fold),
    official_split=f"{whole} less fold {fold} of {len(np.unique(folds))}",
  )


def read_values(
  dataset: Dataset, path: str | os.PathLike, name: str, setting: str
) -> np.ndarray:
  """Reads values of a data set's images.

  Args:
    dataset: the training split, or some of its images.
    path: of `write_values`.
    name: of the values in the file.
    setting: what a message calls the file.

  Returns:
    The values, in the order of the images.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, not of these images, or has no such values.
  """
  if not os.path.isfile(path):
    raise FileNotFoundError(f"{setting}: no file {path}")
  arrays = npz.read_npz(path)
  needed = (_SOURCES, _LABELS, _CLASS_NAMES, name)
  if missing := [key for key in needed if key not in arrays]:
    raise ValueError(
      f"{setting}: {path} has no {', '.join(missing)}; expected a file of "
      "experiments.distillation"
    )

  sources, labels, values = (arrays[key] for key in (_SOURCES, _LABELS, name))
  if not len(sources) == len(labels) == len(values):
    raise ValueError(
      f"{setting}: the arrays of {path} have different lengths: {len(sources)}, "
      f"{len(labels)}, {len(values)}"
    )
  if tuple(arrays[_CLASS_NAMES].tolist()) != dataset.class_names:
    raise ValueError(
      f"{setting}: {path} is of the classes {', '.join(arrays[_CLASS_NAMES].tolist())};"
      f" the data set has {', '.join(dataset.class_names)}"
    )

  row_of = {source: row for row, source in enumerate(sources.tolist())}
  unknown = [source for source in dataset.sources if source not in row_of]
  if unknown:
    raise ValueError(
      f"{setting}: {path} lacks {len(unknown)} of the {len(dataset):,} training "
      f"images, the first is {unknown[0]}; make it again from this data"
    )
  rows = np.array([row_of[source] for source in dataset.sources])
  if (different := np.flatnonzero(labels[rows] != dataset.labels)).size:
    first = different[0]
    raise ValueError(
      f"{setting}: {path} has another label for {different.size} of the "
      f"{len(dataset):,} training images, the first is "
      f"{dataset.sources[first]}; make it again from this data"
    )
  return values[rows]
