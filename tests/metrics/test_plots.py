"""Plots: what is drawn, that it can be read, and that pyplot stays out of it."""

import itertools
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from matplotlib import colors

from emosynth_jax.metrics import plots
from emosynth_jax.utils import plotting


@pytest.fixture
def drawn(monkeypatch):
  """The figures that were saved, in order."""
  figures = []
  save = plotting.save

  def keep(figure, path):
    figures.append(figure)
    save(figure, path)

  monkeypatch.setattr(plotting, "save", keep)
  return figures


def _records(num_epochs):
  return [
    {
      "epoch": epoch,
      "train/loss": 2 / epoch,
      "train/accuracy": 1 - 0.6 / epoch,
      "validation/loss": 2 / epoch + 0.1,
      "validation/accuracy": 1 - 0.7 / epoch,
      "learning_rate": 1e-3 if epoch < 4 else 1e-4,
      "train/gradient_norm": 1.0,
    }
    for epoch in range(1, num_epochs + 1)
  ]


_CALIBRATION = {
  "bin_edges": [0, 0.25, 0.5, 0.75, 1],
  "confidence": [None, 0.4, 0.6, 0.9],
  "accuracy": [None, 0.5, 0.5, 0.8],
  "count": [0, 10, 30, 60],
}


def _lines(axis):
  return {line.get_label(): line for line in axis.lines}


def test_curves_are_the_records_in_per_cent_where_they_are_shares(tmp_path, drawn):
  records = _records(6)
  plots.plot_curves(records, tmp_path / "curves.png", best_epoch=5)
  loss, accuracy, rate = drawn[0].axes
  for split in ("train", "validation"):
    for axis, name, factor in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
      line = _lines(axis)[split]
      np.testing.assert_array_equal(line.get_xdata(), range(1, 7))
      np.testing.assert_allclose(
        line.get_ydata(), [factor * record[f"{split}/{name}"] for record in records]
      )
  np.testing.assert_array_equal(
    rate.lines[0].get_ydata(), [record["learning_rate"] for record in records]
  )
  legend = [text.get_text() for text in accuracy.get_legend().get_texts()]
  assert legend == ["train", "validation", "chosen: epoch 5"]
  # Distinguishable without color.
  styles = {_lines(loss)[split].get_linestyle() for split in ("train", "validation")}
  assert len(styles) == 2


def test_curves_leave_a_gap_for_a_value_that_is_not_finite(tmp_path, drawn):
  records = _records(5)
  records[1]["validation/loss"] = "NaN"  # as metrics.jsonl holds it
  records[2]["validation/loss"] = float("inf")
  plots.plot_curves(records, tmp_path / "curves.png")
  values = _lines(drawn[0].axes[0])["validation"].get_ydata()
  np.testing.assert_array_equal(np.isnan(values), [False, True, True, False, False])


def test_a_mean_is_of_the_epochs_that_all_runs_validated():
  runs = [_records(6), _records(5)]
  for record in (runs[0][0], runs[1][2]):
    del record["validation/accuracy"]
  epochs, means = plots.mean_series(runs, "validation/accuracy")
  np.testing.assert_array_equal(epochs, [2, 4, 5])
  np.testing.assert_allclose(means, [1 - 0.7 / 2, 1 - 0.7 / 4, 1 - 0.7 / 5])


def test_curves_of_one_epoch_and_of_few_columns(tmp_path, drawn):
  plots.plot_curves(_records(1), tmp_path / "one.png", best_epoch=1)
  ticks = drawn[0].axes[2].get_xticks()
  np.testing.assert_array_equal(ticks, np.round(ticks))
  assert _lines(drawn[0].axes[0])["train"].get_marker() == "o"  # or it is invisible
  rows = [{"epoch": 1, "train/loss": 1.0}, {"step": 3}, {"epoch": 2, "train/loss": 0.5}]
  plots.plot_curves(rows, tmp_path / "few.png")
  assert [len(axis.lines) for axis in drawn[1].axes] == [1, 0, 0]
  # A learning rate of 0, or nearly 0, has no place on a logarithmic axis.
  assert plots.suits_log_scale([1e-3, 1e-3, 1e-4, 1e-5])
  assert not plots.suits_log_scale([2e-3, 1e-3, 1e-8])
  assert not plots.suits_log_scale([1e-3, 0.0])
  assert not plots.suits_log_scale([])
  plots.plot_curves([{"epoch": 1, "learning_rate": 0.0}], tmp_path / "zero.png")
  assert drawn[2].axes[2].get_yscale() == "linear"


