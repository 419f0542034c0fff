"""Sub-center ArcFace; pytorch-metric-learning's numbers are in test_golden.py."""

import jax
import numpy as np
import pytest
from scipy import special

from emosynth_jax.losses import (
  get_evaluation_logits,
  subcenter_arcface,
  subcenter_arcface_logits,
)


def test_the_nearest_of_a_class_s_columns_counts(data):
  """In float64, with the angle itself; columns of a class are adjacent."""
  rng = np.random.default_rng(1)
  x = data.embeddings.astype(np.float64)
  w = rng.normal(size=(4, 14)).astype(np.float32)
  c = x @ w / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(w, axis=0)
  c = np.maximum(c[:, 0::2], c[:, 1::2])
  target = np.cos(np.minimum(np.arccos(c) + 0.3, np.pi))
  assert (np.arccos(c)[data.y == 1] + 0.3 < np.pi).all()
  log_p = special.log_softmax(8 * np.where(data.y == 1, target, c), axis=-1)
  settings = {"sub_centers": 2, "scale": 8.0, "margin": 0.3}
  np.testing.assert_allclose(
    subcenter_arcface(data.embeddings, w, data.labels, **settings),
    -(data.y * log_p).sum(-1),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    get_evaluation_logits("subcenter_arcface", **settings)(data.embeddings, w),
    8 * c,
    rtol=1e-5,
    atol=1e-5,
  )


def test_only_the_nearest_sub_center_has_a_gradient(data):
  rng = np.random.default_rng(1)
  w = rng.normal(size=(4, 14)).astype(np.float32)

  def total(w):
    x, y = data.embeddings[:1], data.labels[:1]
    return subcenter_arcface_logits(x, w, y, sub_centers=2).sum()

  grad = jax.jit(jax.grad(total))(w)
  trained = np.abs(np.asarray(grad)).max(axis=0).reshape(7, 2) > 0
  np.testing.assert_array_equal(trained.sum(axis=1), 1)


def test_columns_that_do_not_fit_are_refused(data):
  given = data.embeddings, data.weights, data.labels
  with pytest.raises(
    ValueError, match=r"weights.*sub_centers=3.*7 columns.*num_classes \* sub_centers"
  ):
    subcenter_arcface(*given, sub_centers=3)
  with pytest.raises(ValueError, match=r"at least 2 classes"):
    subcenter_arcface(*given, sub_centers=7)
  with pytest.raises(TypeError, match=r"sub_centers: expected an integer, got 2\.0"):
    subcenter_arcface(*given, sub_centers=2.0)
  with pytest.raises(ValueError, match=r"sub_centers.*at least 1, got 0"):
    subcenter_arcface(*given, sub_centers=0)
