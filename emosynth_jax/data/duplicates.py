"""Exact, near and mirrored duplicates among images.

Three filters, each applied to the pairs that pass the previous one:

1. equal pixels, by a cryptographic hash of them;
2. equal except for a few bits of the perceptual hash pHash (the signs of an image's
   lowest frequencies), of all pairs of images and of images with mirrored ones;
3. of those pairs, the ones whose pixels correlate once they are shifted to fit.

pHash alone would join many faces of the same pose and light; correlation alone, faces
before a dark background, at a thousand times the cost. The choice of thresholds is
documented in docs/results/fer2013_audit.md: they are for aligned faces, where two
photographs of one person are not near-duplicates. Handwritten digits, for example, need
stricter ones.
"""

import hashlib
from typing import NamedTuple

import cv2
import numpy as np
from absl import logging
from PIL import Image
from scipy import sparse
from scipy.sparse import csgraph

MAX_DISTANCE = 12
MIN_CORRELATION = 0.9

# Gray levels; an image whose values span fewer counts as blank.
_BLANK_RANGE = 8
# About a minute for the third filter, and 16 MB for each array of pairs.
_MAX_CANDIDATES = 1_000_000


class Duplicates(NamedTuple):
  """Result of `find_duplicates` for N images; a group is named by its first image.

  The first images of the groups of equal pixels stand for all of their group in
  `pairs`.
  """

  exact: np.ndarray  # int (N,): the group of equal pixels
  groups: np.ndarray  # int (N,): the group joined by any kind of pair
  pairs: np.ndarray  # int (P, 2): near and mirrored duplicates, lower index first
  mirrored: np.ndarray  # bool (P,): duplicates only after mirroring one
  distances: np.ndarray  # int (P,): differing bits of the perceptual hashes
  correlations: np.ndarray  # float (P,): of the pixels, see `aligned_correlations`


def find_duplicates(
  images: np.ndarray,
  *,
  max_distance: int = MAX_DISTANCE,
  min_correlation: float = MIN_CORRELATION,
) -> Duplicates:
  """Finds exact, near and mirrored duplicates.

  Images of equal pixels are always found. Near and mirrored duplicates are the pairs
  whose perceptual hashes differ in at most `max_distance` bits and whose pixels
  correlate by `min_correlation` or more. Blank images have no near-duplicates, as all
  of them look alike. The order of the images has no influence on which pairs are found.

  Args:
    images: uint8 `(N, H, W, C)`, C 1 or 3.
    max_distance: bits of 64.
    min_correlation: in (0, 1].

  Returns:
    The duplicates.

  Raises:
    TypeError: for another dtype.
    ValueError: for another shape, a threshold out of range, or thresholds so loose
      that a million pairs pass the perceptual hash.
  """
  _check_images(images)
  if not 0 <= max_distance < 32:
    # Two unrelated images differ in 32 bits on average.
    raise ValueError(f"max_distance: expected 0..31 bits, got {max_distance}")
  if not 0 < min_correlation <= 1:
    raise ValueError(
      f"min_correlation: expected a number in (0, 1], got {min_correlation}"
    )

  exact = exact_groups(images)
  searched = np.flatnonzero((exact == np.arange(len(images))) & ~is_blank(images))
  chosen = images[searched]
  hashes = perceptual_hashes(chosen)
  flipped = perceptual_hashes(chosen[:, :, ::-1])
  logging.info("Searching %s images for near-duplicates.", f"{len(chosen):,}")
  same = close_pairs(hashes, hashes, max_distance)

  # Both directions, since their rounding may differ slightly.
  mirror = np.concatenate(
    [
      close_pairs(flipped, hashes, max_distance),
      close_pairs(hashes, flipped, max_distance),
    ]
  )
  mirror = np.unique(mirror, axis=0)
  candidates = np.concatenate([same, mirror])
  mirrored = np.arange(len(candidates)) >= len(same)
  first, second = candidates.T
  correlations = aligned_correlations(chosen, candidates, mirrored)
  one_way = np.bitwise_count(
    np.where(mirrored, flipped[first], hashes[first]) ^ hashes[second]
  )
  other_way = np.bitwise_count(
    hashes[first] ^ np.where(mirrored, flipped[second], hashes[second])
  )
  keep = correlations >= min_correlation

  # A symmetric image can match both ways; it counts once, as not mirrored.
  key = first * len(chosen) + second
  keep &= ~(mirrored & np.isin(key, key[keep & ~mirrored]))
  pairs = searched[candidates[keep]]
  every_link = np.concatenate([pairs, np.stack([exact, np.arange(len(exact))], axis=1)])
  return Duplicates(
    exact=exact,
    groups=connected_groups(len(images), every_link),
    pairs=pairs,
    mirrored=mirrored[keep],
    distances=np.minimum(one_way, other_way)[keep].astype(np.int64),
    correlations=correlations[keep],
  )


def exact_groups(images: np.ndarray) -> np.ndarray:
  """Index of the first image with the same pixels, for each image.

  Args:
    images: `(N, H, W, C)`.

  Returns:
    int `(N,)`.
  """
  first: dict[bytes, int] = {}
  digests = (hashlib.sha256(image.tobytes()).digest() for image in images)
  groups = [first.setdefault(digest, i) for i, digest in enumerate(digests)]
  return np.array(groups, np.int64)


