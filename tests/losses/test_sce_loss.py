"""The thesis's SCE loss, in all readings, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from emosynth_jax.losses import sce_loss
from emosynth_jax.losses.classification import SCE_READINGS


def reference(z, y, a, b, reading):
  """Value and gradient, the factor held constant: losses.md section 3."""
  log_p = special.log_softmax(np.asarray(z, np.float64), axis=-1)
  p = np.exp(log_p)
  alpha = ((y - p) ** 2).sum(-1)
  assert ((alpha >= 0) & (alpha <= 2)).all()
  if reading != "example":
    alpha = alpha.mean()
  wrong = (1 - y) * p if reading == "intent" else (1 - y) - p
  factor = b * alpha * np.sqrt((wrong**2).sum(-1))
  ce, ce_grad = -(y * log_p).sum(-1), p - y
  base, base_grad = ce, ce_grad
  if reading == "box":
    base = -log_p.sum(-1) / np.log(10)
    base_grad = (z.shape[1] * p - 1) / np.log(10)
  return a * ce + factor * base, a * ce_grad + factor[:, None] * base_grad


@pytest.mark.parametrize("reading", SCE_READINGS)
@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.3, 2.0)])
def test_value_and_gradient(data, reading, a, b):
  for labels, y in ((data.labels, data.y), (data.soft, data.soft.astype(float))):

    def total(z, labels=labels):
      loss = sce_loss(z, labels, reading=reading, ce_weight=a, sce_weight=b)
      return loss.sum(), loss

    (_, got), got_grad = jax.value_and_grad(total, has_aux=True)(data.logits)
    value, grad = reference(data.z, y, a, b, reading)
    np.testing.assert_allclose(got, value, rtol=1e-5)
    np.testing.assert_allclose(got_grad, grad, atol=3e-5)


@pytest.mark.parametrize("reading", ["batch", "example", "intent"])
def test_a_right_answer_costs_nothing(reading):
  logits = jnp.array([[60.0, 0.0, 0.0], [0.0, 0.0, 60.0]])
  loss = sce_loss(logits, jnp.array([0, 2]), reading=reading)
  np.testing.assert_allclose(loss, 0.0, atol=1e-7)


def test_the_box_pushes_to_the_uniform_distribution():
  """With a right answer in a batch with a wrong one, against 0 for the others."""
  logits = jnp.array([[8.0, 0.0, 0.0], [8.0, 0.0, 0.0]])
  grad = jax.grad(
    lambda z: sce_loss(
      z, jnp.array([0, 1]), reading="box", ce_weight=0.0, sce_weight=1.0
    ).sum()
  )(logits)
  assert float(grad[0, 0]) > 0.1  # lowers the right logit


def test_the_printed_weight_rises_as_predictions_get_better():
  """|(1 - y) - p| at K = 10: 3.16 when right and 2.83 when wrong; "intent" is 0."""
  right, wrong = [9, 0], [0, 9]
  logits = 1e3 * jnp.eye(10)[jnp.array([9, 9])]
  labels = jnp.array([right[0], wrong[0]])
  # alpha_B is 1: one example at 0 and one at 2. ln p of the wrong one is -1000.
  batch = sce_loss(logits, labels, ce_weight=0.0, sce_weight=1.0)
  intent = sce_loss(logits, labels, reading="intent", ce_weight=0.0, sce_weight=1.0)
  np.testing.assert_allclose(batch, [0.0, 1e3 * np.sqrt(8)], rtol=1e-5)
  np.testing.assert_allclose(intent, [0.0, 1e3], rtol=1e-5)


def test_the_total_at_initialization():
  """5.0375 for standard normal logits, K=10, label 0: the mean of 2,000,000 float64
  draws in numpy."""
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(40_000, 10)), jnp.float32)
  loss = sce_loss(logits, jnp.zeros(40_000, jnp.int32)).mean()
  assert float(loss) == pytest.approx(5.0375, abs=0.05)


def test_descent_raises_a_small_probability_with_two_classes():
  """An undetached factor has the opposite sign below p_y = .175."""
  for p in (0.01, 0.1, 0.17):
    logits = jnp.array([[np.log(p / (1 - p)), 0.0]])
    grad = jax.grad(lambda z: sce_loss(z, jnp.array([0])).sum())(logits)
    assert float(grad[0, 0]) < 0


def test_the_factor_is_detached_from_learned_labels_too(data):
  """d loss / dy is that of cross-entropy, -log p, times the constant factors."""
  grad = jax.grad(lambda y: sce_loss(data.logits, y).sum())(data.soft)
  factor, _ = reference(data.z, data.soft.astype(float), 0.5, 0.5, "batch")
  factor /= -(data.soft * data.log_p).sum(-1)
  np.testing.assert_allclose(grad, -factor[:, None] * data.log_p, rtol=1e-4)


def test_bad_arguments_are_refused(data):
  with pytest.raises(ValueError, match=r"reading.*batch.*'mean'"):
    sce_loss(data.logits, data.labels, reading="mean")
  with pytest.raises(ValueError, match=r"sce_weight.*-1"):
    sce_loss(data.logits, data.labels, sce_weight=-1.0)
