"""Data sets by name: a path in, arrays and their metadata out."""

import dataclasses
import functools
import importlib
import inspect
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emosynth_jax.data import splits as _splits
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.utils import errors, own_code
from emosynth_jax.utils.nearest import or_known

__all__ = [
  "LOADERS",
  "Dataset",
  "Loader",
  "check_options",
  "find_loader",
  "from_arrays",
  "load_splits",
  "loader_options",
]


class Loader(NamedTuple):
  """A data set's loader, and what is known of the data set without reading it.

  Attributes:
    module: imported on request, so that a data set whose libraries are missing or slow
      to import doesn't burden the others; for a user's loader "file.py:function".
    has_validation: whether it has its own validation split; None where that depends,
      and `module.has_validation(data_dir, **options)` knows.
    is_photographs: whether its gray images are counted by pixel form, see
      `pixel_form.pixel_forms`.
    is_mirrored_same: whether a mirrored image has the same label.
  """

  module: str
  has_validation: bool | None = False
  is_photographs: bool = False
  is_mirrored_same: bool = True


_IN = "emosynth_jax.data.datasets"

LOADERS = {
  "cifar10": Loader(f"{_IN}.cifar10"),
  "ck_plus": Loader(f"{_IN}.ck_plus", has_validation=True, is_photographs=True),
  "fer2013": Loader(f"{_IN}.fer2013", has_validation=None, is_photographs=True),
  "fer_plus": Loader(f"{_IN}.fer_plus", has_validation=True, is_photographs=True),
  "image_folder": Loader(f"{_IN}.image_folder", has_validation=None),
  "mnist": Loader(f"{_IN}.mnist", is_mirrored_same=False),
  "raf_db": Loader(f"{_IN}.raf_db", is_photographs=True),
  "svhn": Loader(f"{_IN}.svhn", is_mirrored_same=False),
  "synthetic_faces": Loader(f"{_IN}.synthetic_faces", has_validation=True),
}


def find_loader(name: str) -> Loader:
  """Looks up a data set by its name, a key of `LOADERS` or "file.py:function".

  Raises:
    ValueError: for an unknown name; the message lists the known ones.
  """
  if own_code.is_own(name):
    has_validation = bool(getattr(own_code.load(name), "has_validation", False))
    return Loader(name, has_validation=has_validation)
  if name not in LOADERS:
    raise ValueError(f"unknown data set {name!r}{or_known(str(name), sorted(LOADERS))}")
  return LOADERS[name]


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
    limit: maximum number of images per split, stratified by class, see
      `splits.subset`; 0 means all.
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
  errors.expect_several("splits", splits)
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
  return _options_of(importlib.import_module(find_loader(name).module).load)


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
  else:
    module = importlib.import_module(find_loader(name).module)
    load = module.load

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
    options_of_it = sorted(set(known) - set(seeded))
    raise ValueError(
      f"{name}: {problem} {', '.join(unknown or missing)}"
      f"{or_known(unknown[0] if unknown else '', options_of_it)}"
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
  loader = find_loader(name)
  if loader.has_validation is not None:
    return loader.has_validation
  module = importlib.import_module(loader.module)
  return module.has_validation(data_dir, **options)
