"""Charts: every value is where its axis says."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from emosynth_jax.report import charts, svg

_NUMBER = r"-?\d+(?:\.\d+)?"


def _points(path):
  """The corners of a path of M, L and h0."""
  return [
    (float(x), float(y)) for x, y in re.findall(rf"[ML]({_NUMBER}) ({_NUMBER})", path)
  ]


def _of_class(chart, name):
  return [e for e in ET.fromstring(chart).iter() if name in e.get("class", "").split()]


def _axis(chart, index):
  """Value to place, as the labeled ticks of x (0) or y (1) have it, by regression."""
  labels = [e for e in _of_class(chart, "tick") if re.fullmatch(_NUMBER, e.text)]
  anchor = ("middle", "end")[index]
  # A label of y stands 4 units below its line.
  pairs = [
    (float(e.text), float(e.get("xy"[index])) - 4 * index)
    for e in labels
    if e.get("text-anchor") == anchor
  ]
  return np.poly1d(np.polyfit(*map(np.array, zip(*pairs, strict=True)), 1))


def test_curves_go_through_their_values():
  one = charts.Series("s1", [1, 2, 3, 4], [0.5, 2.0, 1.25, 1.0])
  chart = charts.curves([one], "A loss", best_epoch=3)
  x, y = _axis(chart, 0), _axis(chart, 1)
  (line,) = _of_class(chart, "line")
  assert line.get("class") == "line s1"
  expected = [(x(e), y(v)) for e, v in zip(one.epochs, one.values, strict=True)]
  np.testing.assert_allclose(_points(line.get("d")), expected, atol=0.05)
  (mark,) = _of_class(chart, "mark")
  assert float(re.match(rf"M({_NUMBER}) ", mark.get("d"))[1]) == pytest.approx(
    x(3), abs=0.05
  )
  assert ET.fromstring(chart).get("aria-label") == "A loss"


def test_what_is_not_finite_leaves_a_gap():
  one = charts.Series("s0", [1, 2, 3, 4, 5], [1.0, np.nan, 2.0, np.inf, 3.0])
  path = _of_class(charts.curves([one], "A loss"), "line")[0].get("d")
  assert len(_points(path)) == 3
  assert path.count("M") == 3
  assert charts.curves([charts.Series("s0", [1], [np.nan])], "None") is None
  assert charts.curves([charts.Series("s0", [], [])], "None") is None


def test_a_single_epoch_is_a_dot_inside():
  chart = charts.curves([charts.Series("s0", [1], [0.7])], "One epoch")
  ((x, y),) = _points(_of_class(chart, "dots")[0].get("d"))
  assert 44 < x < 350
  assert 10 < y < 184


def test_a_rate_holds_for_its_epoch_on_a_logarithmic_scale():
  one = charts.Series("s2", [1, 2, 3], [1e-2, 1e-3, 1e-4])
  chart = charts.curves([one], "Rate", log=True, steps=True)
  points = np.array(_points(_of_class(chart, "line")[0].get("d")))
  heights = points[:, 1].reshape(3, 2)
  np.testing.assert_array_equal(heights[:, 0], heights[:, 1])
  # Equal ratios are equal distances.
  assert np.ptp(np.diff(heights[:, 0])) < 0.02
  widths = points[:, 0].reshape(3, 2)
  np.testing.assert_allclose(widths[:-1, 1], widths[1:, 0], atol=0.02)
  written = [e.text for e in _of_class(chart, "tick")]
  assert {"1e\u22122", "1e\u22123", "1e\u22124"} <= set(written)


def _calibration():
  return {
    "bin_edges": [0.0, 0.25, 0.5, 0.75, 1.0],
    "confidence": [None, 0.4, 0.6, 0.9],
    "accuracy": [None, 0.5, 0.25, 1.0],
    "count": [0, 2, 4, 14],
  }


def test_bars_are_accuracies_and_dots_confidences():
  chart = charts.reliability([("s1", _calibration())], "Reliability")
  x, y = _axis(chart, 0), _axis(chart, 1)
  bars = _of_class(chart, "bar")
  tops = [float(bar.get("y")) for bar in bars]
  np.testing.assert_allclose(tops, [y(50), y(25), y(100)], atol=0.05)
  lefts = [float(bar.get("x")) for bar in bars]
  np.testing.assert_allclose(lefts, [x(25) + 0.5, x(50) + 0.5, x(75) + 0.5], atol=0.05)
  dots = _points(_of_class(chart, "dots")[0].get("d"))
  expected = [(x(c), y(c)) for c in (40, 60, 90)]
  np.testing.assert_allclose(dots, expected, atol=0.05)


def test_several_networks_are_lines_of_accuracy():
  chart = charts.reliability(
    [("s0", _calibration()), ("s1 dash", _calibration())], "Two"
  )
  x, y = _axis(chart, 0), _axis(chart, 1)
  assert not _of_class(chart, "bar")
  lines = _of_class(chart, "line")
  assert [line.get("class") for line in lines] == ["line s0", "line s1 dash"]
  expected = [(x(40), y(50)), (x(60), y(25)), (x(90), y(100))]
  np.testing.assert_allclose(_points(lines[0].get("d")), expected, atol=0.05)


def test_confidences_are_shares_of_all_images():
  chart = charts.confidences([("s1", _calibration())], "Shares")
  y = _axis(chart, 1)
  heights = [float(bar.get("height")) for bar in _of_class(chart, "bar")]
  np.testing.assert_allclose(
    heights, [y(0) - y(share) for share in (10, 20, 70)], atol=0.05
  )
  # Of several networks as steps, from 0 and back to it.
  both = [("s0", _calibration()), ("s1 dash", _calibration())]
  several = charts.confidences(both, "Shares of two")
  assert not _of_class(several, "bar")
  line, other = _of_class(several, "line")
  assert line.get("d") == other.get("d")
  places = np.array(_points(line.get("d")))
  expected = [y(share) for share in (0, 0, 10, 10, 20, 20, 70, 70, 0)]
  np.testing.assert_allclose(places[:, 1], expected, atol=0.05)


def test_values_of_an_axis_have_the_same_decimals():
  assert list(map(svg.same_decimals([1.8, 2.0, 2.2]), [1.8, 2.0])) == ["1.8", "2.0"]
  assert svg.same_decimals([0.0, 20.0])(20.0) == "20"


def test_every_point_of_an_embedding_is_drawn_in_its_class():
  rng = np.random.default_rng(0)
  points, labels = rng.normal(size=(40, 2)) * [3, 1], rng.integers(0, 3, 40)
  whole, panels = charts.embedding(points, labels, ("a", "<b>", "c"), "Embedding")
  root = ET.fromstring(whole)
  (everything,) = [e for e in root.iter() if e.get("id") == "embedding-all"]
  places = np.array(_points(everything.get("d")))
  # One scale for both axes, and y upwards.
  scale = np.ptp(places[:, 0]) / np.ptp(points[:, 0])
  expected = points * [scale, -scale]
  np.testing.assert_allclose(
    places - places.mean(0), expected - expected.mean(0), atol=0.02
  )
  of_class = _of_class(whole, "points")
  for k in range(3):
    np.testing.assert_array_equal(_points(of_class[k].get("d")), places[labels == k])
    used, own = ET.fromstring(panels[k])
    assert used.get("href") == "#embedding-all"
    assert own.get("d") == of_class[k].get("d")
  assert sorted(e.text for e in _of_class(whole, "name")) == ["<b>", "a", "c"]


def test_names_in_an_embedding_do_not_lie_on_each_other():
  points = np.concatenate([np.zeros((6, 2)), [[9.0, 9.0], [-9.0, -9.0]]])
  labels = np.array([0, 0, 1, 1, 2, 2, 3, 3])
  whole, _ = charts.embedding(points, labels, ("a", "b", "c", "d"), "Embedding")
  heights = sorted(float(e.get("y")) for e in _of_class(whole, "name"))
  assert np.diff(heights).min() >= 15


def test_an_interval_spans_its_bounds():
  root = ET.fromstring(charts.interval(0.25, 0.5, 1.0))
  circle = root.find("circle")
  # From 2 to 118.
  assert float(circle.get("cx")) == 60
  path = next(e for e in root.iter() if "range" in e.get("class", ""))
  assert path.get("d") == "M31 7H118"
  assert root.get("aria-hidden") == "true"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (3.2, 3.4), (2.0, 2.0)])
def test_ticks_span_what_they_are_of(low, high):
  found = svg.ticks(low, high)
  assert found[0] <= low <= high <= found[-1]
  assert 2 <= len(found) <= 8
