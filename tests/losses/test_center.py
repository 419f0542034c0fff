"""Center loss and its centers against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax.losses import center_loss, center_loss_state, cross_entropy


def test_losses_centers_and_gradient(data):
  rng = np.random.default_rng(1)
  centers = rng.normal(size=(7, 4))
  x = data.embeddings.astype(np.float64)
  offsets = x - centers[data.labels]
  moved = centers.copy()
  for k in range(7):
    mine = data.labels == k
    moved[k] -= 0.3 * (centers[k] - x[mine]).sum(0) / (1 + mine.sum())

  def total(z, x):
    losses, state = center_loss(
      z,
      x,
      data.labels,
      jnp.asarray(centers, jnp.float32),
      center_weight=0.2,
      center_rate=0.3,
    )
    return losses.sum(), (losses, state)

  step = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
  (_, (losses, state)), (of_logits, of_embeddings) = step(data.logits, data.embeddings)
  np.testing.assert_allclose(
    losses, -np.log(data.p_y) + 0.1 * (offsets**2).sum(-1), rtol=1e-5
  )
  np.testing.assert_allclose(state, moved, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(of_logits, data.p - data.y, atol=1e-6)
  np.testing.assert_allclose(of_embeddings, 0.2 * offsets, rtol=1e-5, atol=1e-6)


def test_the_centers_find_the_means_of_the_classes(data):
  state = center_loss_state(7, 4)
  step = jax.jit(
    lambda state: center_loss(data.logits, data.embeddings, data.labels, state)[1]
  )
  for _ in range(100):
    state = step(state)
  for k in set(data.labels.tolist()):
    np.testing.assert_allclose(
      state[k], data.embeddings[data.labels == k].mean(0), rtol=1e-4
    )
  np.testing.assert_array_equal(state[5], 0.0)  # no example


def test_no_gradient_reaches_the_centers(data):
  given = data.logits, data.embeddings, data.labels
  grad = jax.grad(lambda state: center_loss(*given, state)[0].sum())(jnp.ones((7, 4)))
  np.testing.assert_array_equal(grad, np.zeros((7, 4)))


def test_without_weight_it_is_cross_entropy(data):
  losses, _ = center_loss(
    data.logits,
    data.embeddings,
    data.labels,
    center_loss_state(7, 4),
    center_weight=0.0,
  )
  np.testing.assert_array_equal(losses, cross_entropy(data.logits, data.labels))


def test_bad_arguments_are_refused(data):
  given = data.logits, data.embeddings, data.labels
  with pytest.raises(ValueError, match=r"state.*\(7, 4\).*\(7, 5\).*init_state"):
    center_loss(*given, jnp.zeros((7, 5)))
  with pytest.raises(ValueError, match=r"embeddings.*5 rows.*\(4, 4\)"):
    center_loss(data.logits, data.embeddings[:4], data.labels, jnp.zeros((7, 4)))
