"""Losses for unequal classes and costs against float64 formulas."""

import jax
import numpy as np
import pytest
from scipy import special

from emosynth_jax.losses import (
  balanced_softmax,
  deferred_reweighting,
  dynamically_weighted_balanced,
  get_loss,
  ldam,
  logit_adjustment,
  real_world_weight_cross_entropy,
)


def test_rwwce_is_its_formula(data):
  rng = np.random.default_rng(1)
  misses, alarms = rng.uniform(size=7), rng.uniform(size=(7, 7))
  off_diagonal = alarms * (1 - np.eye(7))
  each = -(misses * data.log_p + np.log1p(-data.p) @ off_diagonal.T)
  loss = jax.jit(
    lambda z, y: real_world_weight_cross_entropy(
      z, y, fn_weights=misses, fp_weights=alarms
    )
  )
  for labels, y in ((data.labels, data.y), (data.soft, data.soft)):
    np.testing.assert_allclose(loss(data.logits, labels), (y * each).sum(-1), rtol=1e-5)


def test_rwwce_of_two_classes_is_weighted_binary_cross_entropy(data):
  """-[w_fn y log h + w_fp (1 - y) log(1 - h)], equation 2.6: class 1 is positive, a
  miss costs w_fn of class 1, and a false alarm w_fp of class 0 taken for class 1."""
  z, y = data.logits[:, :2], data.labels % 2
  h = special.expit(z[:, 1].astype(np.float64) - z[:, 0])
  np.testing.assert_allclose(
    real_world_weight_cross_entropy(
      z, y, fn_weights=[0.0, 3.0], fp_weights=[[0.0, 0.7], [0.0, 0.0]]
    ),
    -(3.0 * y * np.log(h) + 0.7 * (1 - y) * np.log(1 - h)),
    rtol=1e-5,
  )


def test_rwwce_is_exact_where_a_wrong_probability_rounds_to_one():
  loss = real_world_weight_cross_entropy(
    np.array([[90.0, 0.0, -1e4]], np.float32), np.array([1]), fp_weights=1.0
  )
  # log p_y = -90, log(1 - p_0) = -90, log(1 - p_2) = 0.
  np.testing.assert_allclose(loss, [180.0], rtol=1e-6)


@pytest.mark.parametrize("regularizer", ["target", "all"])
def test_dwb_is_its_formula(data, regularizer):
  counts = np.maximum(data.counts, 1)
  w = np.log(counts.max() / counts) + 1
  assert w.min() == 1
  each = -(w ** (1 - data.p)) * data.log_p
  doubt = data.p * (1 - data.p)
  loss = jax.jit(
    lambda z, y: dynamically_weighted_balanced(
      z, y, data.counts, regularizer=regularizer
    )
  )
  for labels, y in ((data.labels, data.y), (data.soft, data.soft)):
    own = (y * doubt).sum(-1) if regularizer == "target" else doubt.sum(-1)
    np.testing.assert_allclose(
      loss(data.logits, labels), (y * each).sum(-1) + own, rtol=1e-5
    )


def test_logit_adjustment_is_its_formula(data):
  """An empty class counts as one example. torch's numbers are in test_golden.py."""
  counts = np.maximum(data.counts, 1)
  adjusted = data.z + 0.7 * np.log(counts / counts.sum())
  log_p = special.log_softmax(adjusted, axis=-1)
  for labels, y in ((data.labels, data.y), (data.soft, data.soft)):
    np.testing.assert_allclose(
      logit_adjustment(data.logits, labels, data.counts, tau=0.7),
      -(y * log_p).sum(-1),
      rtol=1e-5,
    )


def test_balanced_softmax_weighs_the_softmax_by_the_counts(data):
  """Ren et al.'s formula, and logit adjustment with tau = 1."""
  counts = np.maximum(data.counts, 1)
  weighted = counts * np.exp(data.z)
  p = weighted / weighted.sum(-1, keepdims=True)
  loss = balanced_softmax(data.logits, data.labels, data.counts)
  np.testing.assert_allclose(loss, -np.log((data.y * p).sum(-1)), rtol=1e-5)
  np.testing.assert_array_equal(
    loss, logit_adjustment(data.logits, data.labels, data.counts, tau=1.0)
  )


