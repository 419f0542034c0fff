"""Metrics of class separation in the embedding space."""

from typing import Any

import numpy as np
from sklearn.metrics import silhouette_samples

from emosynth_jax.analysis.embeddings import embeddings as of_embeddings


def separation(embeddings: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
  r"""Distances and angles within classes and between them.

  With the embeddings x_i of N images, the classes K that have one, class k's n_k
  images, their mean c_k and the mean c of all images:

  - "silhouette": the mean over the images of (b - a) / max(a, b), where a is the mean
    distance to the other images of the own class and b the least, over the other
    classes, mean distance to a class's images; 0 for a class's only image. From -1
    (within other classes) to 1 (classes far apart).
  - "silhouette_macro": the mean over the classes of its mean over a class's images.
  - "intra_distance": the mean over the images of :math:`|x_i - c_{y_i}|`.
  - "inter_distance": the mean over all pairs of classes of :math:`|c_j - c_k|`.
  - "intra_inter_ratio": their quotient, less for denser classes.
  - "fisher_ratio": :math:`\sum_k n_k |c_k - c|^2 / \sum_i |x_i - c_{y_i}|^2`, the
    variance between the classes as a multiple of that within them, tr S_B / tr S_W;
    infinite where the classes are points.
  - "angle_to_own": the mean over the images of the angle to the own class's center.
    Angles are in degrees and about the origin, as for angular margins. A class's center
    is here the direction of the mean of its images' directions :math:`x_i / |x_i|`.
  - "angle_to_other": the mean over the images of the smallest angle to the center of
    another class.
  - "angular_margin": "angle_to_other" minus "angle_to_own".
  - "nearest_own": the share of images whose nearest center, by angle, is the own one.
  - "center_angle": the mean over the classes of the smallest angle from its center to
    another's.
  - "per_class": "label", "count", "silhouette", "intra_distance", "angle_to_own",
    "angle_to_other" and "center_angle" of each class, lists.
  - "zero_embeddings": the number of embeddings without a direction, which are excluded
    from the angles.

  Distances are Euclidean. All but the two distances stay the same when all embeddings
  are multiplied by one number, so that networks can be compared by them. An image is
  part of its own class's center, so that a class of few images looks denser than it
  is.

  Args:
    embeddings: floating `(N, D)`.
    labels: int `(N,)`, of at least two classes and fewer than N.

  Returns:
    The metrics, NaN where undefined (an angle where all embeddings are zero).

  Raises:
    TypeError: for embeddings that are not floating or labels that are no integers.
    ValueError: for other shapes, embeddings that are not finite, or too few classes or
      images.

  References:
    Rousseeuw, `Silhouettes <https://doi.org/10.1016/0377-0427(87)90125-7>`_, 1987;
    Fukunaga, "Introduction to Statistical Pattern Recognition", 1990, section 10.2, on
    criteria of scatter matrices; Deng et al., `ArcFace
    <https://arxiv.org/abs/1801.07698>`_, 2019, whose table of angle statistics has
    "angle_to_own" as Intra and "center_angle" as Inter
  """
  x = of_embeddings.check_embeddings(embeddings)
  labels = of_embeddings.check_labels(labels, len(x))
  classes, own, counts = np.unique(labels, return_inverse=True, return_counts=True)
  if not 2 <= len(classes) < len(x):
    raise ValueError(
      "labels: expected at least two classes, and more images than classes; got "
      f"{len(classes)} classes and {len(x)} images"
    )

  def by_class(values, mean=np.mean):
    return [float(mean(values[own == k])) for k in range(len(classes))]

  silhouettes = silhouette_samples(x, labels)
  distances, of_distances = _distances(x, own, counts)
  angles = _angles(x, own, len(classes))
  return {
    "silhouette": float(silhouettes.mean()),
    "silhouette_macro": float(np.mean(by_class(silhouettes))),
    **of_distances,
    **{name: _mean(angles[name]) for name in ("angle_to_own", "angle_to_other")},
    "angular_margin": _mean(angles["angle_to_other"] - angles["angle_to_own"]),
    "nearest_own": _mean(
      np.where(
        np.isnan(angles["angle_to_own"]),
        np.nan,
        angles["angle_to_own"] < angles["angle_to_other"],
      )
    ),
    "center_angle": _mean(angles["center_angle"]),
    "per_class": {
      "label": classes.tolist(),
      "count": counts.tolist(),
      "silhouette": by_class(silhouettes),
      "intra_distance": by_class(distances),
      "angle_to_own": by_class(angles["angle_to_own"], _mean),
      "angle_to_other": by_class(angles["angle_to_other"], _mean),
      "center_angle": angles["center_angle"].tolist(),
    },
    "zero_embeddings": int((~x.any(axis=1)).sum()),
  }


def _distances(
  x: np.ndarray, own: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, dict[str, float]]:
  """The distance of each image to its class's center, and the metrics of distance."""
  centers = np.stack([x[own == k].mean(axis=0) for k in range(len(counts))])
  distances = np.linalg.norm(x - centers[own], axis=1)

  pairs = np.triu_indices(len(counts), k=1)
  between = np.linalg.norm(centers[pairs[0]] - centers[pairs[1]], axis=1).mean()

  spread = (counts * ((centers - x.mean(axis=0)) ** 2).sum(axis=1)).sum()
  with np.errstate(divide="ignore", invalid="ignore"):
    ratio = float(distances.mean() / between)
    fisher = float(spread / (distances**2).sum())

  return distances, {
    "intra_distance": float(distances.mean()),
    "inter_distance": float(between),
    "intra_inter_ratio": ratio,
    "fisher_ratio": fisher,
  }


def _angles(x: np.ndarray, own: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
  """Degrees from each image to the centers, and between the centers, NaN if none."""
  units = _units(x)
  centers = _units(
    np.stack([np.nan_to_num(units[own == k]).sum(axis=0) for k in range(num_classes)])
  )
  to_centers = _degrees(units @ centers.T)
  rows = np.arange(len(x))
  to_own = to_centers[rows, own]
  to_centers[rows, own] = np.inf
  between = _degrees(centers @ centers.T)
  np.fill_diagonal(between, np.inf)
  return {
    "angle_to_own": to_own,
    "angle_to_other": _least(to_centers),
    "center_angle": _least(between),
  }


def _units(x: np.ndarray) -> np.ndarray:
  norms = np.linalg.norm(x, axis=1, keepdims=True)
  return np.divide(x, norms, out=np.full_like(x, np.nan), where=norms > 0)


def _degrees(cosines: np.ndarray) -> np.ndarray:
  return np.degrees(np.arccos(np.clip(cosines, -1, 1)))


def _least(angles: np.ndarray) -> np.ndarray:
  """Minimum of each row; a center without a direction is never the nearest."""
  least = np.where(np.isnan(angles), np.inf, angles).min(axis=1)
  return np.where(np.isfinite(least), least, np.nan)


def _mean(values: np.ndarray) -> float:
  values = values[~np.isnan(values)]
  return float(values.mean()) if len(values) else float("nan")
