"""Ramp and unhinged losses: optax, the binary formulas, and what noise does to them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from emosynth_jax.losses import get_loss, ramp, unhinged


def test_ramp_is_optax_s_hinge_loss_cut_off(data):
  hinge = np.asarray(optax.losses.multiclass_hinge_loss(data.logits, data.labels))
  assert hinge.max() > 2
  assert hinge.min() < 2
  for ceiling in (2.0, 0.5):
    np.testing.assert_allclose(
      ramp(data.logits, data.labels, ceiling=ceiling),
      np.minimum(hinge, ceiling),
      rtol=1e-5,
      atol=1e-6,
    )
  np.testing.assert_allclose(
    ramp(data.logits, data.labels, ceiling=1e6), hinge, rtol=1e-5, atol=1e-6
  )


def test_of_two_classes_both_are_the_published_ones(data):
  """Brooks: min(max(0, 1 - y f), 2). Van Rooyen et al.: 1 - y f."""
  z, labels = data.logits[:, :2] / 3, data.labels % 2
  margins = (2 * labels - 1) * (z[:, 1].astype(np.float64) - z[:, 0])
  np.testing.assert_allclose(
    ramp(z, labels), np.clip(1 - margins, 0, 2), rtol=1e-5, atol=1e-6
  )
  np.testing.assert_allclose(unhinged(z, labels), 1 - margins, rtol=1e-5, atol=1e-6)


def test_of_class_probabilities_both_are_expectations(data):
  for loss in (ramp, unhinged):
    each = np.stack([loss(data.logits, np.full(5, k)) for k in range(7)], axis=1)
    np.testing.assert_allclose(
      loss(data.logits, data.soft), (data.soft * each).sum(-1), rtol=1e-4, atol=1e-5
    )


def test_ramp_gives_up_what_is_far_on_the_wrong_side():
  """No gradient below a margin of -1 or above 1; elsewhere -1 and 1."""
  logits = jnp.array([[0.0, 3.0, 1.0], [0.0, 0.5, -4.0], [3.0, 0.5, 1.0]])
  grad = jax.grad(lambda z: ramp(z, jnp.zeros(3, jnp.int32)).sum())(logits)
  np.testing.assert_array_equal(grad, [[0, 0, 0], [-1, 1, 0], [0, 0, 0]])


def test_unhinged_is_linear_and_sums_to_the_number_of_classes(data):
  total = sum(np.asarray(unhinged(data.logits, np.full(5, k))) for k in range(7))
  np.testing.assert_allclose(total, 7.0, rtol=1e-5)
  for z in (data.logits, 100 * data.logits):
    grad = jax.grad(lambda z: unhinged(z, data.labels).sum())(z)
    np.testing.assert_allclose(grad, np.where(data.y == 1, -1.0, 1 / 6), atol=1e-5)


@pytest.mark.parametrize("rate", [0.2, 0.4])
def test_symmetric_noise_only_scales_the_unhinged_loss(data, rate):
  """E = (1 - rate K / (K - 1)) L + rate K / (K - 1), since the K losses sum to K."""
  noisy = (1 - rate) * data.y + rate / 6 * (1 - data.y)
  factor = 1 - rate * 7 / 6
  np.testing.assert_allclose(
    unhinged(data.logits, noisy.astype(np.float32)),
    factor * np.asarray(unhinged(data.logits, data.labels)) + 1 - factor,
    rtol=1e-4,
    atol=1e-5,
  )


def test_a_cosine_margin_of_zero_bounds_the_unhinged_loss(data):
  """At most 1 + 2, and no less than 1 - 2, however long the embeddings are."""
  loss = get_loss("cosface+unhinged", margin=0.0, scale=1.0)
  for length in (1.0, 1e4):
    values = loss(length * data.embeddings, data.weights, data.labels)
    assert (np.abs(np.asarray(values) - 1) <= 2).all()
