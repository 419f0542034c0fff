"""The thesis's SCE loss against its repaired formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from emosynth_jax.losses import cross_entropy, sce_loss


@pytest.fixture
def data():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(6, 7)).astype(np.float32) * 2
  return logits, rng.integers(7, size=6), rng.dirichlet(np.ones(7), size=6)


def reference(logits, y, a, b):
  """Value and gradient of a CE + b alpha_B w_i CE, the factor held constant."""
  z = np.asarray(logits, np.float64)
  p = special.softmax(z, axis=-1)
  alpha = ((y - p) ** 2).sum(-1).mean()
  assert 0 <= alpha <= 2
  w = np.sqrt((((1 - y) - p) ** 2).sum(-1))
  factor = a + b * alpha * w
  ce = -(y * special.log_softmax(z, axis=-1)).sum(-1)
  return factor * ce, factor[:, None] * (p - y)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.3, 2.0)])
def test_value_and_gradient(data, a, b):
  logits, labels, soft = data
  for given, y in ((labels, np.eye(7)[labels]), (soft.astype(np.float32), soft)):
    loss = lambda z, given=given: sce_loss(z, given, ce_weight=a, sce_weight=b)  # noqa: E731
    value, grad = reference(logits, y, a, b)
    np.testing.assert_allclose(jax.jit(loss)(logits), value, rtol=1e-5)
    np.testing.assert_allclose(
      jax.jit(jax.grad(lambda z, loss=loss: loss(z).sum()))(logits), grad, atol=1e-5
    )


def test_no_sce_weight_leaves_cross_entropy(data):
  logits, labels, _ = data
  np.testing.assert_allclose(
    sce_loss(logits, labels, ce_weight=0.25, sce_weight=0.0),
    0.25 * cross_entropy(logits, labels),
    rtol=1e-6,
  )


def test_a_right_answer_costs_nothing():
  logits = jnp.array([[60.0, 0.0, 0.0], [0.0, 0.0, 60.0]])
  np.testing.assert_allclose(sce_loss(logits, jnp.array([0, 2])), 0.0, atol=1e-7)


def test_the_total_at_initialisation():
  """5.0375 for standard normal logits, K=10, label 0: the mean of 2,000,000 float64
  draws in numpy."""
  logits = jax.random.normal(jax.random.key(0), (40_000, 10))
  labels = jnp.zeros(40_000, jnp.int32)
  assert float(sce_loss(logits, labels).mean()) == pytest.approx(5.0375, abs=0.03)


def test_descent_raises_a_small_probability_with_two_classes():
  """An undetached factor has the opposite sign below p_y = .175."""
  for p in (0.01, 0.1, 0.17):
    logits = jnp.array([[np.log(p / (1 - p)), 0.0]])
    grad = jax.grad(lambda z: sce_loss(z, jnp.array([0])).sum())(logits)
    assert float(grad[0, 0]) < 0


def test_bad_arguments_are_refused(data):
  logits, labels, _ = data
  with pytest.raises(ValueError, match=r"reading.*batch.*'mean'"):
    sce_loss(logits, labels, reading="mean")
  with pytest.raises(ValueError, match=r"sce_weight.*-1"):
    sce_loss(logits, labels, sce_weight=-1.0)