@pytest.mark.parametrize("records", [[], [{"epoch": 1}], [{"train/loss": 1.0}]])
def test_curves_of_nothing_are_refused(tmp_path, records):
  with pytest.raises(ValueError, match=r"records: expected .*'epoch'.*train/loss"):
    plots.plot_curves(records, tmp_path / "curves.png")
  assert not (tmp_path / "curves.png").exists()


def test_confusion_matrix_shows_shares_of_the_row_and_counts(tmp_path, drawn):
  matrix = [[30, 10, 0], [0, 1500, 500], [0, 0, 0]]
  plots.plot_confusion_matrix(matrix, ["a", "b", "c"], tmp_path / "m.png", "title")
  axis = drawn[0].axes[0]
  shares = axis.images[0].get_array()
  np.testing.assert_allclose(shares[:2], [[75, 25, 0], [0, 75, 25]])
  assert shares.mask[2].all()  # no example, no share
  cells = {}
  for text in axis.texts:
    column, row = text.get_position()
    cells.setdefault((round(row), round(column)), []).append(text.get_text())
  assert cells == {
    (0, 0): ["75.0", "30"],
    (0, 1): ["25.0", "10"],
    (1, 1): ["75.0", "1,500"],
    (1, 2): ["25.0", "500"],
  }
  assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]
  assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
  assert (axis.get_ylabel(), axis.get_xlabel()) == ("true", "predicted")


def _luminance(color):
  """Relative luminance as WCAG 2.1 defines it."""
  channels = np.array(colors.to_rgb(color))
  linear = np.where(
    channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
  )
  return float(linear @ [0.2126, 0.7152, 0.0722])


def test_every_figure_in_a_cell_contrasts_with_it(tmp_path, monkeypatch):
  """4.5 : 1, what WCAG 2.1 (1.4.3) asks of text, for every share from 1 to 99."""
  drawn = []
  # Colors need no file.
  monkeypatch.setattr(plotting, "save", lambda figure, path: drawn.append(figure))
  names = [str(k) for k in range(20)]
  for first in (1, 21, 41):
    matrix = np.zeros((20, 20), int)
    matrix[:, 0] = np.arange(first, first + 20)
    matrix[:, 1] = 100 - matrix[:, 0]
    plots.plot_confusion_matrix(matrix, names, tmp_path / "m.png")
  ratios = []
  for figure in drawn:
    axis = figure.axes[0]
    image = axis.images[0]
    for text in axis.texts:
      column, row = text.get_position()
      cell = image.to_rgba(image.get_array())[round(row), round(column)]
      light, dark = sorted(
        (_luminance(cell[:3]), _luminance(text.get_color())), reverse=True
      )
      ratios.append((light + 0.05) / (dark + 0.05))
  assert len(ratios) == 3 * 20 * 2 * 2  # figures, rows, cells, lines
  assert min(ratios) >= 4.5


@pytest.mark.parametrize("num_classes", [2, 7, 10, 20])
def test_the_figures_of_a_cell_fit_into_it(tmp_path, drawn, num_classes):
  names = [f"expression {k}" for k in range(num_classes)]
  matrix = np.full((num_classes, num_classes), 12345)
  plots.plot_confusion_matrix(matrix, names, tmp_path / "m.png", "title")
  axis = drawn[0].axes[0]
  edges = axis.transData.transform([[-0.5, 0.5], [0.5, -0.5]])
  cell_width, cell_height = edges[1] - edges[0]
  share, count = (text.get_window_extent() for text in axis.texts[:2])
  assert max(share.width, count.width) < cell_width
  assert share.height + count.height < cell_height
  assert not share.overlaps(count)
  # Nor do the names of two rows meet.
  boxes = [label.get_window_extent() for label in axis.get_yticklabels()]
  assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


