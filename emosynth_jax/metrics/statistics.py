"""Confidence intervals and paired tests."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
  """Mean and sample standard deviation (n - 1), which is NaN for a single value.

  Args:
    values: n numbers, at least one.

  Returns:
    The mean and the deviation.

  Raises:
    ValueError: if there is no value.
  """
  if not len(values):
    raise ValueError("values: expected at least one, got none")
  array = np.asarray(values, np.float64)
  deviation = float(array.std(ddof=1)) if len(array) > 1 else math.nan
  return float(array.mean()), deviation


def paired_difference(
  ours: Sequence[float], baseline: Sequence[float], confidence: float = 0.95
) -> dict[str, float]:
  r"""Paired difference: mean, with Student's confidence interval and t-test.

  With the n differences' mean d and deviation s, the interval is
  :math:`d \pm t_{n-1} s / \sqrt n`. It covers only the variation over the pairs (the
  seeds), not that of the sample of images.

  Args:
    ours: n values.
    baseline: n values, paired with `ours` by position.
    confidence: of the interval, in (0, 1).

  Returns:
    "mean", "low", "high" and "p_value" (two-sided, of no difference); all but the mean
    are NaN for one pair. Differences that are all equal to within rounding, but not
    0, give an interval of zero width and a p-value of NaN, since their variance cannot
    be estimated.

  Raises:
    ValueError: for lengths that differ, no pair, or a confidence out of range.
  """
  if len(ours) != len(baseline) or not len(ours):
    raise ValueError(
      f"expected pairs, at least one; got {len(ours)} and {len(baseline)} values"
    )
  if not 0 < confidence < 1:
    raise ValueError(f"confidence: expected a number in (0, 1), got {confidence}")

  pairs = np.asarray([ours, baseline], np.float64)
  differences = pairs[0] - pairs[1]
  mean, deviation = mean_and_deviation(differences)

  # Differences that are equal but for the rounding of their terms (1951/3000 -
  # 1941/3000 and 2001/3000 - 1991/3000) would otherwise appear highly significant.
  if deviation <= 1e-14 * np.abs(pairs).max():
    deviation = 0.0
  n = len(differences)
  if n == 1:
    return {"mean": mean, "low": math.nan, "high": math.nan, "p_value": math.nan}

  error = deviation / math.sqrt(n)
  half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * error
  if error:
    p_value = float(2 * special.stdtr(n - 1, -abs(mean) / error))
  else:
    p_value = math.nan if mean else 1.0

  return {"mean": mean, "low": mean - half, "high": mean + half, "p_value": p_value}


def mcnemar(ours: Sequence[bool], baseline: Sequence[bool]) -> dict[str, float]:
  r"""McNemar's exact test of two classifiers on the same images.

  Of the b images that only the first classifies correctly and the c that only the
  second does, b is binomial with b + c trials of probability 1/2 where both have the
  same accuracy. The two-sided p-value is :math:`\min(1, 2 P(X \le \min(b, c)))`.

  Args:
    ours: whether each of N images is classified correctly.
    baseline: likewise, by the other classifier, paired by position.

  Returns:
    "only_ours" (b), "only_baseline" (c), and "p_value", 1 where b + c is 0. It covers
    only the sampling of independent images, not the variation over seeds.

  Raises:
    ValueError: for lengths that differ, or no image.

  References:
    McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", 1947;
    Dietterich, "Approximate Statistical Tests for Comparing Supervised Classification
    Learning Algorithms", 1998
  """
  first, second = (np.asarray(each, bool) for each in (ours, baseline))
  _check_pairs(first, second)
  b, c = int((first & ~second).sum()), int((second & ~first).sum())
  p_value = min(1.0, 2 * float(special.bdtr(min(b, c), b + c, 0.5)))
  return {"only_ours": b, "only_baseline": c, "p_value": p_value}


def paired_bootstrap(
  ours: Sequence[float],
  baseline: Sequence[float],
  *,
  confidence: float = 0.95,
  num_resamples: int = 10_000,
  seed: int = 0,
) -> dict[str, float]:
  """Bootstrap confidence interval of a mean paired difference over images.

  Images are drawn with replacement, each with both of its values; the interval is that
  of the percentiles of the resamples' mean differences.

  Args:
    ours: N values, one an image, as 1 for right and 0 for wrong.
    baseline: N values, paired with `ours` by position.
    confidence: of the interval, in (0, 1).
    num_resamples: number of resamples.
    seed: of the draws.

  Returns:
    "mean", "low" and "high" of the difference. It covers only the sampling of
    independent images, not the variation over seeds.

  Raises:
    ValueError: for lengths that differ, no image, values that are not finite, or a
      confidence out of range.

  References:
    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13
  """
  first, second = (np.asarray(each, np.float64) for each in (ours, baseline))
  _check_pairs(first, second)
  if not 0 < confidence < 1:
    raise ValueError(f"confidence: expected a number in (0, 1), got {confidence}")
  if not (np.isfinite(first).all() and np.isfinite(second).all()):
    raise ValueError("expected finite values")

  # Equal differences are drawn together: their counts are multinomial.
  differences, counts = np.unique(first - second, return_counts=True)
  generator = np.random.Generator(np.random.PCG64(seed))
  n = len(first)
  drawn = generator.multinomial(n, counts / n, size=num_resamples)
  means = drawn @ differences / n
  tail = (1 - confidence) / 2
  low, high = np.quantile(means, [tail, 1 - tail])
  return {
    "mean": float((first - second).mean()),
    "low": float(low),
    "high": float(high),
  }


def _check_pairs(ours: np.ndarray, baseline: np.ndarray) -> None:
  if ours.ndim != 1 or ours.shape != baseline.shape or not len(ours):
    raise ValueError(
      f"expected pairs, at least one; got {ours.shape} and {baseline.shape} values"
    )


def describe_p_value(p_value: float) -> str:
  """The p-value of `paired_difference` in words."""
  if math.isnan(p_value):
    return "no test: all differences are equal"
  return f"p = {p_value:.2g}"


def proportion_interval(
  successes: int, total: int, confidence: float = 0.95
) -> tuple[float, float]:
  r"""Wilson confidence interval of a proportion, such as an accuracy or a recall.

  The proportions p that a score test does not reject: with :math:`\hat p = k / n`,
  those of :math:`|\hat p - p| \le z \sqrt{p (1 - p) / n}`. It covers only the sampling
  of independent images, not the variation over seeds; near-duplicates among the images
  make it too narrow.

  Args:
    successes: k.
    total: n, at least 0.
    confidence: in (0, 1).

  Returns:
    The two bounds; NaN where n is 0.

  Raises:
    ValueError: if k is not in 0..n, or for a confidence out of range.

  References:
    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference",
    1927
  """
  if not 0 <= successes <= total:
    raise ValueError(f"successes: expected 0 to {total}, got {successes}")
  if not 0 < confidence < 1:
    raise ValueError(f"confidence: expected a number in (0, 1), got {confidence}")
  if total == 0:
    return math.nan, math.nan

  z = float(special.ndtri((1 + confidence) / 2))
  center = successes + z**2 / 2
  half = z * math.sqrt(successes * (total - successes) / total + z**2 / 4)
  # The bounds of no and of all successes are exact, not off by a rounding.
  low = (center - half) / (total + z**2) if successes else 0.0
  high = (center + half) / (total + z**2) if successes < total else 1.0
  return low, high


def holm(p_values: Sequence[float]) -> list[float]:
  """Holm's correction of p-values for multiple tests.

  Args:
    p_values: m numbers in [0, 1]; NaN stands for no test and stays.

  Returns:
    m adjusted p-values, not below the original ones: rejecting those below a has a
    familywise error rate of at most a.

  References:
    Holm, "A simple sequentially rejective multiple test procedure", 1979.
  """
  values = np.asarray(p_values, np.float64)
  corrected = np.full(len(values), math.nan)
  tested = np.flatnonzero(~np.isnan(values))
  order = tested[np.argsort(values[tested], kind="stable")]
  factors = len(order) - np.arange(len(order))
  corrected[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
  return corrected.tolist()
