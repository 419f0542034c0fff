"""Metrics against scikit-learn, and calibration against a plain float64 loop."""

import functools
import json
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from hypothesis import strategies as st

from emosynth_jax.metrics import classification

_statistics = jax.jit(classification.batch_statistics, static_argnums=(3, 4))


def _names(num_classes: int) -> list[str]:
  return [f"class {k}" for k in range(num_classes)]


def _draw(seed, size, num_classes, scale=2.0):
  """Logits that lean towards the label, so that no figure is at chance level."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, num_classes, size)
  logits = scale * rng.standard_normal((size, num_classes))
  logits[np.arange(size), labels] += 1.5
  return logits.astype(np.float32), labels


def _in_batches(logits, labels, batch_size, num_bins=15, fill=np.nan, fill_label=-1):
  """Statistics of batches of one size, the last filled up with masked rubbish."""
  num_classes = logits.shape[1]
  parts = []
  for start in range(0, len(labels), batch_size):
    x, y = logits[start : start + batch_size], labels[start : start + batch_size]
    missing = batch_size - len(y)
    mask = np.arange(batch_size) < len(y)
    x = np.concatenate([x, np.full((missing, num_classes), fill, np.float32)])
    y = np.concatenate([y, np.full(missing, fill_label)])
    parts.append(_statistics(x, y, mask, num_classes, num_bins))
  return parts


def _reference_calibration(logits, labels, num_bins):
  """ECE and MCE by a loop over the examples, in float64 throughout."""
  confidence, correct, count = (np.zeros(num_bins) for _ in range(3))
  for row, label in zip(logits.astype(np.float64), labels, strict=True):
    probabilities = scipy.special.softmax(row)
    top = probabilities.max()
    # Bins are open on the left: (b/B, (b+1)/B].
    bin_ = next(b for b in range(num_bins) if top <= (b + 1) / num_bins + 1e-12)
    confidence[bin_] += top
    correct[bin_] += int(np.argmax(row)) == label
    count[bin_] += 1
  gaps = [
    abs(correct[b] - confidence[b]) / count[b] for b in range(num_bins) if count[b]
  ]
  weights = [count[b] / len(labels) for b in range(num_bins) if count[b]]
  return sum(w * g for w, g in zip(weights, gaps, strict=True)), max(gaps)


def _assert_is_sklearns(summary, logits, labels):
  num_classes = logits.shape[1]
  predictions = logits.argmax(axis=1)
  classes = list(range(num_classes))
  close = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
  np.testing.assert_array_equal(
    summary["confusion_matrix"],
    sklearn.metrics.confusion_matrix(labels, predictions, labels=classes),
  )
  close(summary["accuracy"], sklearn.metrics.accuracy_score(labels, predictions))
  recalls = sklearn.metrics.recall_score(
    labels, predictions, labels=sorted(set(labels)), average=None
  )
  close(summary["balanced_accuracy"], recalls.mean())
  per_class = sklearn.metrics.precision_recall_fscore_support(
    labels, predictions, labels=classes, zero_division=0
  )
  for name, values in zip(
    ("precision", "recall", "f1", "support"), per_class, strict=True
  ):
    got = [summary["per_class"][c][name] for c in summary["class_names"]]
    close(got, values)
  macro = sklearn.metrics.precision_recall_fscore_support(
    labels, predictions, average="macro", zero_division=0
  )
  for name, value in zip(("precision", "recall", "f1"), macro[:3], strict=True):
    close(summary["macro"][name], value)
  np.testing.assert_allclose(
    summary["loss"],
    sklearn.metrics.log_loss(
      labels, scipy.special.softmax(logits.astype(np.float64), axis=1), labels=classes
    ),
    rtol=2e-6,
  )
  assert summary["num_examples"] == len(labels)


@pytest.mark.parametrize("num_classes", [2, 3, 7, 10])
@pytest.mark.parametrize("batch_size", [1, 50, 64, 137])
def test_masked_partial_batches_agree_with_sklearn(num_classes, batch_size):
  logits, labels = _draw(num_classes, 137, num_classes)
  parts = _in_batches(logits, labels, batch_size)
  summary = classification.summarize(parts, _names(num_classes))
  _assert_is_sklearns(summary, logits, labels)
  assert summary["absent_classes"] == []


def test_balanced_accuracy_is_sklearns():
  logits, labels = _draw(0, 200, 5)
  summary = classification.summarize(_in_batches(logits, labels, 64), _names(5))
  assert summary["balanced_accuracy"] == pytest.approx(
    sklearn.metrics.balanced_accuracy_score(labels, logits.argmax(axis=1)), rel=1e-12
  )


def test_absent_classes():
  """0 occurs and is never predicted, 2 only predicted, 4 neither; 1 and 3 are both."""
  labels = np.array([0, 0, 1, 1, 1, 3, 3, 0])
  predictions = np.array([1, 3, 1, 2, 1, 3, 2, 2])
  logits = (3 * np.eye(5)[predictions]).astype(np.float32)
  summary = classification.summarize(_in_batches(logits, labels, 3), _names(5))
  _assert_is_sklearns(summary, logits, labels)
  assert summary["absent_classes"] == ["class 2", "class 4"]
  # By hand: recalls 0, 2/3 and 1/2 of the three classes that occur.
  assert summary["balanced_accuracy"] == pytest.approx((0 + 2 / 3 + 1 / 2) / 3)
  # And with class 2 (recall 0), but not class 4, in the macro figures.
  assert summary["macro"]["recall"] == pytest.approx((0 + 2 / 3 + 1 / 2 + 0) / 4)
  nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
  assert summary["per_class"]["class 4"] == nothing


def test_a_tie_goes_to_the_first_class():
  logits = np.array([[1, 1, 0], [0, 2, 2], [5, 5, 5], [0, 0, 1]], np.float32)
  labels = np.array([1, 1, 0, 2])
  summary = classification.summarize(_in_batches(logits, labels, 4), _names(3))
  _assert_is_sklearns(summary, logits, labels)
  assert summary["accuracy"] == 0.75


@pytest.mark.parametrize("fill", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("fill_label", [-1, 0, 255])
def test_a_masked_row_adds_nothing_whatever_it_holds(fill, fill_label):
  logits, labels = _draw(1, 10, 3)
  plain = _in_batches(logits, labels, 10)[0]
  padded = _in_batches(logits, labels, 16, fill=fill, fill_label=fill_label)[0]
  for name, value in plain.items():
    np.testing.assert_allclose(padded[name], value, rtol=1e-6, err_msg=name)
  none = _statistics(logits, labels, None, 3, 15)
  jax.tree.map(np.testing.assert_array_equal, none, plain)


def test_an_all_masked_batch_is_zero_and_a_split_without_examples_is_refused():
  logits, labels = _draw(1, 8, 3)
  empty = _statistics(logits, labels, np.zeros(8, bool), 3, 15)
  assert all(np.all(np.asarray(value) == 0) for value in empty.values())
  with pytest.raises(ValueError, match="no examples"):
    classification.summarize(empty, _names(3))
  full = _statistics(logits, labels, None, 3, 15)
  assert classification.summarize([full, empty], _names(3)) == (
    classification.summarize(full, _names(3))
  )


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
  seed=st.integers(0, 2**32 - 1),
  size=st.integers(1, 40),
  batch_size=st.sampled_from([1, 7, 16, 40]),
  num_classes=st.sampled_from([2, 5]),
)
def test_neither_split_into_batches_nor_order_matters(
  seed, size, batch_size, num_classes
):
  logits, labels = _draw(seed, size, num_classes, scale=3.0)
  order = np.random.default_rng(seed).permutation(size)
  whole = classification.sum_statistics(_in_batches(logits, labels, 40))
  for parts in (
    _in_batches(logits, labels, batch_size),
    _in_batches(logits[order], labels[order], 40),
  ):
    total = classification.sum_statistics(parts)
    for name in ("confusion_matrix", "count", "bin_correct", "bin_count"):
      np.testing.assert_array_equal(total[name], whole[name])
    for name in ("loss_sum", "bin_confidence"):
      np.testing.assert_allclose(total[name], whole[name], rtol=1e-5, atol=1e-6)


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), num_classes=st.sampled_from([2, 7]))
def test_renaming_the_classes_permutes_the_figures(seed, num_classes):
  logits, labels = _draw(seed, 40, num_classes)
  order = np.random.default_rng(seed).permutation(num_classes)
  names = _names(num_classes)
  before = classification.summarize(_in_batches(logits, labels, 40), names)
  renamed = _in_batches(logits[:, order], np.argsort(order)[labels], 40)
  after = classification.summarize(renamed, [names[k] for k in order])
  for name in names:
    assert after["per_class"][name] == before["per_class"][name]
  for key in ("accuracy", "balanced_accuracy", "loss", "expected_calibration_error"):
    assert after[key] == pytest.approx(before[key], rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("num_bins", [1, 10, 15])
@pytest.mark.parametrize("num_classes", [2, 7])
def test_calibration_agrees_with_a_float64_loop(num_classes, num_bins):
  logits, labels = _draw(num_bins, 500, num_classes)
  parts = _in_batches(logits, labels, 64, num_bins)
  summary = classification.summarize(parts, _names(num_classes))
  expected, maximum = _reference_calibration(logits, labels, num_bins)
  assert expected > 0.01  # the case would catch an error that is always 0
  assert summary["expected_calibration_error"] == pytest.approx(expected, rel=1e-5)
  assert summary["max_calibration_error"] == pytest.approx(maximum, rel=1e-5)


def test_calibration_by_hand():
  """Confidences .9, .9, .9, .9 (three right) and .6 (wrong), in ten bins."""
  probabilities = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]], np.float32)
  labels = np.array([0, 0, 0, 1, 0])
  # .9 lies at an edge and rounding may put it in either bin: both give this figure.
  parts = _in_batches(np.log(probabilities), labels, 5, num_bins=10)
  summary = classification.summarize(parts, _names(2))
  assert summary["expected_calibration_error"] == pytest.approx(
    (4 * 0.15 + 1 * 0.6) / 5, rel=1e-5
  )
  assert summary["max_calibration_error"] == pytest.approx(0.6, rel=1e-5)


@pytest.mark.parametrize(
  ("logits", "num_bins", "bin_"),
  [
    ([0, 0], 10, 4),  # .5 belongs to (.4, .5]
    ([0, 0, 0, 0], 4, 0),  # .25 belongs to (0, .25]
    ([0, -1e4], 10, 9),  # 1 belongs to the last bin
    ([0, -np.inf], 10, 9),
    ([1e4, -1e4], 15, 14),
  ],
)
def test_an_edge_belongs_to_the_bin_below(logits, num_bins, bin_):
  logits = np.array([logits], np.float32)
  statistics = _statistics(logits, np.array([0]), None, logits.shape[1], num_bins)
  expected = np.zeros(num_bins)
  expected[bin_] = 1
  np.testing.assert_array_equal(statistics["bin_count"], expected)


def test_empty_bins_are_none_and_the_report_is_plain_json():
  logits = np.array([[9, 0], [9, 0]], np.float32)
  parts = _in_batches(logits, np.array([0, 1]), 2, num_bins=4)
  summary = classification.summarize(parts, ["a", "b"])
  calibration = summary["calibration"]
  assert calibration["bin_edges"] == [0, 0.25, 0.5, 0.75, 1]
  assert calibration["count"] == [0, 0, 0, 2]
  assert calibration["accuracy"] == [None, None, None, 0.5]
  assert calibration["confidence"][:3] == [None] * 3
  assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_a_hundred_thousand_examples_lose_no_precision():
  """Adding in float32 would show in the seventh digit, and these agree in 13."""
  logits, labels = _draw(3, 1000, 7)
  part = _statistics(logits, labels, None, 7, 15)
  stacked = jax.tree.map(lambda x: np.broadcast_to(x, (10, 20, *x.shape)), part)
  one, many = (classification.summarize(s, _names(7)) for s in (part, stacked))
  assert many["num_examples"] == 200_000
  for key in ("accuracy", "loss", "expected_calibration_error"):
    assert many[key] == pytest.approx(one[key], rel=1e-13)


def test_scan_and_vmap_stack_what_summarize_adds():
  logits, labels = _draw(4, 48, 3)
  batches = (logits.reshape(4, 12, 3), labels.reshape(4, 12), np.ones((4, 12), bool))

  @jax.jit
  def scan(batches):
    step = lambda carry, batch: (carry, classification.batch_statistics(*batch, 3))  # noqa: E731
    return jax.lax.scan(step, 0, batches)[1]

  vmap = jax.jit(jax.vmap(lambda *batch: classification.batch_statistics(*batch, 3)))
  for stacked in (scan(batches), vmap(*batches)):
    _assert_is_sklearns(classification.summarize(stacked, _names(3)), logits, labels)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_logits_are_summed_in_float32(dtype):
  logits, labels = _draw(5, 300, 3)
  logits = jnp.asarray(logits, dtype)
  statistics = _statistics(logits, labels.astype(np.uint8), None, 3, 15)
  assert statistics["loss_sum"].dtype == jnp.float32
  exact = np.asarray(logits.astype(jnp.float32))
  _assert_is_sklearns(classification.summarize(statistics, _names(3)), exact, labels)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_non_finite_logit_is_never_hidden(bad):
  logits, labels = _draw(6, 8, 3)
  logits[3, 1] = bad
  summary = classification.summarize(
    _statistics(logits, labels, None, 3, 15), _names(3)
  )
  assert math.isnan(summary["loss"])
  assert math.isnan(summary["expected_calibration_error"])


def test_huge_finite_logits_stay_finite():
  logits = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32)
  summary = classification.summarize(
    _statistics(logits, np.array([0, 0]), None, 2, 15), ["a", "b"]
  )
  assert summary["loss"] == pytest.approx(1e4)  # (0 + 2e4) / 2
  assert summary["max_calibration_error"] == pytest.approx(0.5)


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_a_label_out_of_range_is_refused(label):
  logits, labels = _draw(6, 8, 3)
  labels[2] = label
  statistics = _statistics(logits, labels, None, 3, 15)
  with pytest.raises(ValueError, match=r"1 of 8 are outside 0\.\.2"):
    classification.summarize(statistics, _names(3))


@pytest.mark.parametrize(
  ("change", "error", "message"),
  [
    ({"logits": np.zeros((4, 3), int)}, TypeError, "logits: expected a floating"),
    ({"labels": np.zeros(4, np.float32)}, TypeError, "labels: expected an integer"),
    ({"labels": np.zeros(4, bool)}, TypeError, "labels: expected an integer"),
    ({"mask": np.ones(4, np.float32)}, TypeError, "mask: expected dtype bool"),
    ({"logits": np.zeros((4, 2), np.float32)}, ValueError, r"\(N, 3\), got \(4, 2\)"),
    ({"logits": np.zeros(3, np.float32)}, ValueError, r"\(N, 3\), got \(3,\)"),
    ({"labels": np.zeros((4, 1), int)}, ValueError, r"labels: .*\(4,\), got \(4, 1\)"),
    ({"mask": np.ones(3, bool)}, ValueError, r"mask: .*\(4,\), got \(3,\)"),
    ({"num_classes": 1}, ValueError, "num_classes: expected at least 2"),
    ({"num_bins": 0}, ValueError, "num_bins: expected at least 1"),
  ],
)
def test_bad_input_is_refused(change, error, message):
  arguments = {
    "logits": np.zeros((4, 3), np.float32),
    "labels": np.zeros(4, int),
    "mask": np.ones(4, bool),
    "num_classes": 3,
    "num_bins": 15,
  }
  with pytest.raises(error, match=message):
    classification.batch_statistics(**{**arguments, **change})


def test_statistics_that_do_not_fit_are_refused():
  logits, labels = _draw(7, 8, 3)
  part = _statistics(logits, labels, None, 3, 15)
  other = _statistics(logits, labels, None, 3, 10)
  with pytest.raises(ValueError, match="at least one batch"):
    classification.sum_statistics([])
  with pytest.raises(ValueError, match=r"'bin_confidence': \(15,\) and \(10,\)"):
    classification.sum_statistics([part, other])
  with pytest.raises(ValueError, match="expected the keys"):
    classification.sum_statistics({"count": 1})
  with pytest.raises(ValueError, match="bin_count: expected at least 1 axes"):
    classification.sum_statistics({**part, "bin_count": 3})
  with pytest.raises(ValueError, match=r"class_names: expected 3 .* got 2"):
    classification.summarize(part, ["a", "b"])
  with pytest.raises(ValueError, match="distinct"):
    classification.summarize(part, ["a", "b", "a"])