@pytest.mark.parametrize("names", [["a", "$b_$", "c$"], ["long expression"] * 3])
def test_nothing_is_cut_off_at_the_edge(tmp_path, names):
  plots.plot_confusion_matrix(np.eye(3, dtype=int), names, tmp_path / "m.png")
  plots.plot_curves(_records(3), tmp_path / "c.png")
  plots.plot_reliability(_CALIBRATION, tmp_path / "r.png", "long title " * 20)
  for name in ("m.png", "c.png", "r.png"):
    with PIL.Image.open(tmp_path / name) as image:
      pixels = np.asarray(image.convert("L"))
    border = [pixels[:6], pixels[-6:], pixels[:, :6].T, pixels[:, -6:].T]
    assert np.concatenate(border, axis=1).min() == 255


def test_many_classes_have_colors_only(tmp_path, drawn):
  plots.plot_confusion_matrix(
    np.eye(30, dtype=int), [str(k) for k in range(30)], tmp_path / "m.png"
  )
  assert not drawn[0].axes[0].texts


def test_a_name_with_dollar_signs_is_not_read_as_mathematics(tmp_path):
  plots.plot_confusion_matrix(
    np.eye(2, dtype=int), ["$x_$", r"$\frac$"], tmp_path / "m.png", "$^$ and $_$"
  )
  plots.plot_reliability(_CALIBRATION, tmp_path / "r.png", "$^$ and $_$")


@pytest.mark.parametrize(
  ("matrix", "names", "message"),
  [
    (np.eye(3), ["a", "b"], r"expected shape \(2, 2\) for 2 class names, got \(3, 3\)"),
    (np.ones((2, 3)), ["a", "b"], r"got \(2, 3\)"),
    (np.zeros((0, 0)), [], r"got \(0, 0\)"),
    ([[1, -1], [0, 1]], ["a", "b"], "expected counts, got -1"),
  ],
)
def test_a_bad_confusion_matrix_is_refused(tmp_path, matrix, names, message):
  with pytest.raises(ValueError, match=message):
    plots.plot_confusion_matrix(matrix, names, tmp_path / "m.png")


def test_shares_instead_of_counts_are_refused(tmp_path):
  with pytest.raises(TypeError, match="expected integer counts, got float64"):
    plots.plot_confusion_matrix(np.eye(2), ["a", "b"], tmp_path / "m.png")


def test_reliability_shows_accuracy_confidence_gap_and_share(tmp_path, drawn):
  plots.plot_reliability(_CALIBRATION, tmp_path / "r.png", "title")
  top, bottom = drawn[0].axes
  np.testing.assert_allclose([bar.get_height() for bar in top.patches], [50, 50, 80])
  np.testing.assert_allclose([bar.get_x() for bar in top.patches], [25, 50, 75])
  np.testing.assert_allclose([bar.get_height() for bar in bottom.patches], [10, 30, 60])
  np.testing.assert_allclose(_lines(top)["mean confidence"].get_xdata(), [40, 60, 90])
  # .1 * 10 + .3 * 10 + .6 * 10, by hand
  title = drawn[0].get_suptitle()
  assert title == "title\nexpected calibration error 10.00 %"


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"count": [1, 2]}, r"bin_edges to be one longer .* got lengths \[5, 2, 4, 4\]"),
    ({"count": [0, 0, 0, 0]}, "a non-empty bin, got none"),
  ],
)
def test_a_bad_calibration_is_refused(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    plots.plot_reliability({**_CALIBRATION, **change}, tmp_path / "r.png")


def test_the_files_are_png_and_the_same_figures_give_the_same_bytes(tmp_path):
  for name in ("first", "second"):
    plots.plot_curves(_records(3), tmp_path / f"{name}-curves.png")
    plots.plot_confusion_matrix([[3, 1], [0, 4]], "ab", tmp_path / f"{name}-matrix.png")
    plots.plot_reliability(_CALIBRATION, tmp_path / f"{name}-reliability.png")
  for kind in ("curves", "matrix", "reliability"):
    first, second = (tmp_path / f"{name}-{kind}.png" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    with PIL.Image.open(first) as image:
      assert image.format == "PNG"
      assert "Software" not in image.info  # its version would differ
      assert min(image.size) > 400
      assert len(image.convert("RGB").getcolors(image.width * image.height)) > 10


def test_pyplot_is_never_imported(tmp_path):
  script = f"""
import sys
from emosynth_jax.metrics import plots
plots.plot_confusion_matrix([[1, 0], [0, 1]], ["a", "b"], {str(tmp_path / "m.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
  subprocess.run([sys.executable, "-c", script], check=True)
