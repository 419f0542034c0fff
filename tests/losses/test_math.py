"""The arithmetic under the losses against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from emosynth_jax.losses.classification import log_one_minus_p
from emosynth_jax.losses.cosine import unit_and_norm


@pytest.mark.parametrize(
  "row",
  [
    [0.0, 0.0, 0.0],
    [20.0, 0.0, 0.0],
    [0.0, -2.0, 90.0],
    [1e4, -1e4, 30.0],
    [3.0, 1.0, 3.0],
  ],
)
def test_log_one_minus_p(row):
  z = np.array(row)
  expected = [special.logsumexp(np.delete(z, k)) for k in range(len(z))]
  expected = np.array(expected) - special.logsumexp(z)
  logits = jnp.asarray([row], jnp.float32)
  np.testing.assert_allclose(
    jax.jit(log_one_minus_p)(logits)[0], expected, rtol=2e-6, atol=1e-12
  )
  # d log(1 - p_k) / dz_j = softmax over the others at j, less p_j.
  jacobian = jax.jit(jax.jacobian(log_one_minus_p))(logits)[0, :, 0]
  p = special.softmax(z)
  for k in range(len(z)):
    others = np.insert(special.softmax(np.delete(z, k)), k, 0.0)
    np.testing.assert_allclose(jacobian[k], others - p, atol=1e-6)


@pytest.mark.parametrize("length", [1e-3, 1.0, 1e4, 1e25])
def test_unit_and_norm(length):
  x = np.array([[3.0, -4.0, 12.0]], np.float32) * np.float32(length)
  unit, norm = jax.jit(lambda x: unit_and_norm(x, axis=1))(x)
  np.testing.assert_allclose(unit, np.array([[3, -4, 12]]) / 13, rtol=1e-5)
  np.testing.assert_allclose(norm, [[13 * length]], rtol=1e-5)
  # The norm's gradient is the unit vector, whatever the length.
  grad = jax.grad(lambda x: unit_and_norm(x, axis=1)[1].sum())(x)
  np.testing.assert_allclose(grad, np.array([[3, -4, 12]]) / 13, rtol=1e-5)


def test_a_zero_vector_has_no_direction_and_a_finite_gradient():
  zero = jnp.zeros((1, 3))
  unit, norm = unit_and_norm(zero, axis=1)
  np.testing.assert_array_equal(unit, zero)
  assert float(norm[0, 0]) <= 1e-5
  for part in (0, 1):
    grad = jax.grad(lambda x, part=part: unit_and_norm(x, axis=1)[part].sum())(zero)
    assert np.isfinite(grad).all()
