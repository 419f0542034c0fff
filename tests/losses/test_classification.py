"""Cross-entropy and mean squared error against optax and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from emosynth_jax.losses import cross_entropy, mse


@pytest.fixture
def data():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(6, 7)).astype(np.float32) * 4
  return logits, rng.integers(7, size=6), rng.dirichlet(np.ones(7), size=6)


def test_cross_entropy_is_optax_s(data):
  logits, labels, soft = data
  soft = soft.astype(np.float32)
  np.testing.assert_allclose(
    jax.jit(cross_entropy)(logits, labels),
    optax.softmax_cross_entropy_with_integer_labels(logits, labels),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    jax.jit(cross_entropy)(logits, soft),
    optax.softmax_cross_entropy(logits, soft),
    rtol=1e-6,
  )


def test_cross_entropy_s_gradient_is_p_minus_y(data):
  logits, labels, soft = data
  p = special.softmax(logits.astype(np.float64), axis=-1)
  for given, y in ((labels, np.eye(7)[labels]), (soft.astype(np.float32), soft)):
    grad = jax.grad(lambda z, given=given: jnp.sum(cross_entropy(z, given)))(logits)
    np.testing.assert_allclose(grad, p - y, atol=1e-6)


def test_cross_entropy_keeps_the_logarithm_of_a_probability_that_is_zero():
  loss = jax.jit(cross_entropy)(jnp.array([[1e4, -1e4, 0.0]]), jnp.array([1]))
  assert float(loss[0]) == 2e4  # log(1 + e^-1e4 + e^-2e4) is 0


def test_cross_entropy_keeps_digits_of_large_logits():
  """logsumexp(z) - z_y alone would lose them: float32 at 1e4 has a step of 1e-3."""
  z = np.array([[1e4, 1e4 - 7.0, -1e4]], np.float32)
  loss = jax.jit(cross_entropy)(z, jnp.array([0]))
  np.testing.assert_allclose(loss, [np.log1p(np.exp(-7.0))], rtol=1e-4)


def test_a_masked_class_costs_nothing():
  z = jnp.array([[0.0, -jnp.inf, 0.0]])
  np.testing.assert_allclose(cross_entropy(z, jnp.array([0])), [np.log(2)], rtol=1e-6)
  grad = jax.grad(lambda z: cross_entropy(z, jnp.array([0])).sum())(z)
  np.testing.assert_allclose(grad, [[-0.5, 0.0, 0.5]], atol=1e-6)


def test_mse_is_the_brier_score_over_k(data):
  logits, labels, soft = data
  p = special.softmax(logits.astype(np.float64), axis=-1)
  for given, y in ((labels, np.eye(7)[labels]), (soft.astype(np.float32), soft)):
    np.testing.assert_allclose(
      jax.jit(mse)(logits, given), ((y - p) ** 2).sum(-1) / 7, rtol=2e-5
    )


def test_mse_of_a_sure_mistake_is_two_over_k():
  assert float(mse(jnp.array([[50.0, 0.0, 0.0, 0.0]]), jnp.array([2]))[0]) == 0.5
