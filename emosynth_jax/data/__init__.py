"""Data sets by name: a path in, arrays and their metadata out."""

import dataclasses
import functools
import importlib
import inspect
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emosynth_jax.data import splits as _splits
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.utils import own_code
from emosynth_jax.utils.nearest import did_you_mean

__all__ = [
  "LOADERS",
  "PHOTOGRAPHS",
  "Dataset",
  "check_options",
  "from_arrays",
  "load_splits",
  "loader_options",
]

# Module of each data set; it is imported on request, so that a data set whose libraries
# are missing or slow to import doesn't burden the others.
LOADERS = {
  "cifar10": "emosynth_jax.data.datasets.cifar10",
  "ck_plus": "emosynth_jax.data.datasets.ck_plus",
  "fer2013": "emosynth_jax.data.datasets.fer2013",
  "fer_plus": "emosynth_jax.data.datasets.fer_plus",
  "image_folder": "emosynth_jax.data.datasets.image_folder",
  "mnist": "emosynth_jax.data.datasets.mnist",
  "raf_db": "emosynth_jax.data.datasets.raf_db",
  "svhn": "emosynth_jax.data.datasets.svhn",
  "synthetic_faces": "emosynth_jax.data.datasets.synthetic_faces",
}

# Data sets whose gray images are counted by pixel form, see `pixel_form.pixel_forms`.
PHOTOGRAPHS = ("ck_plus", "fer2013", "fer_plus", "raf_db")


def load_splits(
  name: str,
  data_dir: str | pathlib.Path,
  splits: Sequence[str],
  *,
  validation_fraction: float,
  seed: int,
  limit: int = 0,
  lazily: bool = False,
  share: Callable[..., Any] = lambda total, compute: compute(range(total)),
  **options: Any,
) -> dict[str, Dataset]:
  """Loads the requested splits of a data set.

  If a data set has no validation split of its own, one is held out of its training
  split, stratified by class; "train" is then always the remainder, even if "validation"
  is not requested, so that two calls with the same seed cannot leak.

  Args:
    name: a key of `LOADERS`, or a user's loader as "file.py:function": a function of
      `(data_dir, split)` that returns a `Dataset`. With the attribute `has_validation`
      it also has a validation split of its own.
    data_dir: data set directory; see its loader.
    splits: of "train", "validation", "test"; only these are read.
    validation_fraction: the part of "train" to hold out where the data set has no
      validation split, in [0, 1); 0 holds nothing out.
    seed: of the draws (the held-out part, the limit) and of a generated data set.
    limit: maximum number of images per split, stratified by class; 0 means all.
    lazily: leaves the images on disk until they are accessed (see `LazyImages`), where
      each is a file or record of its own.
    share: by which several processes read the labels, see `tfds_records.open_split`; of
      effect where labels are read lazily.
    **options: keyword arguments of the data set's loader.

  Returns:
    The data set of each requested split.

  Raises:
    ValueError: for an unknown name, split or option, or an error of the loader.
    FileNotFoundError: the data set is missing; the message says how to get it.
  """
  if limit < 0:
    raise ValueError(f"limit: expected 0 (all) or more, got {limit}")
  if not 0 <= validation_fraction < 1:
    raise ValueError(
      f"validation_fraction: expected a number in [0, 1), got {validation_fraction}"
    )
  read = _reader(name, data_dir, seed, options, share if lazily else None)
  hold_out = not _has_validation(name, data_dir, options)
  if hold_out and "validation" in splits and validation_fraction == 0:
    raise ValueError(
      f"{name} has no validation split; validation_fraction must be above 0 to hold "
      "one out of train"
    )
  loaded = {}
  for split in splits:
    if split in loaded:
      continue
    if hold_out and validation_fraction and split in ("train", "validation"):
      loaded["train"], loaded["validation"] = _splits.hold_out(
        read("train"), validation_fraction, seed
      )
    else:
      loaded[split] = read(split)
  if limit:
    loaded = {key: _splits.subset(value, limit, seed) for key, value in loaded.items()}
  return {split: loaded[split] for split in splits}


def loader_options(name: str) -> dict[str, inspect.Parameter]:
  """Options of a data set's loader, by name.

  Args:
    name: a key of `LOADERS`, or a loader of one's own.
  """
  if own_code.is_own(name):
    return _options_of(_own_loader(name))
  return _options_of(importlib.import_module(LOADERS[name]).load)