def test_reweighting_is_deferred(data):
  """Cross-entropy before its step, weights by Cui et al.'s formula from it on."""
  counts = np.maximum(data.counts, 1).astype(np.float64)
  weights = (1 - 0.99) / (1 - 0.99**counts)
  weights *= 7 / weights.sum()
  loss = jax.jit(get_loss("deferred_reweighting", reweight_step=10, beta=0.99))
  for labels, y in ((data.labels, data.y), (data.soft, data.soft)):
    np.testing.assert_allclose(
      loss(data.logits, labels, data.counts, 9), -(y * data.log_p).sum(-1), rtol=1e-5
    )
    np.testing.assert_allclose(
      loss(data.logits, labels, data.counts, 10),
      -(y * weights * data.log_p).sum(-1),
      rtol=1e-5,
    )


def test_weights_are_equal_for_beta_zero_and_inverse_counts_for_beta_one(data):
  z, y, counts = data.logits, data.labels, np.maximum(data.counts, 1)
  ce = -data.log_p[np.arange(5), y]
  inverse = 7 / counts / (1 / counts).sum()
  for beta, weights in ((0.0, np.ones(7)), (1.0, inverse), (1.0 - 1e-9, inverse)):
    np.testing.assert_allclose(
      deferred_reweighting(z, y, data.counts, 0, reweight_step=0, beta=beta),
      weights[y] * ce,
      rtol=1e-5,
    )


def test_ldam_is_its_formula(data):
  x, w = data.embeddings.astype(np.float64), data.weights.astype(np.float64)
  c = x @ w / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=0)
  counts = np.maximum(data.counts, 1)
  margins = 1 / np.sqrt(np.sqrt(counts))
  margins *= 0.4 / margins.max()
  log_p = special.log_softmax(10 * (c - margins * data.y), axis=-1)
  given = data.embeddings, data.weights, data.labels, data.counts
  np.testing.assert_allclose(
    ldam(*given, scale=10.0, max_margin=0.4), -(data.y * log_p).sum(-1), rtol=1e-5
  )


def test_ldam_drw_is_ldam_times_the_class_s_weight(data):
  """The paper's method, both parts."""
  given = data.embeddings, data.weights, data.labels, data.counts
  both = get_loss("ldam+deferred_reweighting", reweight_step=5, beta=1.0)
  counts = np.maximum(data.counts, 1)
  weights = 7 / counts / (1 / counts).sum()
  plain = np.asarray(ldam(*given))
  np.testing.assert_allclose(both(*given, step=4), plain, rtol=1e-6)
  np.testing.assert_allclose(
    both(*given, step=5), weights[data.labels] * plain, rtol=1e-5
  )


def test_bad_arguments_are_refused(data):
  z, y = data.logits, data.labels
  with pytest.raises(ValueError, match=r"class_counts.*\(7,\).*\(6,\)"):
    dynamically_weighted_balanced(z, y, data.counts[:6])
  with pytest.raises(ValueError, match=r"class_counts.*>= 0"):
    dynamically_weighted_balanced(z, y, -data.counts)
  with pytest.raises(TypeError, match=r"class_counts.*bool"):
    dynamically_weighted_balanced(z, y, data.counts > 0)
  with pytest.raises(ValueError, match=r"regularizer.*target, all.*'both'"):
    dynamically_weighted_balanced(z, y, data.counts, regularizer="both")
  with pytest.raises(ValueError, match=r"fp_weights.*\(7, 7\).*\(7,\)"):
    real_world_weight_cross_entropy(z, y, fp_weights=np.ones(7))
  with pytest.raises(ValueError, match=r"fn_weights.*>= 0.*-1"):
    real_world_weight_cross_entropy(z, y, fn_weights=-1.0)
  with pytest.raises(ValueError, match=r"beta.*\[0, 1\].*1\.5"):
    deferred_reweighting(z, y, data.counts, 0, reweight_step=1, beta=1.5)
  with pytest.raises(ValueError, match=r"class_counts.*\(7,\).*\(6,\)"):
    ldam(data.embeddings, data.weights, y, data.counts[:6])
