"""Stratified subsets of a data set: held-out validation splits and small subsets."""

import numpy as np
from absl import logging

from emosynth_jax.data.dataset import Dataset


def hold_out(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
  """Splits a data set into a training and a validation part.

  Each class `k` of `n_k` images gives `round(fraction * n_k)` of them, drawn at random:
  at least one where `n_k` is 2 or more, and never all. Both parts keep the order of the
  whole.

  Args:
    dataset: the whole.
    fraction: the part to hold out, in (0, 1).
    seed: of the draw; the same seed gives the same parts, everywhere.

  Returns:
    `(train, validation)`, disjoint and together the whole.

  Raises:
    ValueError: the fraction is outside (0, 1), or a part would be empty.
  """
  if not 0 < fraction < 1:
    raise ValueError(f"fraction: expected a number in (0, 1), got {fraction}")
  wanted = np.rint(fraction * dataset.class_counts).astype(int)
  # Where n_k is 0 or 1, the upper bound 0 takes precedence over the lower bound.
  wanted = np.clip(wanted, 1, np.maximum(dataset.class_counts - 1, 0))
  held = _draw(dataset, wanted, seed)
  if not 0 < held.sum() < len(dataset):
    raise ValueError(
      f"cannot hold {fraction} out of {len(dataset)} images: no class has two images"
    )

  whole = dataset.official_split or dataset.split
  train = dataset.take(
    np.flatnonzero(~held), "train", f"{whole} less the held-out part"
  )
  return train, dataset.take(np.flatnonzero(held), "validation", f"held out of {whole}")


def subset(dataset: Dataset, limit: int, seed: int) -> Dataset:
  """Draws `limit` images, each class in proportion to its size.

  The classes' exact shares `limit * n_k / N` are rounded down, and the images still
  missing go to the largest remainders (Hamilton's method). A class that would lose all
  its images keeps one, of the class with the most; `official_split` then says so. With
  fewer images than classes, the rarest ones are absent, which a warning names.

  Args:
    dataset: the whole.
    limit: how many images; the whole is returned where it has no more.
    seed: of the draw.

  Returns:
    The part, in the order of the whole.

  Raises:
    ValueError: `limit` is not positive.
  """
  if limit <= 0:
    raise ValueError(f"limit: expected a positive number of images, got {limit}")
  if limit >= len(dataset):
    return dataset

  # In whole numbers, so that equal remainders are equal: the lower label gets it.
  shares = limit * dataset.class_counts
  wanted = shares // len(dataset)
  order = np.argsort(-(shares % len(dataset)), kind="stable")
  wanted[order[: limit - wanted.sum()]] += 1

  whole = dataset.official_split or dataset.split
  how = f"{limit} of the {len(dataset)} images of {whole}"
  lost = (wanted == 0) & (dataset.class_counts > 0)
  if lost.any() and limit >= np.count_nonzero(dataset.class_counts):
    wanted[lost] = 1
    for _ in range(np.count_nonzero(lost)):
      wanted[np.argmax(wanted)] -= 1
    how += ", at least one of each class"
  elif lost.any():
    names = ", ".join(dataset.class_names[k] for k in np.flatnonzero(lost))
    logging.warning("%s: too few for all classes; there is none of %s.", how, names)
    how += f", none of {names}"

  return dataset.take(np.flatnonzero(_draw(dataset, wanted, seed)), official_split=how)


def _draw(dataset: Dataset, wanted: np.ndarray, seed: int) -> np.ndarray:
  """Marks `wanted[k]` random images of each class `k`: bool `(N,)`."""
  # NumPy promises never to change a bit generator's raw stream; what `Generator` makes
  # of it may change with any release, and the held-out images with it.
  keys = np.random.PCG64(seed).random_raw(len(dataset))
  drawn = np.zeros(len(dataset), bool)
  for label, count in enumerate(wanted):
    members = np.flatnonzero(dataset.labels == label)
    drawn[members[np.argsort(keys[members])[:count]]] = True
  return drawn
