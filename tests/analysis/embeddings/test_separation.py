"""Separation of classes against hand-computed cases and scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics

from emosynth_jax.analysis.embeddings.separation import separation


def _random():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 4, 60)
  # No class's images are spread about the origin.
  return rng.normal(size=(60, 5)) + labels[:, None] * 0.5 + 1, labels


def test_distances_of_four_points_on_a_line():
  x = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [7.0, 0.0]])
  found = separation(x, np.array([3, 3, 8, 8]))
  # (b - a) / max(a, b) with a, b of 1, 6; 1, 5; 2, 4.5; 2, 6.5.
  each = [5 / 6, 4 / 5, 5 / 9, 9 / 13]
  assert found["silhouette"] == pytest.approx(np.mean(each))
  # Centers at .5 and 6.
  assert found["intra_distance"] == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)
  assert found["inter_distance"] == pytest.approx(5.5)
  assert found["intra_inter_ratio"] == pytest.approx(0.75 / 5.5)
  # 4 * 2.75^2 between, .25 + .25 + 1 + 1 within.
  assert found["fisher_ratio"] == pytest.approx(30.25 / 2.5)
  assert found["per_class"]["label"] == [3, 8]
  assert found["per_class"]["count"] == [2, 2]
  assert found["per_class"]["silhouette"] == pytest.approx(
    [np.mean(each[:2]), np.mean(each[2:])]
  )
  assert found["per_class"]["intra_distance"] == pytest.approx([0.5, 1])
  # The first point is the origin.
  assert found["zero_embeddings"] == 1


def test_angles_of_points_about_two_axes():
  degrees = np.array([10, -10, 80, 100, 5])
  labels = np.array([0, 0, 1, 1, 1])
  lengths = np.array([1, 3, 0.2, 9, 0])
  x = lengths[:, None] * np.stack(
    [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1
  )
  found = separation(x, labels)
  # Centers at 0 and 90 degrees, whatever the lengths; the fifth has no direction.
  assert found["angle_to_own"] == pytest.approx(10)
  assert found["angle_to_other"] == pytest.approx((80 + 100 + 80 + 100) / 4)
  assert found["angular_margin"] == pytest.approx(80)
  assert found["center_angle"] == pytest.approx(90)
  assert found["nearest_own"] == 1
  assert found["zero_embeddings"] == 1
  assert found["per_class"]["angle_to_other"] == pytest.approx([90, 90])


def test_an_image_nearer_to_another_center():
  degrees = np.radians([0, 0, 70, 90, 90, 90])
  x = np.stack([np.cos(degrees), np.sin(degrees)], axis=1)
  labels = np.array([0, 0, 0, 1, 1, 1])
  found = separation(x, labels)
  # The first center is at atan(sin 70 / (2 + cos 70)) = 21.87 degrees.
  center = np.degrees(np.arctan2(np.sin(degrees[2]), 2 + np.cos(degrees[2])))
  assert found["nearest_own"] == pytest.approx(5 / 6)
  assert found["angle_to_own"] == pytest.approx((2 * center + (70 - center)) / 6)
  assert found["center_angle"] == pytest.approx(90 - center)


def test_scikit_learns_figures():
  x, labels = _random()
  found = separation(x, labels)
  assert found["silhouette"] == pytest.approx(metrics.silhouette_score(x, labels))
  # Calinski and Harabasz's index is the Fisher ratio times (N - K) / (K - 1).
  index = metrics.calinski_harabasz_score(x, labels)
  assert found["fisher_ratio"] == pytest.approx(index * 3 / 56)
  samples = metrics.silhouette_samples(x, labels)
  assert found["silhouette_macro"] == pytest.approx(
    np.mean([samples[labels == k].mean() for k in range(4)])
  )


def test_a_factor_changes_nothing_but_the_distances():
  x, labels = _random()
  one, other = separation(x, labels), separation((7 * x).astype(np.float32), labels)
  for name in one.keys() - {"per_class", "intra_distance", "inter_distance"}:
    assert other[name] == pytest.approx(one[name], rel=1e-5), name
  assert other["intra_distance"] == pytest.approx(7 * one["intra_distance"], rel=1e-5)
  assert other["inter_distance"] == pytest.approx(7 * one["inter_distance"], rel=1e-5)


def test_classes_that_are_points_and_embeddings_that_are_all_zero():
  labels = np.array([0, 0, 1, 1])
  points = separation(np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]), labels)
  assert points["silhouette"] == 1
  assert points["fisher_ratio"] == np.inf
  assert points["intra_inter_ratio"] == 0
  assert points["angle_to_own"] == pytest.approx(0, abs=1e-5)
  zeros = separation(np.zeros((4, 3)), labels)
  assert zeros["zero_embeddings"] == 4
  for name in ("fisher_ratio", "angle_to_own", "nearest_own", "center_angle"):
    assert np.isnan(zeros[name]), name


@pytest.mark.parametrize(
  ("embeddings", "labels", "error", "message"),
  [
    (np.eye(3), [0, 0, 0], ValueError, "got 1 classes and 3 images"),
    (np.eye(3), [0, 1, 2], ValueError, "got 3 classes and 3 images"),
    (np.eye(3), [0, 1], ValueError, r"expected shape \(3,\), got \(2,\)"),
    (np.eye(3), [0.0, 1, 1], TypeError, "expected integers, got float64"),
    (np.eye(3, dtype=int), [0, 1, 1], TypeError, "expected floating, got int64"),
    (np.full((3, 2), np.inf), [0, 1, 1], ValueError, "got 3 rows with NaN"),
  ],
)
def test_input_without_separation_is_refused(embeddings, labels, error, message):
  with pytest.raises(error, match=message):
    separation(embeddings, np.array(labels))
