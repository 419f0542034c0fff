"""Plots of planes: the first direction to the right, whatever lies where."""

import numpy as np
import pytest
from mpl_toolkits.mplot3d import Axes3D

from emosynth_jax.analysis.curvature import plots as curvature_plots
from emosynth_jax.analysis.loss_landscape import plots as landscape_plots

_AXIS = np.float32([-0.5, 0, 0.5])
# Nine values, of which the highest is at the first direction's end and the second's
# beginning: a transposed plane has it elsewhere.
_VALUES = np.array([[0.3, 0.4, 0.5], [0.6, 0.2, 0.7], [2.0, 0.8, 0.9]])


def _record(**changes):
  settings = {
    "training_seed": 3,
    "data_set": "fer2013",
    "split": "test",
    "official_split": "PrivateTest",
    "num_images": 64,
    "batch_norm": "batch",
  }
  return {
    "name": "tiny, ce",
    "settings": settings,
    "points": 9,
    "num_classes": 10,
  } | changes


def test_the_contours_have_the_first_direction_to_the_right(drawn, tmp_path):
  arrays = {"axis": _AXIS, "loss": _VALUES, "accuracy": _VALUES / 2}
  landscape_plots.draw(tmp_path / "plane", [(_record(), arrays)])
  panel = drawn["plane_contour.png"].axes[0]
  filled = panel.collections[0]
  highest = [path for path in filled.get_paths() if len(path.vertices)][-1]
  assert highest.contains_point((0.49, -0.49))
  assert not highest.contains_point((-0.49, 0.49))
  # The value of each point lies within the levels of the area that it is in.
  for i, x in enumerate(_AXIS):
    for j, y in enumerate(_AXIS):
      areas = [
        (low, high)
        for low, high, path in zip(
          filled.levels[:-1], filled.levels[1:], filled.get_paths(), strict=False
        )
        if path.contains_point((0.998 * x + 1e-4, 0.998 * y + 1e-4), radius=1e-3)
      ]
      assert any(low * 0.9 <= _VALUES[i, j] <= high * 1.1 for low, high in areas)
  assert "PrivateTest, 64 images, BatchNorm batch" in panel.get_title()
  assert "seed 3" in panel.get_title()


def test_the_surface_has_the_same_directions(drawn, tmp_path, monkeypatch):
  asked, plain = [], Axes3D.plot_surface

  def plot_surface(self, first, second, height, **style):
    asked.append((first, second, height))
    return plain(self, first, second, height, **style)

  monkeypatch.setattr(Axes3D, "plot_surface", plot_surface)
  arrays = {"axis": _AXIS, "loss": _VALUES, "accuracy": _VALUES / 2}
  landscape_plots.draw(tmp_path / "plane", [(_record(), arrays)])
  ((first, second, height),) = asked
  where = (first == 0.5) & (second == -0.5)
  assert where.sum() == 1
  np.testing.assert_allclose(height[where], np.log10(2.0), rtol=1e-5)
  where = (first == -0.5) & (second == 0.5)
  np.testing.assert_allclose(height[where], np.log10(0.5), rtol=1e-5)


def test_a_line_has_loss_and_accuracy_by_step(drawn, tmp_path):
  arrays = {"axis": _AXIS, "loss": _VALUES[0], "accuracy": _VALUES[1]}
  landscape_plots.draw(tmp_path / "line", [(_record(), arrays)])
  loss, accuracy = drawn["line.png"].axes
  (line,) = loss.get_lines()
  np.testing.assert_allclose(line.get_xydata(), np.c_[_AXIS, _VALUES[0]])
  (line,) = accuracy.get_lines()
  np.testing.assert_allclose(line.get_xydata(), np.c_[_AXIS, 100 * _VALUES[1]])


def test_the_map_of_ratios_and_its_crosses_have_the_same_directions(drawn, tmp_path):
  converged = np.ones((3, 3), bool)
  converged[0, 1] = converged[2, 0] = False
  smallest = np.full((3, 3), -1.0)
  smallest[1, 2] = 0.1
  arrays = {
    "axis": _AXIS,
    "ratio": _VALUES,
    "converged": converged,
    "smallest": smallest,
    "absolute_tolerance": np.full((3, 3), 1e-6),
  }
  record = _record(points_not_converged=2)
  curvature_plots.plot_ratios([(record, arrays)], tmp_path / "map.png")
  panel = drawn["map.png"].axes[0]
  (image,) = panel.images
  left, right, bottom, top = image.get_extent()
  assert image.origin == "lower"
  for i, x in enumerate(_AXIS):
    for j, y in enumerate(_AXIS):
      column = int((x - left) / (right - left) * 3)
      row = int((y - bottom) / (top - bottom) * 3)
      assert image.get_array()[row, column] == pytest.approx(_VALUES[i, j])
  marked = {
    line.get_marker(): sorted(map(tuple, line.get_xydata().tolist()))
    for line in panel.get_lines()
  }
  assert marked["x"] == [(-0.5, 0.0), (0.5, -0.5)]
  assert marked["+"] == [(0.0, 0.5)]
  assert "BatchNorm batch" in panel.get_title()


def test_titles_of_long_splits_do_not_run_into_each_other(drawn, tmp_path):
  record = _record(name="emosynthnet, mam_softmax+sce_loss", points_not_converged=0)
  record["settings"]["official_split"] = "8,000 of the 28,709 images of Training"
  record["settings"]["num_images"] = 256
  record["settings"]["batch_norm"] = "running"
  ones = np.ones((3, 3))
  plane = {"axis": _AXIS, "loss": _VALUES, "accuracy": _VALUES / 2}
  ratios = {"axis": _AXIS, "ratio": ones, "converged": ones > 0, "smallest": -ones}
  ratios["absolute_tolerance"] = 1e-6 * ones
  landscape_plots.draw(tmp_path / "plane", [(record, plane)] * 2)
  curvature_plots.plot_ratios([(record, ratios)] * 2, tmp_path / "map.png")
  assert len(drawn) == 3
  for name, figure in drawn.items():
    figure.draw_without_rendering()
    left, right = (
      panel.title.get_window_extent() for panel in figure.axes if panel.get_title()
    )
    assert left.x1 < right.x0, name
    assert left.x0 >= 0, name
