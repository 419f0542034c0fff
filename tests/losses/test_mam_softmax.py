"""MAM-SoftMax: its margin, and cross-entropy under it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from emosynth_jax.losses import cross_entropy, mam_softmax
from emosynth_jax.losses.mam_softmax import MARGIN_FNS, centered_max


@pytest.fixture
def data():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(6, 7)).astype(np.float32) * 4
  return logits, rng.integers(7, size=6), rng.dirichlet(np.ones(7), size=6)


def margin64(z):
  """The margin as losses.md section 2 writes it, in float64."""
  z = np.asarray(z, np.float64)
  top = (z - z.mean(-1, keepdims=True)).max(-1)
  return np.clip(np.log(top + 0.2), 0, 4)


def test_centered_max_is_its_formula(data):
  np.testing.assert_allclose(centered_max(data[0]), margin64(data[0]), rtol=1e-5)


def test_the_margin_s_moments_at_initialisation():
  """Margins .517 +- .274 and loss 3.207 against 2.730 for standard normal logits,
  K=10: measured once in numpy, before this code."""
  logits = jax.random.normal(jax.random.key(0), (40_000, 10))
  labels = jax.random.randint(jax.random.key(1), (40_000,), 0, 10)
  margin = centered_max(logits)
  assert float(margin.mean()) == pytest.approx(0.517, abs=0.005)
  assert float(margin.std()) == pytest.approx(0.274, abs=0.005)
  assert float(mam_softmax(logits, labels).mean()) == pytest.approx(3.207, abs=0.02)
  assert float(cross_entropy(logits, labels).mean()) == pytest.approx(2.730, abs=0.02)


def test_the_loss_is_cross_entropy_of_logits_less_the_margin(data):
  """SM-Softmax with the margin held constant, by optax."""
  logits, labels, _ = data
  margin = 1.5 * margin64(logits)
  shifted = logits - margin[:, None] * np.eye(7)[labels]
  np.testing.assert_allclose(
    jax.jit(lambda z, y: mam_softmax(z, y, kappa=1.5))(logits, labels),
    optax.softmax_cross_entropy_with_integer_labels(shifted.astype(np.float32), labels),
    rtol=1e-5,
  )


def test_no_gradient_flows_through_the_margin(data):
  logits, labels, _ = data
  y = np.eye(7)[labels]
  p = special.softmax(logits - margin64(logits)[:, None] * y, axis=-1)
  grad = jax.jit(jax.grad(lambda z: mam_softmax(z, labels).sum()))(logits)
  np.testing.assert_allclose(grad, p - y, atol=1e-5)


def test_probabilities_give_up_their_share_of_the_margin(data):
  logits, _, soft = data
  z = logits - margin64(logits)[:, None] * soft
  expected = -(soft * special.log_softmax(z, axis=-1)).sum(-1)
  np.testing.assert_allclose(
    mam_softmax(logits, soft.astype(np.float32)), expected, rtol=1e-5
  )


def test_kappa_zero_is_cross_entropy(data):
  logits, labels, soft = data
  for y in (labels, soft.astype(np.float32)):
    np.testing.assert_array_equal(
      mam_softmax(logits, y, kappa=0.0), cross_entropy(logits, y)
    )


@pytest.mark.parametrize("n", [1, 3])
def test_constant_logits_have_no_margin(n):
  logits = jnp.full((n, 5), 3.25)
  np.testing.assert_array_equal(centered_max(logits), np.zeros(n))


@settings(max_examples=60, deadline=None)
@given(
  z=st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4),
  shift=st.floats(-100, 100, width=32),
)
def test_the_margin_is_bounded_and_shifts_with_nothing(z, shift):
  z = jnp.asarray([z], jnp.float32)
  margin = float(centered_max(z)[0])
  assert 0 <= margin <= 4 + 1e-6
  size = float(jnp.abs(z).max()) + abs(shift)
  # The centred maximum carries the rounding of logits of that size.
  assert float(centered_max(z + shift)[0]) == pytest.approx(
    margin, abs=1e-6 * size + 1e-5
  )


def test_a_correct_example_costs_more_than_under_cross_entropy(data):
  logits, labels, _ = data
  assert (mam_softmax(logits, labels) > cross_entropy(logits, labels)).all()


def test_bad_arguments_are_refused(data):
  logits, labels, _ = data
  with pytest.raises(ValueError, match=r"reading.*centered_max.*'max'"):
    mam_softmax(logits, labels, reading="max")
  with pytest.raises(ValueError, match=r"kappa.*-1"):
    mam_softmax(logits, labels, kappa=-1)
  with pytest.raises(TypeError, match=r"kappa.*'1'"):
    mam_softmax(logits, labels, kappa="1")


def test_kappa_can_be_mapped(data):
  logits, labels, _ = data
  kappas = jnp.array([0.0, 0.5, 2.0])
  mapped = jax.jit(jax.vmap(lambda k: mam_softmax(logits, labels, kappa=k)))(kappas)
  for kappa, row in zip(kappas, mapped, strict=True):
    np.testing.assert_allclose(
      row, mam_softmax(logits, labels, kappa=float(kappa)), rtol=1e-6
    )


def test_every_reading_has_its_function_s_name():
  assert {name: f.__name__ for name, f in MARGIN_FNS.items()} == {
    name: name for name in MARGIN_FNS
  }
