"""Scales of the figures: colors where there is something to see, and round numbers."""

import numpy as np
import pytest

from emosynth_jax.analysis.curvature import plots as curvature_plots
from emosynth_jax.analysis.gradcam import plots as gradcam_plots
from emosynth_jax.analysis.loss_landscape import plots as landscape_plots

_AXIS = np.linspace(-1, 1, 9)


def _record(**changes):
  settings = {
    "training_seed": 0,
    "data_set": "fer2013",
    "split": "train",
    "official_split": "Training",
    "num_images": 64,
    "batch_norm": "running",
  }
  return {"name": "tiny, ce", "settings": settings, "num_classes": 7} | changes


def _basin(high):
  """A loss of 1.3 in the middle that rises steeply to `high` in the corners."""
  x, y = np.meshgrid(_AXIS, _AXIS, indexing="ij")
  return 1.3 * (high / 1.3) ** ((x**2 + y**2) / 2)


def test_a_landscape_has_its_levels_where_the_basin_is(drawn, tmp_path):
  loss = _basin(23_000.0)
  arrays = {"axis": _AXIS, "loss": loss, "accuracy": loss}
  landscape_plots.draw(tmp_path / "plane", [(_record(), arrays)])
  figure = drawn["plane_contour.png"]
  filled = figure.axes[0].collections[0]
  assert filled.levels[0] == pytest.approx(1.3, rel=1e-5)
  assert filled.levels[-1] == pytest.approx(5 * np.log(7), rel=1e-5)
  assert filled.extend == "max"
  # What is above has a color of its own, and is told.
  assert filled.cmap.get_over().tolist() != filled.cmap(1.0)
  bar = figure.axes[1]
  assert "up to 2.3e+04 beyond" in bar.get_ylabel()
  labels = [text.get_text() for text in bar.get_yticklabels()]
  assert labels == ["1.5", "2", "3", "4", "5", "7"]
  surface = drawn["plane_surface.png"].axes[0]
  assert surface.get_zlabel() == "cross-entropy, clipped at 9.7"
  assert [text.get_text() for text in surface.get_zticklabels()] == labels


def test_a_flat_landscape_is_not_cut(drawn, tmp_path):
  loss = _basin(6.0)
  arrays = {"axis": _AXIS, "loss": loss, "accuracy": loss}
  landscape_plots.draw(tmp_path / "plane", [(_record(), arrays)])
  figure = drawn["plane_contour.png"]
  filled = figure.axes[0].collections[0]
  assert filled.levels[-1] == pytest.approx(6.0, rel=1e-5)
  assert filled.extend == "neither"
  assert figure.axes[1].get_ylabel() == "cross-entropy"


def test_the_ceiling_never_lies_below_what_there_is_to_see():
  levels = landscape_plots.common_levels([np.array([4.0, 1000.0])], ceiling=5.0)
  np.testing.assert_allclose(levels[[0, -1]], [4, 20], rtol=1e-5)
  levels = landscape_plots.common_levels([np.array([0.5, 1000.0])], ceiling=5.0)
  np.testing.assert_allclose(levels[[0, 10, -1]], [0.5, 2.5**0.5, 5], rtol=1e-5)


@pytest.mark.parametrize(
  ("low", "high", "expected"),
  [
    (1.29, 9.7, [1.5, 2, 3, 4, 5, 7]),
    (0.02, 9.7, [0.03, 0.1, 0.3, 1, 3]),
    (0.4, 900, [1, 3, 10, 30, 100, 300]),
    (1e-3, 1e3, [0.001, 0.01, 0.1, 1, 10, 100, 1000]),
    (2.0, 2.1, [2, 2.05, 2.1]),
  ],
)
def test_ticks_are_round_numbers_within_the_scale(low, high, expected):
  np.testing.assert_allclose(landscape_plots.round_ticks(low, high), expected)


def test_ratios_above_1_are_told_apart(drawn, tmp_path):
  ratio = np.full((9, 9), 1.0)
  ratio[0, :4] = [0.1, 0.5, 2.0, 10.0]
  ratio[1] = 4.0
  smallest = np.full((9, 9), -1.0)
  arrays = {
    "axis": _AXIS,
    "ratio": ratio,
    "smallest": smallest,
    "absolute_tolerance": np.full((9, 9), 1e-4),
    "converged": np.ones((9, 9), bool),
  }
  record = _record(points=81, points_not_converged=0)
  curvature_plots.plot_ratios([(record, arrays)], tmp_path / "map.png")
  panel, bar = drawn["map.png"].axes
  (image,) = panel.images

  def color(value):
    return np.array(image.to_rgba(value)[:3])

  # White in the middle, blue below and red above, the further the stronger.
  assert color(1.0).min() > 0.95
  low, high = color(0.5), color(2.0)
  assert low[2] > low[0]
  assert high[0] > high[2]
  assert np.abs(color(4.0) - high).max() > 0.1
  assert "1" in [text.get_text() for text in bar.get_yticklabels()]
  title = panel.get_title()
  assert "convex but for rounding at 0 of 81 points" in title
  # No mark is explained that is not there.
  assert "(x)" not in title
  assert "(+)" not in title
  # Cross-entropy has flat directions at every point: 0 within rounding is convex, and
  # a number above 0 that has not converged says nothing.
  arrays["converged"][0, 0] = False
  smallest[0, 0], smallest[3, 3], smallest[4, 4] = 0.5, -0.9e-4, -1.1e-4
  curvature_plots.plot_ratios([(record, arrays)], tmp_path / "map.png")
  title = drawn["map.png"].axes[0].get_title()
  assert "at 1 of 81 points (+)\nnot converged at 1 of them (x)" in title


def test_low_values_of_a_map_are_no_dark_image_content():
  gray = np.full((1, 101), 0.5)
  shown = gradcam_plots.overlay(gray, np.linspace(0, 1, 101)[None])[0]
  np.testing.assert_allclose(shown[0], 0.5)
  low = shown[1:40]
  # A tint of yellow, as light as the image or lighter.
  assert (low @ [0.2126, 0.7152, 0.0722] >= 0.5).all()
  assert (low[:, :2].min(1) > low[:, 2] + 0.02).all()
  # Never the same color for two values.
  assert (np.abs(np.diff(shown, axis=0)).max(1) > 0).all()


def test_the_size_of_a_map_is_what_lies_within_the_image():
  assert gradcam_plots.describe_layer("block5", (24, 24, 64), 6) == (
    "layer block5 (12 x 12 pixels)"
  )
