"""Data sets by name: a path in, arrays and their metadata out."""

import importlib
import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from emosynth_jax.data import splits as _splits
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.utils import errors

__all__ = ["LOADERS", "PHOTOGRAPHS", "Dataset", "load_splits"]

# Module of each data set; it is imported on request, so that a data set whose libraries
# are missing or slow to import doesn't burden the others.
LOADERS = {
  "cifar10": "emosynth_jax.data.datasets.cifar10",
  "ck_plus": "emosynth_jax.data.datasets.ck_plus",
  "fer2013": "emosynth_jax.data.datasets.fer2013",
  "image_folder": "emosynth_jax.data.datasets.image_folder",
  "mnist": "emosynth_jax.data.datasets.mnist",
  "raf_db": "emosynth_jax.data.datasets.raf_db",
  "svhn": "emosynth_jax.data.datasets.svhn",
  "synthetic_faces": "emosynth_jax.data.datasets.synthetic_faces",
}

# Data sets whose gray images are counted by pixel form, see `pixel_form.pixel_forms`.
PHOTOGRAPHS = ("ck_plus", "fer2013", "raf_db")


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
    name: a key of `LOADERS`.
    data_dir: where the data set lies; see its loader.
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
    The data set of each asked split.

  Raises:
    ValueError: for an unknown name, split or option, or an error of the loader.
    FileNotFoundError: the data set isn't there; the message says how to get it.
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


def _reader(
  name: str,
  data_dir: str | pathlib.Path,
  seed: int,
  options: dict[str, Any],
  share: Callable[..., Any] | None,
) -> Callable[[str], Dataset]:
  """The loader of one split, with its options bound; lazily with a `share`."""
  if name not in LOADERS:
    raise ValueError(f"data set: expected one of {sorted(LOADERS)}, got {name!r}")
  module = importlib.import_module(LOADERS[name])
  load = module.load
  known = {
    parameter.name: parameter
    for parameter in inspect.signature(load).parameters.values()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
  }
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
    )
  if share is not None and hasattr(module, "open_split"):
    load = module.open_split
    if "share" in inspect.signature(load).parameters:
      options = options | {"share": share}
  return lambda split: load(data_dir, split, **options, **seeded)


def _has_validation(
  name: str, data_dir: str | pathlib.Path, options: dict[str, Any]
) -> bool:
  """Returns whether the data set has its own validation split under these options."""
  if name == "image_folder":
    image_folder = importlib.import_module(LOADERS[name])
    return image_folder.has_split(data_dir, "validation")
  if name == "fer2013":
    return importlib.import_module(LOADERS[name]).has_validation(**options)
  return name in ("ck_plus", "synthetic_faces")
