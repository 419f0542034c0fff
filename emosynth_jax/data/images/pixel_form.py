"""Pixel form of gray images: original or histogram-equalized.

FER-2013 is distributed in both forms, and results on one are not results on the other
(docs/guides/data.md). Each image is classified by its histogram of gray levels alone,
so that a mixed set is counted image by image.
"""

from collections.abc import Mapping

import numpy as np

FORMS = ("original", "equalized", "unknown")
ORIGINAL, EQUALIZED, UNKNOWN = range(3)

# Chosen on FER-2013's Training images of both forms, see docs/guides/data.md. Levels by
# which a rank may exceed its level, due to JPEG.
_ABOVE = 4
# Levels by which a rank may lie below, and the share of pixels that may lie further
# below: in units of the crowding, and of all pixels.
_BELOW = 3
_BELOW_PER_CROWDING = 0.13
_FAR_BELOW = 6
_FAR_BELOW_SHARE = 0.018
# Levels on either side that count as one peak of the histogram.
_NEIGHBORS = 4
# JPEG spreads the darkest level over as many more.
_DARKEST = (0, 5)
# With fewer occupied levels, an image and its equalized form can be the same.
_MIN_LEVELS = 8

_CHUNK = 4096


def pixel_forms(images: np.ndarray) -> np.ndarray:
  """Classifies gray images as original or histogram-equalized.

  Histogram equalization maps each level to its rank: the number of pixels at or below
  it, less those of the darkest level, scaled to 0..255. An equalized image is a fixed
  point of that map. Here, u(v) is the rank of level v in the image itself. The image
  counts as equalized if

  - no level has a rank far above it: u(v) <= v + 4 for all v; and
  - few pixels have a rank far below their level: of levels v with u(v + 6) < v - 6 at
    most 1.8 % of the pixels, of levels with u(v + 3) < v - 3 at most a share of 0.13 c.
    The crowding c is the mean over the pixels of how many pixels lie within 4 levels,
    relative to a uniform histogram: a peak, such as a plain background, is a wide gap
    in the ranks, and JPEG spreads it.

  The tolerances cover JPEG at the quality of Kaggle's FER-2013 files (about 95).
  Images of fewer than 8 occupied levels are unknown: a constant or two-level image does
  not show whether it was equalized.

  Args:
    images: uint8 `(N, H, W, 1)`.

  Returns:
    uint8 `(N,)`, indices into `FORMS`.

  Raises:
    ValueError: for another dtype, or more than one channel.
  """
  if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 1:
    raise ValueError(
      "images: expected uint8 of shape (N, height, width, 1), got "
      f"{images.dtype} of shape {images.shape}"
    )

  parts = [
    _classify(_histograms(images[start : start + _CHUNK]))
    for start in range(0, len(images), _CHUNK)
  ]
  return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def count_forms(forms: np.ndarray) -> dict[str, int]:
  """Counts the images of each form.

  Args:
    forms: of `pixel_forms`.

  Returns:
    The number of images by name, of all of `FORMS`.
  """
  counts = np.bincount(forms, minlength=len(FORMS)).tolist()
  return dict(zip(FORMS, counts, strict=True))


def describe_counts(counts: Mapping[str, int]) -> str:
  """Formats counts of forms, such as "3,574 original and 15 equalized"."""
  parts = [f"{counts[name]:,} {name}" for name in FORMS if counts.get(name)]
  return ", ".join([*parts[:-2], " and ".join(parts[-2:])]) or "no image"


def main_form(counts: Mapping[str, int] | None) -> str | None:
  """The form of most images; None where that is not known.

  Args:
    counts: of `count_forms`; None for data whose forms were not determined.

  Returns:
    "original", "equalized" or None.
  """
  if not counts or not any(counts.values()):
    return None
  name = max(FORMS, key=lambda name: counts.get(name, 0))
  return None if name == FORMS[UNKNOWN] else name


def _histograms(images: np.ndarray) -> np.ndarray:
  """Number of pixels of each level, int `(N, 256)`."""
  pixels = images.reshape(len(images), -1).astype(np.int64)
  bins = pixels + 256 * np.arange(len(images))[:, None]
  return np.bincount(bins.ravel(), minlength=256 * len(images)).reshape(-1, 256)


def _classify(histograms: np.ndarray) -> np.ndarray:
  """The form of each image, uint8 `(N,)`, by its histogram `(N, 256)`."""
  forms = np.full(len(histograms), ORIGINAL, np.uint8)
  for spread in _DARKEST:
    rest = np.flatnonzero(forms == ORIGINAL)
    forms[rest[_fixed_points(histograms[rest], spread)]] = EQUALIZED
  forms[(histograms > 0).sum(axis=1) < _MIN_LEVELS] = UNKNOWN
  return forms


def _fixed_points(histograms: np.ndarray, spread: int) -> np.ndarray:
  """The images that equalizing changes no more than JPEG does: int `(M,)`."""
  ranks = _ranks(histograms, spread)
  passed = np.flatnonzero((ranks <= np.arange(256) + _ABOVE).all(axis=1))
  histograms, ranks = histograms[passed], ranks[passed]

  num_pixels = histograms.sum(axis=1)
  limit = _BELOW_PER_CROWDING * _crowding(histograms)
  below = _pixels_below(histograms, ranks, _BELOW)
  far_below = _pixels_below(histograms, ranks, _FAR_BELOW)
  kept = (below <= limit * num_pixels) & (far_below <= _FAR_BELOW_SHARE * num_pixels)
  return passed[kept]


def _ranks(histograms: np.ndarray, spread: int) -> np.ndarray:
  """Each level's rank `(N, 256)`, 0..255, the darkest `spread` + 1 levels at 0."""
  cumulative = histograms.cumsum(axis=1)
  darkest = np.minimum((histograms > 0).argmax(axis=1) + spread, 255)
  start = np.take_along_axis(cumulative, darkest[:, None], axis=1)
  rest = np.maximum(cumulative[:, -1:] - start, 1)  # 0 for a constant image
  return 255.0 * np.maximum(cumulative - start, 0) / rest


def _pixels_below(histograms: np.ndarray, ranks: np.ndarray, by: int) -> np.ndarray:
  """Pixels whose rank `by` levels on is more than `by` below their level, `(N,)`."""
  later = np.pad(ranks[:, by:], ((0, 0), (0, by)), constant_values=255.0)
  return np.where(later < np.arange(256) - by, histograms, 0).sum(axis=1)


def _crowding(histograms: np.ndarray) -> np.ndarray:
  """Mean share of pixels near a pixel's level, 1 for a uniform histogram: `(N,)`."""
  width = 2 * _NEIGHBORS + 1
  padded = np.pad(histograms, ((0, 0), (_NEIGHBORS + 1, _NEIGHBORS)))
  cumulative = padded.cumsum(axis=1)
  near = cumulative[:, width:] - cumulative[:, :-width]
  num_pixels = histograms.sum(axis=1)
  return (near * histograms).sum(axis=1) * 256 / width / num_pixels**2