def is_blank(images: np.ndarray) -> np.ndarray:
  """Returns whether all pixels of an image have nearly the same value.

  Args:
    images: uint8 `(N, H, W, C)`.

  Returns:
    bool `(N,)`: less than 8 gray levels between the least and the largest value, in
    every channel.
  """
  spread = images.max(axis=(1, 2)) - images.min(axis=(1, 2))
  return (spread < _BLANK_RANGE).all(axis=-1)


def perceptual_hashes(images: np.ndarray) -> np.ndarray:
  """pHash of each image: the 8x8 lowest frequencies, each above the median or not.

  Args:
    images: uint8 `(N, H, W, C)`, C 1 or 3.

  Returns:
    uint64 `(N,)`.

  References:
    Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010.
  """
  import imagehash  # here, as it is slow to import and rarely needed

  _check_images(images)
  if images.shape[-1] == 1:
    images = images[..., 0]
  bits = np.zeros((len(images), 8, 8), bool)
  for i, image in enumerate(images):
    bits[i] = imagehash.phash(Image.fromarray(image)).hash
    logging.log_every_n_seconds(
      logging.INFO, f"Perceptual hashes: {i:,} of {len(images):,} images.", 5
    )

  return np.packbits(bits.reshape(len(images), 64), axis=1).view(np.uint64)[:, 0]


def close_pairs(first: np.ndarray, second: np.ndarray, max_distance: int) -> np.ndarray:
  """All pairs i < j for which `first[i]` and `second[j]` differ in few bits.

  Args:
    first: uint64 `(N,)`.
    second: uint64 `(N,)`; the same array for pairs within one.
    max_distance: bits in which a pair may differ.

  Returns:
    int `(P, 2)`, in lexicographic order.

  Raises:
    ValueError: if there are more than a million.
  """
  n, found, count = len(first), [], 0
  start = 0
  while start < n:
    # Blocks that stay within a cache, whatever N is.
    rows = max(1, 2**21 // (n - start))
    block = first[start : start + rows, None] ^ second[None, start:]
    row, column = np.nonzero(np.bitwise_count(block) <= max_distance)
    upper = column > row
    pairs = np.stack([row[upper], column[upper]], axis=1) + start
    found.append(pairs)
    count += len(pairs)
    if count > _MAX_CANDIDATES:
      raise ValueError(
        f"more than {_MAX_CANDIDATES} pairs of images differ in at most "
        f"{max_distance} of 64 bits of their perceptual hashes, found among the first "
        f"{start + rows} of {n} images: use a lower max_distance"
      )
    start += rows
    logging.log_every_n_seconds(
      logging.INFO, f"Pairs: {min(start, n):,} of {n:,} images compared with all.", 5
    )

  return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def aligned_correlations(
  images: np.ndarray, pairs: np.ndarray, mirrored: np.ndarray
) -> np.ndarray:
  """Correlation of two images' pixels, at the shift where it is largest.

  One image, without a border of 1/16 of its shorter side, is laid onto the other in
  every place it fits; then the two change roles. The largest of Pearson's correlations
  counts. It is the same for a pair either way round, it ignores brightness and
  contrast, and it is 0 where the middle of an image is blank.

  Args:
    images: uint8 `(N, H, W, C)`, C 1 or 3; colors are compared as grays.
    pairs: int `(P, 2)`, indices into `images`.
    mirrored: bool `(P,)`: whether to exchange left and right in the first one.

  Returns:
    float64 `(P,)`, from -1 to 1.
  """
  _check_images(images)
  height, width = images.shape[1:3]
  border = min(height, width) // 16
  middle = np.s_[border : height - border, border : width - border]
  correlations = np.zeros(len(pairs))
  for k, ((i, j), flip) in enumerate(zip(pairs, mirrored, strict=True)):
    a, b = _gray(images[i]), _gray(images[j])
    if flip:
      a = np.ascontiguousarray(a[:, ::-1])
    # OpenCV returns a correlation of 1 with a constant image.
    if min(np.ptp(a[middle]), np.ptp(b[middle])) >= _BLANK_RANGE:
      correlations[k] = max(
        cv2.matchTemplate(b, a[middle], cv2.TM_CCOEFF_NORMED).max(),
        cv2.matchTemplate(a, b[middle], cv2.TM_CCOEFF_NORMED).max(),
      )
    logging.log_every_n_seconds(
      logging.INFO, f"Pixels: {k:,} of {len(pairs):,} pairs compared.", 5
    )

  return correlations


def connected_groups(num_nodes: int, pairs: np.ndarray) -> np.ndarray:
  """Connected components of a graph.

  Args:
    num_nodes: N.
    pairs: int `(P, 2)`, values in 0..N-1.

  Returns:
    int `(N,)`: for each node the lowest node of its group.
  """
  first, second = np.asarray(pairs).T
  edges = np.ones(len(first), bool), (first, second)
  graph = sparse.coo_array(edges, shape=(num_nodes, num_nodes))
  _, group = csgraph.connected_components(graph, directed=False)
  _, lowest = np.unique(group, return_index=True)
  return lowest[group]


def _gray(image: np.ndarray) -> np.ndarray:
  if image.shape[-1] == 3:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
  return image[..., 0]


def _check_images(images: np.ndarray) -> None:
  if images.dtype != np.uint8:
    raise TypeError(f"images: expected uint8, got {images.dtype}")
  if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
    raise ValueError(
      f"images: expected shape (N, H, W, C) with C 1 or 3, got {images.shape}"
    )
