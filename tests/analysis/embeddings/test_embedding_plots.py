"""Plots of embeddings: all points, apart for every eye, names as they are."""

import itertools

import numpy as np
import pytest

from emosynth_jax.analysis.embeddings import plots as embedding_plots
from emosynth_jax.utils import plotting

# What is seen without one of the three cones, in linear RGB: Machado, Oliveira and
# Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# 2009, severity 1.
_VISION = {
  "full": np.eye(3),
  "protanopia": [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  "deuteranopia": [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
  ],
  "tritanopia": [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.303900],
  ],
}


def _lab(linear):
  """CIELAB under D65."""
  xyz = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
  )
  t = (xyz @ linear) / [0.9505, 1, 1.089]
  x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
  return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", _VISION)
def test_ten_colors_are_apart_for_every_eye(vision):
  seen = []
  for color in embedding_plots.COLORS:
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen.append(_lab(np.clip(np.array(_VISION[vision]) @ linear, 0, 1)))
  distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
  # A just noticeable difference is 2.3; matplotlib's own ten come down to 4.6.
  assert min(distances) > 15


def test_every_point_is_drawn_once_in_its_class_color():
  rng = np.random.default_rng(0)
  points = rng.normal(size=(40, 2))
  labels = rng.integers(0, 3, 40)
  axis = plotting.new_figure(4, 4).subplots()
  embedding_plots.plot_embedding(axis, points, labels, ["angry", "$sad$", "fear", "x"])
  drawn = [
    (*place, tuple(collection.get_facecolor()[0][:3]))
    for collection in axis.collections
    for place in collection.get_offsets().tolist()
  ]
  from matplotlib.colors import to_rgb

  expected = [
    (*place, to_rgb(embedding_plots.COLORS[k]))
    for place, k in zip(points.tolist(), labels, strict=True)
  ]
  assert sorted(drawn) == sorted(expected)


def test_as_many_classes_as_markers_times_colors_are_distinct():
  names = [str(k) for k in range(70)]
  handles = embedding_plots.legend_handles(names)
  assert [handle.get_label() for handle in handles] == names
  assert len({(h.get_color(), h.get_marker()) for h in handles}) == 70


def test_points_that_do_not_fit_are_refused():
  axis = plotting.new_figure(4, 4).subplots()
  with pytest.raises(ValueError, match=r"got \(4, 3\) and \(4,\)"):
    embedding_plots.plot_embedding(axis, np.zeros((4, 3)), np.zeros(4, int), "ab")
  with pytest.raises(ValueError, match="0 to 1 for 2 class names, got 0 to 2"):
    embedding_plots.plot_embedding(axis, np.zeros((2, 2)), np.array([0, 2]), "ab")


def test_two_classes_have_no_order_of_their_distances():
  figures = dict.fromkeys(
    ("accuracy", "silhouette", "intra_inter_ratio", "angle_to_own", "angle_to_other"),
    0.5,
  )
  kept = {"trustworthiness": 0.9, "center_distances": 0.75}
  text = embedding_plots.describe(figures, kept)
  assert text.endswith(
    "trustworthiness 0.90, rank correlation\nof class distances 0.75"
  )
  # As JSON holds what is not a number.
  text = embedding_plots.describe(figures, kept | {"center_distances": "NaN"})
  assert text.endswith("trustworthiness 0.90")
  assert "nan" not in text