def _options_of(load: Callable[..., Any]) -> dict[str, inspect.Parameter]:
  return {
    parameter.name: parameter
    for parameter in inspect.signature(load).parameters.values()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
  }


def check_options(name: str, options: Mapping[str, Any]) -> None:
  """Checks the name of a data set and its loader's options, without reading any data.

  Args:
    name: a key of `LOADERS`.
    options: keyword arguments of its loader.

  Raises:
    ValueError: for an unknown name or option, or a missing one.
  """
  _reader(name, "", 0, dict(options), None)


def _reader(
  name: str,
  data_dir: str | pathlib.Path,
  seed: int,
  options: dict[str, Any],
  share: Callable[..., Any] | None,
) -> Callable[[str], Dataset]:
  """The loader of one split, with its options bound; lazily with a `share`."""
  module: Any = None
  if own_code.is_own(name):
    load = _own_loader(name)
  elif name in LOADERS:
    module = importlib.import_module(LOADERS[name])
    load = module.load
  else:
    raise ValueError(
      f"data set: expected one of {sorted(LOADERS)}, got {name!r}"
      f"{did_you_mean(str(name), LOADERS)}"
    )
  known = _options_of(load)
  # A generated data set has a seed of its own, and it is the caller's.
  seeded = {"seed": seed} if "seed" in known else {}
  unknown = sorted(set(options) - (set(known) - set(seeded)))
  missing = sorted(
    key
    for key, parameter in known.items()
    if parameter.default is parameter.empty and key not in {*options, *seeded}
  )
  if unknown or missing:
    problem = "unknown option" if unknown else "missing option"
    raise ValueError(
      f"{name}: {problem} {', '.join(unknown or missing)}; its options are "
      f"{sorted(set(known) - set(seeded))}"
      f"{did_you_mean(unknown[0], known) if unknown else ''}"
    )
  if share is not None and hasattr(module, "open_split"):
    load = module.open_split
    if "share" in inspect.signature(load).parameters:
      options = options | {"share": share}
  return lambda split: load(data_dir, split, **options, **seeded)


def _own_loader(name: str) -> Callable[..., Dataset]:
  """A user's loader, whose result is checked."""
  load = own_code.load(name)
  guarded = own_code.guard(load, name)
  positional = [
    parameter.name
    for parameter in inspect.signature(load).parameters.values()
    if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
  ]
  if positional != ["data_dir", "split"]:
    raise ValueError(
      f"{name}: expected a function of (data_dir, split), with its options after a *; "
      f"got ({', '.join(positional)})"
    )

  @functools.wraps(load)
  def checked(data_dir: str | pathlib.Path, split: str, **options: Any) -> Dataset:
    loaded = guarded(data_dir, split, **options)
    if not isinstance(loaded, Dataset):
      raise ValueError(
        f"{name}: expected a data.Dataset (data.from_arrays makes one), got "
        f"{type(loaded).__name__}"
      )
    return dataclasses.replace(loaded, split=split)

  return checked


def from_arrays(
  images: np.ndarray,
  labels: np.ndarray,
  class_names: Sequence[str],
  *,
  split: str = "train",
) -> Dataset:
  """Makes a data set of arrays, as a loader returns it.

  Args:
    images: uint8 `(N, height, width)` or `(N, height, width, channels)`, gray levels or
      RGB of 0 to 255.
    labels: integers `(N,)`, indices into `class_names`.
    class_names: one name for each class.
    split: "train", "validation" or "test".

  Returns:
    The data set; its images are named by their rows.

  Raises:
    ValueError: for arrays of another shape or type, or labels out of range.
  """
  images, labels = np.asarray(images), np.asarray(labels)
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f"labels: expected integers, got {labels.dtype}")
  return Dataset(
    images[..., None] if images.ndim == 3 else images,
    labels.astype(np.int32),
    tuple(class_names),
    split,
    tuple(f"{split}[{row}]" for row in range(len(images))),
  )


def _has_validation(
  name: str, data_dir: str | pathlib.Path, options: dict[str, Any]
) -> bool:
  """Returns whether the data set has its own validation split under these options."""
  if own_code.is_own(name):
    return bool(getattr(own_code.load(name), "has_validation", False))
  if name == "image_folder":
    image_folder = importlib.import_module(LOADERS[name])
    return image_folder.has_split(data_dir, "validation")
  if name == "fer2013":
    return importlib.import_module(LOADERS[name]).has_validation(**options)
  return name in ("ck_plus", "fer_plus", "synthetic_faces")
