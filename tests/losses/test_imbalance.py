"""Losses for unequal classes and costs against float64 formulas."""

import jax
import numpy as np
import pytest
from scipy import special

from emosynth_jax.losses import (
  cross_entropy,
  dynamically_weighted_balanced,
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


def test_rwwce_by_default_is_cross_entropy(data):
  np.testing.assert_allclose(
    real_world_weight_cross_entropy(data.logits, data.labels),
    cross_entropy(data.logits, data.labels),
    rtol=1e-6,
  )


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
