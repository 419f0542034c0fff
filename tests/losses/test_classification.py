"""Plain losses of logits against optax and float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emosynth_jax.losses import (
  binary_cross_entropy,
  cross_entropy,
  focal,
  label_smoothing,
  mse,
  poly,
)


def test_cross_entropy_is_optax_s(data):
  np.testing.assert_allclose(
    jax.jit(cross_entropy)(data.logits, data.labels),
    optax.softmax_cross_entropy_with_integer_labels(data.logits, data.labels),
    rtol=5e-6,
  )
  np.testing.assert_allclose(
    jax.jit(cross_entropy)(data.logits, data.soft),
    optax.softmax_cross_entropy(data.logits, data.soft),
    rtol=5e-6,
  )


def test_cross_entropy_s_gradient_is_p_minus_y(data):
  for labels, y in ((data.labels, data.y), (data.soft, data.soft)):
    grad = jax.grad(lambda z, labels=labels: cross_entropy(z, labels).sum())(
      data.logits
    )
    np.testing.assert_allclose(grad, data.p - y, atol=1e-6)


def test_cross_entropy_keeps_the_logarithm_of_a_probability_that_is_zero():
  loss = jax.jit(cross_entropy)(jnp.array([[1e4, -1e4, 0.0]]), jnp.array([1]))
  assert float(loss[0]) == 2e4  # log(1 + e^-1e4 + e^-2e4) is 0


def test_cross_entropy_keeps_digits_of_large_logits():
  """logsumexp(z) - z_y alone would lose them: float32 at 1e4 has a step of 1e-3."""
  z = np.array([[1e4, 1e4 - 7.0, -1e4]], np.float32)
  loss = jax.jit(cross_entropy)(z, jnp.array([0]))
  # A rounding of 1 + e^-7 is 6e-5 of the loss.
  np.testing.assert_allclose(loss, [np.log1p(np.exp(-7.0))], rtol=3e-4)


def test_a_masked_class_costs_nothing():
  z = jnp.array([[0.0, -jnp.inf, 0.0]])
  np.testing.assert_allclose(cross_entropy(z, jnp.array([0])), [np.log(2)], rtol=1e-6)
  grad = jax.grad(lambda z: cross_entropy(z, jnp.array([0])).sum())(z)
  np.testing.assert_allclose(grad, [[-0.5, 0.0, 0.5]], atol=1e-6)


# By name: the loss, and what it is for class probabilities y, see `data`.
FORMULAS = {
  "mse, Brier's score over K": (mse, lambda d, y: ((y - d.p) ** 2).sum(-1) / 7),
  "binary_cross_entropy": (
    binary_cross_entropy,
    lambda d, y: optax.sigmoid_binary_cross_entropy(d.logits, np.float32(y)).sum(-1),
  ),
  "focal": (
    lambda z, y: focal(z, y, gamma=1.5, alpha=0.25),
    lambda d, y: (y * -0.25 * (1 - d.p) ** 1.5 * d.log_p).sum(-1),
  ),
  "poly": (
    lambda z, y: poly(z, y, epsilon=1.7),
    lambda d, y: (y * (1.7 * (1 - d.p) - d.log_p)).sum(-1),
  ),
}


@pytest.mark.parametrize(("loss", "formula"), FORMULAS.values(), ids=FORMULAS)
def test_a_loss_is_its_formula(data, loss, formula):
  for labels, y in ((data.labels, data.y), (data.soft, data.soft)):
    found = jax.jit(loss)(data.logits, labels)
    np.testing.assert_allclose(found, formula(data, y), rtol=2e-5)


def test_mse_of_a_sure_mistake_is_two_over_k():
  assert float(mse(jnp.array([[50.0, 0.0, 0.0, 0.0]]), jnp.array([2]))[0]) == 0.5


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_label_smoothing_is_optax_s(data, smoothing):
  for labels, y in ((data.labels, data.y), (data.soft, data.soft)):
    smoothed = optax.smooth_labels(y.astype(np.float32), smoothing)
    np.testing.assert_allclose(
      label_smoothing(data.logits, labels, smoothing=smoothing),
      optax.softmax_cross_entropy(data.logits, smoothed),
      rtol=1e-5,
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.5])
def test_focal_is_optax_s_for_two_classes(data, gamma):
  """Softmax of two logits is the sigmoid of their difference."""
  logits, labels = data.logits[:, :2], data.labels % 2
  # A rounding of p near 1, to the power of gamma, is up to 1e-4 of (1 - p)^gamma.
  np.testing.assert_allclose(
    jax.jit(functools.partial(focal, gamma=gamma))(logits, labels),
    optax.sigmoid_focal_loss(
      logits[:, 1] - logits[:, 0], labels.astype(np.float32), gamma=gamma
    ),
    rtol=2e-4,
  )


def test_focal_s_slope_is_finite_where_the_label_is_certain():
  """(1 - p)^gamma by itself has an infinite one for gamma < 1."""
  slope = jax.jit(jax.grad(lambda z: focal(z, jnp.array([0]), gamma=0.5).sum()))
  for logits in ([[17.0, 0.0]], [[90.0, 0.0]], [[1e4, -1e4]]):
    np.testing.assert_allclose(slope(jnp.array(logits)), [[0.0, 0.0]], atol=1e-7)


def test_poly_with_epsilon_minus_one_lacks_the_series_first_term():
  """-log p = sum_j (1 - p)^j / j from j = 2 on, here with p = 0.9."""
  logits = jnp.log(jnp.array([[0.9, 0.1]]))
  expected = sum(0.1**j / j for j in range(2, 30))
  np.testing.assert_allclose(
    poly(logits, jnp.array([0]), epsilon=-1.0), [expected], rtol=1e-4
  )


def test_bad_arguments_are_refused(data):
  with pytest.raises(ValueError, match=r"smoothing.*\[0, 1\].*1\.5"):
    label_smoothing(data.logits, data.labels, smoothing=1.5)
  with pytest.raises(ValueError, match=r"gamma.*-1"):
    focal(data.logits, data.labels, gamma=-1.0)
