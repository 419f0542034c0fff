"""Deduplication between splits, for training and evaluation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from emosynth_jax.data import duplicates
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.parallel import distributed


def duplicate_groups(
  datasets: Sequence[Dataset], **thresholds: Any
) -> list[np.ndarray]:
  """Groups of near-duplicates over all data sets together.

  Args:
    datasets: of images of one shape.
    **thresholds: of `duplicates.find_duplicates`.

  Returns:
    For each data set, of N images, the group number of each image, int `(N,)`; see
    `duplicates.find_duplicates`.
  """

  def find() -> np.ndarray:
    images = np.concatenate([np.asarray(dataset.images) for dataset in datasets])
    return duplicates.find_duplicates(images, **thresholds).groups

  ends = np.cumsum([len(dataset) for dataset in datasets])
  # All images are needed at once: one process reads them, the others wait.
  groups = distributed.from_first(find, (int(ends[-1]),), np.int64)
  return np.split(groups, ends[:-1])


def drop_duplicates(
  training: Dataset, others: Sequence[Dataset], **thresholds: Any
) -> Dataset:
  """Removes training images that have a near-duplicate in validation or test.

  Args:
    training: the training split.
    others: the other splits.
    **thresholds: of `duplicates.find_duplicates`.

  Returns:
    The rest of `training`, in its order.

  Raises:
    ValueError: if nothing is left.
  """
  groups = duplicate_groups([training, *others], **thresholds)
  kept = np.flatnonzero(~np.isin(groups[0], np.concatenate(groups[1:])))
  logging.info(
    "Removed %s of %s training images, which have a near-duplicate in %s.",
    f"{len(training) - len(kept):,}",
    f"{len(training):,}",
    " or ".join(dataset.split for dataset in others),
  )
  if not len(kept):
    raise ValueError(
      "config.data.drop_duplicates leaves no training image: each has a near-duplicate "
      "in another split"
    )

  return training.take(kept)


def evaluate_deduplicated(
  evaluate: Callable[[Dataset], dict[str, Any]],
  training: Dataset,
  datasets: Mapping[str, Dataset],
  **thresholds: Any,
) -> dict[str, dict[str, Any] | None]:
  """Evaluates splits without images that have a near-duplicate in an earlier split.

  Args:
    evaluate: a data set to its summary, see `classification.summarize`.
    training: the network's training split.
    datasets: "validation", used for model selection, then "test" if there is one.
    **thresholds: of `duplicates.find_duplicates`.

  Returns:
    For each split the summary of the rest, with ``num_left_out``; or None if all images
    have a near-duplicate.
  """
  groups = duplicate_groups([training, *datasets.values()], **thresholds)
  summaries: dict[str, dict[str, Any] | None] = {}
  for k, (name, dataset) in enumerate(datasets.items(), 1):
    kept = np.flatnonzero(~np.isin(groups[k], np.concatenate(groups[:k])))
    left_out = len(dataset) - len(kept)
    earlier = " or ".join(["train", *list(datasets)[: k - 1]])
    logging.info(
      "%s of %s %s images have a near-duplicate in %s.",
      f"{left_out:,}",
      f"{len(dataset):,}",
      name,
      earlier,
    )
    if len(kept):
      summaries[name] = {"num_left_out": left_out, **evaluate(dataset.take(kept))}
    else:
      summaries[name] = None

  return summaries
