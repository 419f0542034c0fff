"""The data of a run: the splits that its config names, and their fingerprint."""

import json
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from absl import logging

from emosynth_jax import data
from emosynth_jax.data import deduplicate, device_feed, image_values, label_noise
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images.lazy import LazyImages
from emosynth_jax.parallel import distributed
from emosynth_jax.parallel.mesh import Placement

# The part of a fingerprint that a process computes without the others.
_TOLD_ALONE = (
  "num_examples",
  "class_names",
  "sample_crc32",
  "labels_crc32",
  "soft_labels_crc32",
  "images_crc32",
)

# Number of sampled images that identify a split whose images are not all in memory.
_SAMPLE = 64


def splits(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """The splits of a run; the one that is only reported, never selected on, is last."""
  return ("train", "validation", *filter(None, [config.data.test_split]))


class RunData(NamedTuple):
  """Splits of a run as this process needs them, and what identifies them.

  Attributes:
    datasets: the data set of each split, see `load_run`.
    fingerprint: of `fingerprint`.
  """

  datasets: dict[str, Dataset]
  fingerprint: dict[str, dict[str, Any]]


def load_run(
  config: ml_collections.ConfigDict, placement: Placement, names: Sequence[str]
) -> RunData:
  """Loads splits of a run: reads what this process needs of their images, once.

  Args:
    config: a checked config.
    placement: the run's.
    names: of the splits.

  Returns:
    Their data.

  Raises:
    ValueError: as `load_data`, or if an image is damaged; it is named.
  """
  loaded = load_data(config, tuple(names), lazily=True)
  datasets = {
    name: _fetch(dataset, config.data, placement) for name, dataset in loaded.items()
  }
  return RunData(datasets, fingerprint(datasets))


def _fetch(
  dataset: Dataset, settings: ml_collections.ConfigDict, placement: Placement
) -> Dataset:
  """Reads from disk what this process needs of a split from the start.

  Args:
    dataset: the split, its images perhaps `LazyImages`.
    settings: `config.data`.
    placement: the run's.

  Returns:
    The data set, with its images in memory; those of this process's devices if there
    are others; none if the split is streamed and lies on disk. Images read as a whole
    have their forms, see `data.Loader`.

  Raises:
    ValueError: an image is damaged; it is named.
  """
  if not isinstance(dataset.images, LazyImages):
    return dataset
  if not device_feed.is_resident(dataset, settings, placement):
    return dataset
  if jax.process_count() == 1:
    whole = dataset.in_memory()
    is_photographs = data.find_loader(settings.name).is_photographs
    return whole.with_pixel_forms() if is_photographs else whole

  dataset.images.hold(placement.own_rows(len(dataset)))
  return dataset


def fingerprint(datasets: Mapping[str, Dataset]) -> dict[str, dict[str, Any]]:
  """Computes the fingerprint of data sets: sizes and checksums of each split.

  It is the same in a job of any number of processes, all of which call this alike. A
  split that stays on disk has no checksum of all its images, only that of a sample.
  It includes the counts of the images' forms where these are known.

  Args:
    datasets: some of the splits.

  Returns:
    Counts and checksums by split and name.

  Raises:
    ValueError: in all processes of a job, if they do not read the same data.
  """
  found: dict[str, dict[str, Any]] = {}
  for name, dataset in datasets.items():
    count = min(_SAMPLE, len(dataset))
    rows = np.arange(count) * len(dataset) // max(count, 1)
    found[name] = {
      "num_examples": len(dataset),
      "class_names": list(dataset.class_names),
      "sample_crc32": zlib.crc32(dataset.images[rows].tobytes()),
      "labels_crc32": zlib.crc32(dataset.labels.tobytes()),
    }
    if dataset.soft_labels is not None:
      found[name]["soft_labels_crc32"] = zlib.crc32(dataset.soft_labels.tobytes())
    if dataset.clean_labels is not None:
      found[name]["labels_changed"] = int(
        np.sum(dataset.labels != dataset.clean_labels)
      )
    if counts := dataset.form_counts:
      found[name]["pixel_forms"] = counts
    if not isinstance(dataset.images, LazyImages):
      found[name]["images_crc32"] = zlib.crc32(dataset.images.tobytes())

  # Before the next collective, which not all would take part in if one had more images
  # than its devices hold.
  _check_one_data_set(found)
  for name, dataset in datasets.items():
    images: Any = dataset.images
    if isinstance(images, LazyImages) and images.is_held:
      part = images[images.held.start : images.held.stop]
      found[name]["images_crc32"] = distributed.crc32_of_rows(part, images.held.start)

  return found


def _check_one_data_set(found: Mapping[str, Mapping[str, Any]]) -> None:
  """Checks that all processes read the same data, by their local fingerprints."""
  keys = [(name, key) for name in found for key in _TOLD_ALONE]
  texts = [json.dumps(found[name].get(key)) for name, key in keys]
  if different := distributed.differing(texts):
    process, places = next(iter(different.items()))
    what = ", ".join(f"{keys[i][0]} {keys[i][1]}" for i in places)
    raise ValueError(
      f"config.data.data_dir: process {', '.join(map(str, different))} reads "
      f"different data than process 0 (process {process} differs in {what}); give "
      "all processes the same data"
    )


def shared_loader(config: ml_collections.ConfigDict) -> Callable[..., RunData]:
  """Returns a loader of a run's splits that loads each of them once.

  For the trainings and evaluations of one command, of any seed, also from several
  threads.

  Args:
    config: a checked config.

  Returns:
    A function of the placement and the names of splits, by default all, to their data,
    see `load_run`; a split is loaded once for each placement.
  """
  lock = threading.Lock()
  loaded: dict[Placement, RunData] = {}

  def load(placement: Placement, names: Sequence[str] = ()) -> RunData:
    names = names or splits(config)
    with lock:
      known = loaded.setdefault(placement, RunData({}, {}))
      if missing := [name for name in names if name not in known.datasets]:
        new = load_run(config, placement, missing)
        known.datasets.update(new.datasets)
        known.fingerprint.update(new.fingerprint)
      return RunData(
        {name: known.datasets[name] for name in names},
        {name: known.fingerprint[name] for name in names},
      )

  return load


def load_data(
  config: ml_collections.ConfigDict, splits: tuple[str, ...], *, lazily: bool = False
) -> dict[str, Dataset]:
  """Loads splits of the config's data set.

  With `data.drop_duplicates`, "train" excludes images that have a near-duplicate in the
  run's other splits. With `data.folds`, it excludes one fold. `data.soft_labels`
  replaces what training learns, and `data.label_noise` changes labels of "train", after
  all draws and of no other split.

  Args:
    config: a checked config.
    splits: of "train", "validation" and "test".
    lazily: leaves images on disk where they can be read one by one, see
      `data.load_splits`; all processes of a job call it alike.

  Returns:
    The data set of each split.

  Raises:
    ValueError: an error of the loader, if every training image has a near-duplicate,
      or if `eval_augment` mirrors images whose label depends on that.
  """
  name = config.data.name
  if config.eval_augment != "none" and not data.find_loader(name).is_mirrored_same:
    raise ValueError(
      f'config.eval_augment: expected "none" for {name}, got {config.eval_augment!r}: '
      "a mirrored image may have another label"
    )
  if config.data.drop_duplicates and "train" in splits:
    loaded = _load_deduplicated(config, lazily)
  else:
    loaded = _load(config, splits, lazily)
  if "train" in splits:
    loaded["train"] = _training(config, loaded["train"])
  return {split: loaded[split] for split in splits}


def for_images(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """A config that reads the same images, for what takes no labels of "train".

  Args:
    config: of a run whose soft labels may be elsewhere, as that of a bundle.

  Returns:
    A copy without `data.soft_labels` and `data.label_noise`.
  """
  config = config.copy_and_resolve_references()
  config.data.soft_labels = ""
  config.data.label_noise.update({"rate": 0.0, "confusion": ()})
  return config


def _training(config: ml_collections.ConfigDict, training: Dataset) -> Dataset:
  """The training split with the folds, soft labels and label noise of the config."""
  settings = config.data
  if settings.folds.file:
    training = image_values.without_fold(
      training, settings.folds.file, settings.folds.left_out
    )
  if settings.soft_labels:
    training = image_values.with_soft_labels(training, settings.soft_labels)
  return _with_label_noise(config, training)


def _with_label_noise(config: ml_collections.ConfigDict, training: Dataset) -> Dataset:
  """The training split with the config's label noise, if any."""
  settings = config.data.label_noise
  if not settings.rate and not settings.confusion:
    return training
  matrix = label_noise.transition_matrix(
    training.class_names, rate=settings.rate, confusion=settings.confusion
  )
  noisy = label_noise.add_label_noise(training, matrix, settings.seed)
  changed = int(np.sum(noisy.labels != training.labels))
  logging.info(
    "Label noise: %s of %s training labels changed.", f"{changed:,}", f"{len(noisy):,}"
  )
  return noisy


def _load_deduplicated(
  config: ml_collections.ConfigDict, lazily: bool
) -> dict[str, Dataset]:
  """The run's splits, with those images removed from "train"."""
  # The search needs all images; a single process then keeps them.
  loaded = _load(config, splits(config), lazily and jax.process_count() > 1)
  train, *others = loaded.values()
  loaded["train"] = deduplicate.drop_duplicates(
    train, others, **config.data.near_duplicates
  )
  return loaded


def _load(
  config: ml_collections.ConfigDict, splits: tuple[str, ...], lazily: bool
) -> dict[str, Dataset]:
  return data.load_splits(
    config.data.name,
    config.data.data_dir,
    splits,
    validation_fraction=config.data.validation_fraction,
    seed=config.data.seed,
    limit=config.data.limit,
    lazily=lazily,
    share=distributed.share,
    **config.data.options,
  )


def class_weights(kind: str, dataset: Dataset) -> np.ndarray:
  """The weight of each class's examples in the training loss.

  Args:
    kind: "none" for ones, "balanced" for N / (K n_k), whose mean over the examples
      is 1.
    dataset: the training split.

  Returns:
    float32 `(K,)`.

  Raises:
    ValueError: if a class has no example.
  """
  counts = dataset.class_counts
  if kind == "none":
    return np.ones(len(counts), np.float32)
  if not counts.all():
    empty = dataset.class_names[int(np.argmin(counts))]
    raise ValueError(
      f"class_weights: the class {empty!r} has no training image, so that its weight "
      'is undefined; use "none", or more images'
    )

  return (counts.sum() / (len(counts) * counts)).astype(np.float32)
