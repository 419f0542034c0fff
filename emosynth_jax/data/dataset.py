"""Splits of data sets: the type that loaders return, loaded by name, or drawn."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from emosynth_jax.data import loaders
from emosynth_jax.data.images import pixel_form
from emosynth_jax.data.images.lazy import LazyImages
from emosynth_jax.utils import errors


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Images of one split, as uint8.

  Attributes:
    images: uint8 array `(N, height, width, channels)`, channels 1 or 3; if loaded
      lazily, a `LazyImages` that behaves like one.
    labels: int32 array `(N,)`, indices into `class_names`.
    class_names: one name for each class, in label order.
    split: the project's name of the split: "train", "validation" or "test".
    sources: origin of each image (file name or row), `(N,)`, by which errors and the
      audit name it.
    official_split: what the data set's authors call this split, or how it was made
      ("PrivateTest", "fold 3 of 10 by subject"), for reports; "" if there is nothing to
      add to `split`.
    pixel_forms: uint8 array `(N,)`, the form of each image according to
      `pixel_form.pixel_forms`; None if not determined.
    votes: int array `(N, K)`, the raters' votes for each class, under which an
      evaluation is reported; None if there are none.
    soft_labels: float32 array `(N, K)`, class probabilities that training uses instead
      of `labels`; None if there are none.
    clean_labels: int32 array `(N,)`, the labels before label noise was added, or FER+'s
      majority where FER-2013's labels are trained on; None elsewhere.
  """

  images: np.ndarray
  labels: np.ndarray
  class_names: tuple[str, ...]
  split: str
  sources: tuple[str, ...]
  official_split: str = ""
  pixel_forms: np.ndarray | None = None
  votes: np.ndarray | None = None
  soft_labels: np.ndarray | None = None
  clean_labels: np.ndarray | None = None

  def __post_init__(self):
    if self.images.dtype != np.uint8 or self.images.ndim != 4:
      raise ValueError(
        "images: expected uint8 of shape (N, height, width, channels), got "
        f"{self.images.dtype} of shape {self.images.shape}"
      )
    if self.labels.dtype != np.int32 or self.labels.shape != self.images.shape[:1]:
      raise ValueError(
        f"labels: expected int32 of shape {self.images.shape[:1]}, got "
        f"{self.labels.dtype} of shape {self.labels.shape}"
      )
    if len(self.sources) != len(self.images):
      raise ValueError(
        f"sources: expected {len(self.images)} names, got {len(self.sources)}"
      )
    if len(self.labels) and not (
      0 <= self.labels.min() and self.labels.max() < len(self.class_names)
    ):
      raise ValueError(
        f"labels: expected 0..{len(self.class_names) - 1}, got "
        f"{self.labels.min()}..{self.labels.max()}"
      )

    forms = self.pixel_forms
    if forms is not None and forms.shape != self.labels.shape:
      raise ValueError(
        f"pixel_forms: expected shape {self.labels.shape}, got {forms.shape}"
      )
    for name in ("votes", "soft_labels"):
      rows, shape = getattr(self, name), (len(self.labels), len(self.class_names))
      if rows is not None and rows.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {rows.shape}")

  def __len__(self) -> int:
    return len(self.images)

  def __repr__(self) -> str:
    """Names the split, its size and its classes, without the pixels."""
    shape = "x".join(map(str, self.images.shape[1:]))
    return (
      f"Dataset({self.split!r}, {len(self):,} images of {shape}, "
      f"{len(self.class_names)} classes: {', '.join(self.class_names)})"
    )

  @property
  def targets(self) -> np.ndarray:
    """Targets of training: `soft_labels` if there are any, else `labels`."""
    return self.labels if self.soft_labels is None else self.soft_labels

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """`(height, width, channels)`."""
    return self.images.shape[1:]

  @property
  def class_counts(self) -> np.ndarray:
    """Number of images of each class, int `(K,)`."""
    return np.bincount(self.labels, minlength=len(self.class_names))

  @property
  def form_counts(self) -> dict[str, int] | None:
    """Number of images of each form, by name; None if not determined."""
    forms = self.pixel_forms
    return None if forms is None else pixel_form.count_forms(forms)

  def with_pixel_forms(self) -> "Dataset":
    """Adds the form of each image; a data set of color images is returned unchanged."""
    if self.images.shape[-1] != 1:
      return self
    forms = pixel_form.pixel_forms(np.asarray(self.images))
    return dataclasses.replace(self, pixel_forms=forms)

  def in_memory(self) -> "Dataset":
    """Loads all images into an array; a damaged image is an error."""
    return dataclasses.replace(self, images=np.asarray(self.images))

  def take(
    self,
    indices: np.ndarray,
    split: str | None = None,
    official_split: str | None = None,
  ) -> "Dataset":
    """Selects the rows at `indices` `(M,)`, in that order; None keeps a name."""
    images = self.images
    rows = {
      name: array[indices]
      for name in ("pixel_forms", "votes", "soft_labels", "clean_labels")
      if (array := getattr(self, name)) is not None
    }
    return dataclasses.replace(
      self,
      images=images.take(indices)
      if isinstance(images, LazyImages)
      else images[indices],
      labels=self.labels[indices],
      split=split or self.split,
      sources=tuple(self.sources[i] for i in indices),
      official_split=self.official_split if official_split is None else official_split,
      **rows,
    )


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
    name: a key of `loaders.LOADERS`, or a user's loader as "file.py:function": a
      function of `(data_dir, split)` that returns a `Dataset`. With the attribute
      `has_validation` it also has a validation split of its own.
    data_dir: data set directory; see its loader.
    splits: of "train", "validation", "test"; only these are read.
    validation_fraction: the part of "train" to hold out where the data set has no
      validation split, in [0, 1); 0 holds nothing out.
    seed: of the draws (the held-out part, the limit) and of a generated data set.
    limit: maximum number of images per split, stratified by class; 0 means all.
    lazily: leaves the images on disk until they are accessed (see `LazyImages`), where
      each is a file or record of its own.
    share: by which several processes read the labels, see `tfds_records.read`; of
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

  load = loaders.bind_loader(name, data_dir, options, seed, share if lazily else None)
  holds_out = not loaders.has_validation(name, data_dir, options)
  if holds_out and "validation" in splits and validation_fraction == 0:
    raise ValueError(
      f"{name} has no validation split; validation_fraction must be above 0 to hold "
      "one out of train"
    )

  loaded = {}
  for split in splits:
    if split in loaded:
      continue
    if holds_out and validation_fraction and split in ("train", "validation"):
      whole = _load_split(load, name, "train")
      loaded["train"], loaded["validation"] = hold_out(whole, validation_fraction, seed)
    else:
      loaded[split] = _load_split(load, name, split)

  if limit:
    loaded = {key: subset(value, limit, seed) for key, value in loaded.items()}
  return {split: loaded[split] for split in splits}


