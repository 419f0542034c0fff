"""Metrics under raters' votes against definitions, by sampling raters and by SciPy."""

import numpy as np
import pytest
from scipy import special, stats

from emosynth_jax.metrics.votes import summarize_votes


@pytest.fixture(scope="module")
def example():
  rng = np.random.default_rng(0)
  votes = rng.multinomial(10, [0.5, 0.2, 0.2, 0.1], size=30)
  votes[3] = [0, 0, 9, 0]
  votes[4] = [1, 0, 0, 0]  # a single rater, who agrees with nobody
  return rng.normal(size=(30, 4)), votes


def test_the_metrics_are_expectations_over_raters(example):
  logits, votes = example
  found = summarize_votes(logits, votes)
  predicted, agree, of_best, divergence = [], [], [], []
  for row, counts in zip(logits, votes, strict=True):
    raters = np.repeat(np.arange(4), counts)
    predicted.append(np.mean(raters == row.argmax()))
    of_best.append(np.mean(raters == np.bincount(raters).argmax()))
    pairs = raters[:, None] == raters[None, :]
    if len(raters) > 1:
      agree.append(pairs[~np.eye(len(raters), dtype=bool)].mean())
    divergence.append(stats.entropy(counts, special.softmax(row)))
  assert found == {
    "expected_accuracy": pytest.approx(np.mean(predicted)),
    "highest_expected_accuracy": pytest.approx(np.mean(of_best)),
    "rater_agreement": pytest.approx(np.mean(agree)),
    "kl_divergence": pytest.approx(np.mean(divergence)),
    "num_votes": int(votes.sum()),
  }


def test_a_network_that_gives_the_votes_reaches_the_bounds(example):
  _, votes = example
  with np.errstate(divide="ignore"):
    found = summarize_votes(np.log(np.maximum(votes, 1e-30)), votes)
  assert found["kl_divergence"] == pytest.approx(0, abs=1e-12)
  assert found["expected_accuracy"] == found["highest_expected_accuracy"]


def test_what_has_no_answer_is_refused(example):
  logits, votes = example
  with pytest.raises(ValueError, match="expected the same shape"):
    summarize_votes(logits[:, :3], votes)
  with pytest.raises(ValueError, match="row 7 has no vote"):
    summarize_votes(logits, np.where(np.arange(30)[:, None] == 7, 0, votes))
  alone = summarize_votes(logits, np.eye(4, dtype=int)[np.zeros(30, int)])
  assert alone["rater_agreement"] is None
