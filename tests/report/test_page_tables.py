"""The tables' numbers and colors."""

import pathlib
import re

import made_up_run
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from emosynth_jax.config import defaults
from emosynth_jax.report import render, tables
from emosynth_jax.utils import files

_CSS = pathlib.Path(tables.__file__).with_name("templates") / "style.css"


def _contrast(first, second):
  """WCAG 2.1's contrast ratio of two colors #rgb or #rrggbb."""

  def luminance(color):
    digits = color.removeprefix("#")
    if len(digits) == 3:
      digits = "".join(2 * digit for digit in digits)
    total = 0
    for weight, start in ((0.2126, 0), (0.7152, 2), (0.0722, 4)):
      c = int(digits[start : start + 2], 16) / 255
      total += weight * (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
    return total

  low, high = sorted((luminance(first), luminance(second)))
  return (high + 0.05) / (low + 0.05)


def test_contrast_by_the_standards_example():
  assert _contrast("#000", "#ffffff") == pytest.approx(21)
  # WebAIM's checker.
  assert _contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.005)


def test_every_cell_of_a_confusion_matrix_can_be_read():
  for share in np.linspace(0, 1, 101):
    style = dict(part.split(":") for part in tables.heat(share).split(";"))
    for scheme in "ld":
      assert _contrast(style[f"--{scheme}"], style[f"--{scheme}i"]) >= 4.5


def test_text_and_lines_stand_out_in_both_schemes():
  schemes = re.findall(r":root \{(.*?)\}", _CSS.read_text(), re.DOTALL)
  assert len(schemes) == 2
  for scheme in schemes:
    colors = dict(re.findall(r"--(\w+): (#\w+)", scheme))
    for ground in ("paper", "panel"):
      for ink in ("ink", "soft", "warn", "accent"):
        assert _contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)
    for k in range(10):
      assert _contrast(colors[f"s{k}"], colors["paper"]) >= 3, k


def _summary():
  return made_up_run.summary([[3, 1, 0], [0, 2, 1], [0, 0, 0]])


def test_rows_of_a_confusion_matrix_are_shares_of_true_classes():
  rows = tables.confusion(_summary())
  assert [row["support"] for row in rows] == [4, 3, 0]
  assert [cell["share"] for cell in rows[0]["cells"]] == [0.75, 0.25, 0.0]
  assert [cell["count"] for cell in rows[1]["cells"]] == [0, 2, 1]
  assert [cell["share"] for cell in rows[2]["cells"]] == [None] * 3
  assert [cell["right"] for cell in rows[1]["cells"]] == [False, True, False]


def test_classes_have_scikit_learns_figures_and_wilsons_intervals():
  labels = np.repeat([0, 1], [4, 3])
  predicted = np.array([0, 0, 0, 1, 1, 1, 2])
  expected = sklearn.metrics.precision_recall_fscore_support(
    labels, predicted, labels=[0, 1, 2], zero_division=0
  )
  rows = tables.classes(_summary())
  for k, row in enumerate(rows):
    found = [row[key] for key in ("precision", "recall", "f1", "support")]
    np.testing.assert_allclose(found, [column[k] for column in expected])

  def wilson(hits, total):
    found = scipy.stats.binomtest(hits, total).proportion_ci(method="wilson")
    return pytest.approx((found.low, found.high))

  assert rows[0]["recall_interval"] == wilson(3, 4)
  assert rows[1]["precision_interval"] == wilson(2, 3)
  # Never there, but predicted once.
  assert rows[2]["recall_interval"] is None
  assert rows[2]["strip"] == ""
  assert rows[2]["precision_interval"] == wilson(0, 1)


def test_only_filled_bins_are_listed():
  bins = [(0.0, 0, 0)] * 13 + [(0.9, 2, 4), (0.95, 3, 3)]
  found = tables.bins(
    made_up_run.summary([[5, 2, 0], [0, 0, 0], [0, 0, 0]], bins=bins)["calibration"]
  )
  assert [row["count"] for row in found] == [4, 3]
  assert [row["accuracy"] for row in found] == [0.5, 1.0]
  assert found[0]["low"] == pytest.approx(13 / 15)


def test_a_config_is_set_against_the_defaults():
  config = defaults.get_default_config()
  assert tables.config_changes(files.to_jsonable(config.to_dict())) == []
  config.optimizer.learning_rate = 0.5
  config.loss = {"name": "cosface", "scale": 8.0}
  assert tables.config_changes(files.to_jsonable(config.to_dict())) == [
    ("loss.name", "cosface", "cross_entropy"),
    ("loss.scale", 8.0, None),
    ("optimizer.learning_rate", 0.5, 0.001),
  ]


def test_class_balance_is_of_each_split():
  rows, totals = tables.class_balance(
    {"train": {"a": 3, "b": 1}, "test": {"a": 0, "b": 0}}
  )
  assert totals == [4, 0]
  assert [cell["share"] for cell in rows[0]["cells"]] == [0.75, 0.0]
  assert [cell["count"] for cell in rows[1]["cells"]] == [1, 0]


@pytest.mark.parametrize(
  ("found", "expected"),
  [
    (render.percent(0.58234), "58.23\u00a0%"),
    (render.percent(-0.0123, 1, sign=True), "\u22121.2\u00a0%"),
    (render.percent("NaN"), "not finite"),
    (render.figure(1.0942, "loss"), "1.0942"),
    (render.figure(0.5, "accuracy", sign=True), "+50.00\u00a0%"),
    (render.points(0.4481), "44.81"),
    (render.span((0.566, 0.598)), "56.6\u201359.8"),
    (render.count(28709), "28,709"),
    (render.commit("0123456789abcdef+dirty"), "0123456789+dirty"),
    (render.p_value(0.0123), "0.012"),
    (render.p_value(float("nan")), "\u2013"),
    (render.setting(1 / 255), "0.00392157"),
    (render.setting([64, 0.5, "x"]), "64, 0.5, x"),
    (render.setting([]), "none"),
    (render.setting(""), "none"),
    (render.setting(False), "no"),
    (render.setting(0), "0"),
    (render.file("a/<b>_c.png"), "a/<wbr>&lt;b&gt;_<wbr>c.png"),
  ],
)
def test_how_values_are_written(found, expected):
  assert found == expected


def test_what_a_page_misses_is_an_error():
  import jinja2

  with pytest.raises(jinja2.UndefinedError):
    render.render("run.html", {})
