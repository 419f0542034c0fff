"""Temperature scaling (Guo et al., 2017)."""

from typing import NamedTuple

import numpy as np
from scipy import optimize, special

# Beyond these bounds, logits are almost constant, or the few examples are all correct.
_BOUNDS = (0.05, 20.0)
_NUM_BINS = 15


class Calibration(NamedTuple):
  """A fitted temperature, with the metrics on its examples before and after.

  Attributes:
    temperature: T; probabilities are softmax(logits / T).
    nll_before: mean negative log-likelihood at T = 1.
    nll_after: likewise at T.
    ece_before: expected calibration error at T = 1, of 15 bins of equal width.
    ece_after: likewise at T.
    num_examples: N.
  """

  temperature: float
  nll_before: float
  nll_after: float
  ece_before: float
  ece_after: float
  num_examples: int


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> Calibration:
  r"""Fits the temperature that minimizes the negative log-likelihood.

  .. math:: \min_T \; -\frac1N \sum_i \log \mathrm{softmax}(z_i / T)_{y_i}

  It is convex in 1/T, so the minimum is unique. Predictions and accuracy do not change.
  Computed in float64.

  Args:
    logits: floating `(N, K)`, of data that the network was not trained on.
    labels: integers `(N,)` in 0..K-1.

  Returns:
    The temperature, in [0.05, 20], and the metrics.

  Raises:
    TypeError: for logits or labels of another dtype.
    ValueError: for another shape, a label out of range, or logits that are not finite.

  References:
    Guo et al., `On Calibration of Modern Neural Networks
    <https://arxiv.org/abs/1706.04599>`_, 2017
  """
  logits, labels = _checked(logits, labels)
  found = optimize.minimize_scalar(
    lambda log_t: negative_log_likelihood(logits, labels, np.exp(log_t)),
    bounds=np.log(_BOUNDS),
    method="bounded",
    options={"xatol": 1e-6},
  )
  temperature = float(np.exp(found.x))
  before, after = (
    negative_log_likelihood(logits, labels, t) for t in (1.0, temperature)
  )
  return Calibration(
    temperature=temperature,
    nll_before=before,
    nll_after=after,
    ece_before=expected_calibration_error(logits, labels, 1.0),
    ece_after=expected_calibration_error(logits, labels, temperature),
    num_examples=len(labels),
  )


def negative_log_likelihood(
  logits: np.ndarray, labels: np.ndarray, temperature: float
) -> float:
  """Mean of -log softmax(logits / T) at the labels, in float64.

  Args:
    logits: `(N, K)`.
    labels: integers `(N,)`.
    temperature: T, above 0.

  Returns:
    The mean.
  """
  log_probabilities = special.log_softmax(np.asarray(logits, float) / temperature, -1)
  return float(-np.take_along_axis(log_probabilities, labels[:, None], -1).mean())


def expected_calibration_error(
  logits: np.ndarray, labels: np.ndarray, temperature: float
) -> float:
  """Expected calibration error: mean gap of confidence and accuracy over bins.

  As in `classification.summarize` at T = 1: bins (b/15, (b+1)/15] of the probability of
  the predicted class, weighted by their number of examples.

  Args:
    logits: `(N, K)`.
    labels: integers `(N,)`.
    temperature: T, above 0.

  Returns:
    The error, in [0, 1].
  """
  probabilities = special.softmax(np.asarray(logits, float) / temperature, -1)
  confidences = probabilities.max(-1)
  correct = probabilities.argmax(-1) == labels
  edges = np.arange(1, _NUM_BINS) / _NUM_BINS
  bins = np.searchsorted(edges, confidences, side="left")
  gaps = np.bincount(bins, weights=correct - confidences, minlength=_NUM_BINS)
  return float(np.abs(gaps).sum() / len(labels))


def _checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  logits, labels = np.asarray(logits), np.asarray(labels)
  if not np.issubdtype(logits.dtype, np.floating):
    raise TypeError(f"logits: expected a floating dtype, got {logits.dtype}")
  if not np.issubdtype(labels.dtype, np.integer):
    raise TypeError(f"labels: expected an integer dtype, got {labels.dtype}")
  if logits.ndim != 2 or not logits.size:
    raise ValueError(f"logits: expected the shape (N, K), got {logits.shape}")
  if labels.shape != logits.shape[:1]:
    raise ValueError(f"labels: expected {logits.shape[:1]}, got {labels.shape}")
  if not (0 <= labels.min() and labels.max() < logits.shape[1]):
    raise ValueError(
      f"labels: expected 0..{logits.shape[1] - 1}, got {labels.min()}..{labels.max()}"
    )
  if not np.isfinite(logits).all():
    raise ValueError("logits: expected finite numbers")

  return logits.astype(np.float64), labels
