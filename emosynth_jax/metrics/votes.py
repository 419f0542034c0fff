"""Metrics under several raters' votes for each image."""

from typing import Any

import numpy as np
from scipy import special


def summarize_votes(logits: np.ndarray, votes: np.ndarray) -> dict[str, Any]:
  r"""Computes metrics of predictions under the votes of raters.

  With :math:`v_{ik}` votes of :math:`n_i` raters, :math:`p_{ik} = v_{ik} / n_i`, the
  prediction :math:`\hat k_i` and the probabilities :math:`q_i` of the network:

  .. math::

    \text{expected accuracy} = \frac1N \sum_i p_{i \hat k_i}, \qquad
    \text{KL divergence} = \frac1N \sum_i \sum_k p_{ik} \log \frac{p_{ik}}{q_{ik}}, \\
    \text{rater agreement} =
      \frac1M \sum_{i: n_i > 1} \sum_k \frac{v_{ik} (v_{ik} - 1)}{n_i (n_i - 1)}

  The expected accuracy is the probability that a rater of the image, drawn at random,
  says what the network predicts. The rater agreement is the expected accuracy of one
  rater against another one, and the highest possible expected accuracy,
  :math:`\frac1N \sum_i \max_k p_{ik}`, is that of the most frequent votes. Computed in
  float64.

  Args:
    logits: floating `(N, K)`.
    votes: integers `(N, K)`, at least one vote a row.

  Returns:
    A dictionary with ``expected_accuracy``, ``highest_expected_accuracy``,
    ``rater_agreement`` (None if no image has two votes), ``kl_divergence`` and
    ``num_votes``.

  Raises:
    ValueError: for different shapes, or a row without a vote.
  """
  if logits.shape != votes.shape or logits.ndim != 2:
    raise ValueError(
      "logits and votes: expected the same shape (N, K), got "
      f"{logits.shape} and {votes.shape}"
    )
  counts = votes.astype(np.float64)
  totals = counts.sum(axis=1)
  if not totals.all():
    raise ValueError(f"votes: row {int(np.argmin(totals))} has no vote")

  shares = counts / totals[:, None]
  rows = np.arange(len(shares))
  log_probabilities = special.log_softmax(logits.astype(np.float64), axis=1)
  divergence = special.xlogy(shares, shares) - shares * log_probabilities

  several = totals > 1
  agreement = (counts * (counts - 1)).sum(axis=1)[several]
  agreement = agreement / (totals * (totals - 1))[several]
  return {
    "expected_accuracy": float(shares[rows, logits.argmax(axis=1)].mean()),
    "highest_expected_accuracy": float(shares.max(axis=1).mean()),
    "rater_agreement": float(agreement.mean()) if several.any() else None,
    "kl_divergence": float(divergence.sum(axis=1).mean()),
    "num_votes": int(totals.sum()),
  }
