"""The one type that every loader returns."""

import dataclasses

import numpy as np

from emosynth_jax.data.images import pixel_form
from emosynth_jax.data.images.lazy import LazyImages


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
    clean_labels: int32 array `(N,)`, the labels before label noise was added; None if
      none was.
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
    """What training learns: `soft_labels` if there are any, else `labels`."""
    return self.labels if self.soft_labels is None else self.soft_labels

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

    def rows_of(array: np.ndarray | None) -> np.ndarray | None:
      return None if array is None else array[indices]

    return dataclasses.replace(
      self,
      images=images.take(indices)
      if isinstance(images, LazyImages)
      else images[indices],
      labels=self.labels[indices],
      split=split or self.split,
      sources=tuple(self.sources[i] for i in indices),
      official_split=self.official_split if official_split is None else official_split,
      pixel_forms=rows_of(self.pixel_forms),
      votes=rows_of(self.votes),
      soft_labels=rows_of(self.soft_labels),
      clean_labels=rows_of(self.clean_labels),
    )
