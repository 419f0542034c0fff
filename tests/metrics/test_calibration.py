"""Temperature scaling against closed forms, scikit-learn and the evaluation."""

import numpy as np
import pytest
from scipy import optimize, special
from sklearn.metrics import log_loss

from emosynth_jax.metrics import calibration, classification


def _data(n=400, k=4, seed=0):
  """Logits, and labels drawn from their own softmax: calibrated as they are."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 2, (n, k))
  cumulated = special.softmax(logits, -1).cumsum(-1)
  labels = (rng.uniform(size=(n, 1)) > cumulated).sum(-1)
  return logits, labels


def test_calibrated_logits_need_no_temperature():
  found = calibration.fit_temperature(*_data(n=20_000))
  assert found.temperature == pytest.approx(1, abs=0.03)
  assert found.num_examples == 20_000


@pytest.mark.parametrize("factor", [0.3, 5.0])
def test_a_factor_on_the_logits_is_a_factor_on_the_temperature(factor):
  logits, labels = _data()
  plain = calibration.fit_temperature(logits, labels)
  scaled = calibration.fit_temperature(factor * logits, labels)
  assert scaled.temperature == pytest.approx(factor * plain.temperature, rel=1e-4)
  assert scaled.nll_after == pytest.approx(plain.nll_after, rel=1e-8)
  assert scaled.nll_before > scaled.nll_after


def test_the_minimum_is_where_the_derivative_is_zero():
  logits, labels = _data(n=150, seed=3)
  picked = logits[np.arange(len(labels)), labels]

  # d NLL / d beta at beta = 1/T: the mean logit under the softmax less the label's.
  def slope(beta):
    expected = (special.softmax(beta * logits, -1) * logits).sum(-1)
    return (expected - picked).mean()

  found = calibration.fit_temperature(logits, labels)
  root = optimize.brentq(slope, 0.05, 20, xtol=1e-12)
  assert found.temperature == pytest.approx(1 / root, rel=1e-4)


def test_figures_are_scikit_learns_and_the_evaluations():
  logits, labels = _data()
  found = calibration.fit_temperature(logits.astype(np.float32), labels)
  for temperature, nll in (
    (1.0, found.nll_before),
    (found.temperature, found.nll_after),
  ):
    probabilities = special.softmax(logits / temperature, -1)
    assert nll == pytest.approx(log_loss(labels, probabilities), rel=1e-6)
  for temperature, ece in (
    (1.0, found.ece_before),
    (found.temperature, found.ece_after),
  ):
    statistics = classification.batch_statistics(
      (logits / temperature).astype(np.float32),
      labels.astype(np.int32),
      None,
      num_classes=4,
    )
    expected = classification.summarize(statistics, "abcd")[
      "expected_calibration_error"
    ]
    assert ece == pytest.approx(expected, abs=1e-6)


def test_a_temperature_stays_within_its_bounds():
  logits, labels = np.eye(3), np.arange(3)
  assert calibration.fit_temperature(logits, labels).temperature == pytest.approx(
    0.05, rel=1e-3
  )
  wrong = calibration.fit_temperature(logits, np.roll(labels, 1))
  assert wrong.temperature == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize(
  ("logits", "labels", "error", "message"),
  [
    (np.zeros((2, 3), int), np.zeros(2, int), TypeError, "logits: expected a floating"),
    (np.zeros((2, 3)), np.zeros(2), TypeError, "labels: expected an integer"),
    (np.zeros((0, 3)), np.zeros(0, int), ValueError, r"expected the shape \(N, K\)"),
    (np.zeros((2, 3)), np.zeros(3, int), ValueError, r"labels: expected \(2,\)"),
    (np.zeros((2, 3)), np.array([0, 3]), ValueError, r"expected 0\.\.2, got 0\.\.3"),
    (np.full((2, 3), np.nan), np.zeros(2, int), ValueError, "expected finite"),
  ],
)
def test_refusals(logits, labels, error, message):
  with pytest.raises(error, match=message):
    calibration.fit_temperature(logits, labels)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
  """Of the bins (b/15, (b+1)/15], 1/3 is in the fifth and 0.35 in the sixth."""
  logits = np.log([[1 / 3, 1 / 3, 1 / 3], [0.35, 0.325, 0.325]])
  # The first is right and the second wrong: in one bin, their gaps would cancel.
  found = calibration.expected_calibration_error(logits, np.array([0, 1]), 1.0)
  assert found == pytest.approx((2 / 3 + 0.35) / 2)
