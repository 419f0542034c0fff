"""Supervised contrastive loss; pytorch-metric-learning's are in test_golden.py."""

import jax
import numpy as np
import pytest

from emosynth_jax.losses import cross_entropy, supervised_contrastive


def test_it_is_its_formula(data):
  """Examples 0 and 3 share a label; the others have none to share."""
  x = data.embeddings.astype(np.float64)
  unit = x / np.linalg.norm(x, axis=1, keepdims=True)
  similar = np.exp(unit @ unit.T / 0.2)
  expected = -data.log_p[np.arange(5), data.labels]
  for i, j in ((0, 3), (3, 0)):
    expected[i] -= 0.7 * np.log(similar[i, j] / np.delete(similar[i], i).sum())
  np.testing.assert_allclose(
    jax.jit(
      lambda *given: supervised_contrastive(
        *given, contrastive_weight=0.7, temperature=0.2
      )
    )(data.logits, data.embeddings, data.labels),
    expected,
    rtol=1e-5,
  )


@pytest.mark.parametrize("ce_weight", [1.0, 0.3])
def test_without_its_contrast_it_is_cross_entropy(data, ce_weight):
  ce = np.asarray(cross_entropy(data.logits, data.labels))
  given = data.logits, data.embeddings, data.labels
  np.testing.assert_allclose(
    supervised_contrastive(*given, ce_weight=ce_weight, contrastive_weight=0.0),
    ce_weight * ce,
    rtol=1e-6,
  )


def test_nothing_is_contrasted_where_all_labels_differ(data):
  labels = np.array([0, 1, 2, 3, 4])
  np.testing.assert_allclose(
    supervised_contrastive(data.logits, data.embeddings, labels, ce_weight=0.0),
    0,
    atol=1e-7,
  )


def test_its_gradient_is_that_of_unit_vectors(data):
  """The embeddings' lengths do not count: none of it along the embedding."""

  def total(x):
    return supervised_contrastive(data.logits, x, data.labels, ce_weight=0.0).sum()

  grad = jax.jit(jax.grad(total))(data.embeddings)
  assert np.abs(grad).max() > 0.01
  np.testing.assert_allclose((grad * data.embeddings).sum(-1), 0, atol=1e-4)


def test_bad_arguments_are_refused(data):
  with pytest.raises(ValueError, match=r"embeddings: expected 5 rows.*\(4, 4\)"):
    supervised_contrastive(data.logits, data.embeddings[:4], data.labels)
  with pytest.raises(ValueError, match=r"temperature"):
    supervised_contrastive(data.logits, data.embeddings, data.labels, temperature=0)
