"""Small statistics against SciPy and worked examples."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from emosynth_jax.metrics.statistics import (
  holm,
  mcnemar,
  mean_and_deviation,
  paired_bootstrap,
  paired_difference,
  proportion_interval,
)

_VALUES = st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=12, unique=True)


def test_mean_and_deviation_by_hand():
  # Deviations from the mean 4: -2, 0, 2; their squares sum to 8, over n - 1 = 2.
  assert mean_and_deviation([2, 4, 6]) == (4.0, 2.0)


def test_one_value_has_no_deviation():
  mean, deviation = mean_and_deviation([3.5])
  assert mean == 3.5
  assert math.isnan(deviation)
  with pytest.raises(ValueError, match="at least one"):
    mean_and_deviation([])


@given(_VALUES, st.floats(0.5, 0.99))
def test_paired_difference_is_scipys_paired_t_test(values, confidence):
  ours, baseline = np.asarray(values), np.sin(np.arange(len(values)))
  reference = scipy.stats.ttest_rel(ours, baseline)
  low, high = reference.confidence_interval(confidence)
  result = paired_difference(ours, baseline, confidence)
  np.testing.assert_allclose(
    [result["mean"], result["low"], result["high"], result["p_value"]],
    [np.mean(ours - baseline), low, high, reference.pvalue],
    rtol=1e-9,
    atol=1e-12,
  )


def test_pairing_removes_what_the_pairs_share():
  # Seeds that differ by ten points, a loss that is better by one in each of them.
  baseline = [50.0, 60.0, 70.0]
  result = paired_difference([51.1, 60.9, 71.0], baseline)
  assert 0 < result["low"] < 1 < result["high"]
  # By table, t of 2 degrees of freedom is 4.303 at 97.5 %.
  half = 4.303 * np.std([1.1, 0.9, 1.0], ddof=1) / math.sqrt(3)
  assert result["high"] - 1 == pytest.approx(half, rel=1e-3)


def test_too_few_to_say():
  one = paired_difference([2.0], [1.0])
  assert one["mean"] == 1
  assert all(math.isnan(one[k]) for k in ("low", "high", "p_value"))
  equal = paired_difference([2.0, 3.0], [1.0, 2.0])
  assert (equal["low"], equal["high"]) == (1, 1)
  assert math.isnan(equal["p_value"])
  assert paired_difference([2.0, 3.0], [2.0, 3.0])["p_value"] == 1


@pytest.mark.parametrize("n", [2, 3, 5])
def test_equal_differences_of_fractions_are_equal_in_spite_of_rounding(n):
  # n accuracies of 3000 images, each with ten more images right.
  baseline = [(1900 + 41 * i) / 3000 for i in range(n)]
  result = paired_difference([b + 10 / 3000 for b in baseline], baseline)
  assert math.isnan(result["p_value"])
  assert result["low"] == result["high"] == pytest.approx(1 / 300)
  # One image more is no rounding.
  baseline[0] -= 1 / 3000
  ours = [(1910 + 41 * i) / 3000 for i in range(n)]
  assert 0 < paired_difference(ours, baseline)["p_value"] < 0.1


def test_pairs_are_checked():
  with pytest.raises(ValueError, match="2 and 1"):
    paired_difference([1.0, 2.0], [1.0])
  with pytest.raises(ValueError, match="confidence"):
    paired_difference([1.0, 2.0], [1.0, 3.0], 95)


def test_holm_by_hand():
  # Sorted: .01 x 4, .02 x 3, .03 x 2 = .06 (not below its forerunner), .5 x 1.
  assert holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
  assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_leaves_missing_tests_out_of_the_count():
  corrected = holm([0.01, math.nan, 0.04])
  assert math.isnan(corrected[1])
  assert corrected[::2] == pytest.approx([0.02, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_none_and_bonferroni(p_values):
  corrected = np.asarray(holm(p_values))
  p_values = np.asarray(p_values)
  assert np.all(corrected >= p_values)
  assert np.all(corrected <= np.minimum(len(p_values) * p_values, 1) + 1e-12)
  order = np.argsort(p_values, kind="stable")
  assert np.all(np.diff(corrected[order]) >= 0)


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(0.5, 0.999))
def test_the_bounds_of_a_proportion_solve_wilsons_equation(total, share, confidence):
  successes = round(share * total)
  low, high = proportion_interval(successes, total, confidence)
  z = scipy.stats.norm.ppf((1 + confidence) / 2)
  found = successes / total
  assert 0 <= low <= found <= high <= 1
  for bound in (low, high):
    # Squared, as a bound at 0 or 1 is one only to rounding.
    np.testing.assert_allclose(
      (found - bound) ** 2, z**2 * bound * (1 - bound) / total, atol=1e-9
    )


def test_a_proportion_of_nothing_and_mistakes():
  assert all(math.isnan(bound) for bound in proportion_interval(0, 0))
  with pytest.raises(ValueError, match=r"successes: expected 0 to 3, got 4"):
    proportion_interval(4, 3)
  with pytest.raises(ValueError, match=r"confidence: expected .* got 95"):
    proportion_interval(1, 3, 95)


def _paired(b, c, both=5, neither=3):
  """Right and wrong of two classifiers, b images by the first alone."""
  ours = [1] * b + [0] * c + [1] * both + [0] * neither
  baseline = [0] * b + [1] * c + [1] * both + [0] * neither
  return ours, baseline


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_scipys_binomial_test(b, c):
  result = mcnemar(*_paired(b, c))
  assert (result["only_ours"], result["only_baseline"]) == (b, c)
  expected = scipy.stats.binomtest(b, b + c).pvalue if b + c else 1.0
  assert result["p_value"] == pytest.approx(expected, rel=1e-10)


def test_mcnemar_by_hand():
  # 2 (1 + 6) / 2^6, P(X <= 1) of six coins, twice.
  assert mcnemar(*_paired(5, 1))["p_value"] == pytest.approx(14 / 64)


def test_paired_bootstrap_has_the_interval_of_the_normal_limit():
  ours, baseline = _paired(220, 150, both=2500, neither=700)
  found = paired_bootstrap(ours, baseline)
  differences = np.subtract(ours, baseline)
  error = differences.std() / math.sqrt(len(differences))
  assert found["mean"] == pytest.approx(70 / 3570)
  for name, sign in (("low", -1), ("high", 1)):
    expected = 70 / 3570 + sign * scipy.stats.norm.ppf(0.975) * error
    assert found[name] == pytest.approx(expected, abs=0.05 * error)


def test_paired_bootstrap_draws_images_as_scipys_does():
  rng = np.random.default_rng(0)
  ours, baseline = rng.normal(0.3, 1, 40), rng.normal(0, 1, 40)
  found = paired_bootstrap(ours, baseline, confidence=0.9, num_resamples=40_000)
  reference = scipy.stats.bootstrap(
    (ours, baseline),
    lambda x, y, axis: (x - y).mean(axis=axis),
    paired=True,
    n_resamples=40_000,
    confidence_level=0.9,
    method="percentile",
    rng=np.random.default_rng(1),
  ).confidence_interval
  np.testing.assert_allclose([found["low"], found["high"]], reference, atol=0.01)
  assert paired_bootstrap(ours, baseline) == paired_bootstrap(ours, baseline)


def test_equal_classifiers_have_no_difference():
  ours, _ = _paired(3, 4)
  assert paired_bootstrap(ours, ours) == {"mean": 0.0, "low": 0.0, "high": 0.0}
  assert mcnemar(ours, ours)["p_value"] == 1.0


@pytest.mark.parametrize("test", [mcnemar, paired_bootstrap])
def test_what_is_not_paired_by_image_is_refused(test):
  for ours, baseline in (([], []), ([1], [1, 0]), ([[1]], [[0]])):
    with pytest.raises(ValueError, match="expected pairs, at least one"):
      test(ours, baseline)


def test_what_is_not_finite_has_no_bootstrap():
  for pair in (([1.0, math.nan], [0.0, 1.0]), ([0.0, 1.0], [1.0, math.inf])):
    with pytest.raises(ValueError, match="expected finite values"):
      paired_bootstrap(*pair)
  with pytest.raises(ValueError, match=r"confidence: expected a number in \(0, 1\)"):
    paired_bootstrap([1.0], [0.0], confidence=1.0)