def _load_split(load: Callable[..., Dataset], name: str, split: str) -> Dataset:
  """A split of the loader called `name`, which may be a user's."""
  loaded = load(split)
  if not isinstance(loaded, Dataset):
    raise ValueError(
      f"{name}: expected a data.Dataset (data.from_arrays makes one), got "
      f"{type(loaded).__name__}"
    )
  return dataclasses.replace(loaded, split=split)


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
  counts = _counts_of_draw(dataset)
  wanted = np.rint(fraction * counts).astype(int)
  # Where n_k is 0 or 1, the upper bound 0 takes precedence over the lower bound.
  wanted = np.clip(wanted, 1, np.maximum(counts - 1, 0))
  held = _draw(dataset, wanted, seed)
  if not 0 < held.sum() < len(dataset):
    raise ValueError(
      f"cannot hold {fraction} out of {len(dataset):,} images: no class has two images"
    )

  whole = dataset.official_split or dataset.split
  train = dataset.take(
    np.flatnonzero(~held), "train", f"{whole} less the held-out part"
  )
  return train, dataset.take(np.flatnonzero(held), "validation", f"held out of {whole}")


def draw_rows(total: int, number: int, *, seed: int = 0) -> np.ndarray:
  """Draws rows at random, the same ones on the same data and version of NumPy.

  Args:
    total: number of rows; many splits are sorted by class.
    number: maximum number to draw; 0 for all.
    seed: of the draw.

  Returns:
    int `(M,)`, in ascending order.
  """
  order = np.random.Generator(np.random.PCG64(seed)).permutation(total)
  return np.sort(order[: number or total])


def subset(dataset: Dataset, limit: int, seed: int) -> Dataset:
  """Draws `limit` images, each class in proportion to its size.

  The classes are those of `clean_labels` where there are any: the same images are drawn
  whatever labels they are trained on.

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
  counts = _counts_of_draw(dataset)
  shares = limit * counts
  wanted = shares // len(dataset)
  order = np.argsort(-(shares % len(dataset)), kind="stable")
  wanted[order[: limit - wanted.sum()]] += 1

  whole = dataset.official_split or dataset.split
  how = f"{limit:,} of the {len(dataset):,} images of {whole}"
  lost = (wanted == 0) & (counts > 0)
  if lost.any() and limit >= np.count_nonzero(counts):
    wanted[lost] = 1
    for _ in range(np.count_nonzero(lost)):
      wanted[np.argmax(wanted)] -= 1
    how += ", at least one of each class"
  elif lost.any():
    names = ", ".join(dataset.class_names[k] for k in np.flatnonzero(lost))
    logging.warning("%s: too few for all classes; there is none of %s.", how, names)
    how += f", none of {names}"

  return dataset.take(np.flatnonzero(_draw(dataset, wanted, seed)), official_split=how)


def _drawn_by(dataset: Dataset) -> np.ndarray:
  """The labels by which images are drawn, int `(N,)`."""
  return dataset.labels if dataset.clean_labels is None else dataset.clean_labels


def _counts_of_draw(dataset: Dataset) -> np.ndarray:
  """Number of images of each class, int `(K,)`, of the labels of `_drawn_by`."""
  return np.bincount(_drawn_by(dataset), minlength=len(dataset.class_names))


def _draw(dataset: Dataset, wanted: np.ndarray, seed: int) -> np.ndarray:
  """Marks `wanted[k]` random images of each class `k`: bool `(N,)`."""
  # NumPy promises never to change a bit generator's raw stream; what `Generator` makes
  # of it may change with any release, and the held-out images with it.
  keys = np.random.PCG64(seed).random_raw(len(dataset))
  labels, drawn = _drawn_by(dataset), np.zeros(len(dataset), bool)
  for label, count in enumerate(wanted):
    members = np.flatnonzero(labels == label)
    drawn[members[np.argsort(keys[members])[:count]]] = True
  return drawn
