"""MAM-SoftMax: the readings of its margin, and cross-entropy under them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from emosynth_jax.losses import (
  MARGIN_FNS,
  cross_entropy,
  mam_softmax,
  mam_softmax_class_count,
  mam_softmax_class_count_logits,
  mam_softmax_class_ema,
  mam_softmax_class_ema_logits,
  mam_softmax_class_ema_state,
  sm_softmax,
)

centered_max = MARGIN_FNS["centered_max"]


def clipped_log(x):
  return np.clip(np.log(np.maximum(x, 1e-300)), 0, 4)


def centered(z):
  return z - z.mean(-1, keepdims=True)


# losses.md, section 2, in float64.
FORMULAS = {
  "centered_max": lambda z: clipped_log(centered(z).max(-1) + 0.2),
  "printed_max": lambda z: clipped_log(z.max(-1) + 0.2) + z.mean(-1),
  "printed_argmax": lambda z: clipped_log(z.argmax(-1).sum() + 0.2) + z.mean(-1),
  "box_repaired": lambda z: np.clip(
    np.log(np.exp(centered(z)).mean(-1))
    + np.log10(np.clip(centered(z).max(-1) + 0.2, 1, 4)),
    0,
    4,
  ),
}


@pytest.mark.parametrize("name", MARGIN_FNS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_each_reading_is_its_formula(data, name, scale):
  z = data.z * scale
  np.testing.assert_allclose(
    MARGIN_FNS[name](jnp.asarray(z, jnp.float32)),
    FORMULAS[name](z),
    rtol=1e-5,
    atol=1e-6,
  )
  assert MARGIN_FNS[name].__name__ == name


# Mean and deviation of M, and the mean loss, for standard normal logits and K = 10:
# 1,000,000 float64 draws in numpy of FORMULAS, to .003.
@pytest.mark.parametrize(
  ("name", "mean", "deviation", "loss"),
  [
    ("centered_max", 0.517, 0.274, 3.207),
    ("printed_max", 0.517, 0.552, 3.214),
    ("box_repaired", 0.650, 0.318, 3.332),
  ],
)
def test_margins_at_initialization(name, mean, deviation, loss):
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(40_000, 10)), jnp.float32)
  margins = MARGIN_FNS[name](logits)
  assert float(margins.mean()) == pytest.approx(mean, abs=0.01)
  assert float(margins.std()) == pytest.approx(deviation, abs=0.01)
  losses = mam_softmax(logits, jnp.zeros(40_000, jnp.int32), margin_fn=name)
  assert float(losses.mean()) == pytest.approx(loss, abs=0.03)


@pytest.mark.parametrize("name", MARGIN_FNS)
def test_the_loss_is_cross_entropy_of_logits_less_the_margin(data, name):
  """SM-Softmax with each example's own margin, by optax."""
  shifted = data.z - 1.5 * FORMULAS[name](data.z)[:, None] * data.y
  np.testing.assert_allclose(
    mam_softmax(data.logits, data.labels, margin_fn=name, kappa=1.5),
    optax.softmax_cross_entropy_with_integer_labels(
      shifted.astype(np.float32), data.labels
    ),
    rtol=1e-5,
    atol=1e-6,
  )


@pytest.mark.parametrize("name", ["centered_max", "box_repaired"])
def test_no_gradient_flows_through_a_detached_margin(data, name):
  p = special.softmax(data.z - FORMULAS[name](data.z)[:, None] * data.y, axis=-1)
  grad = jax.grad(lambda z: mam_softmax(z, data.labels, margin_fn=name).sum())(
    data.logits
  )
  np.testing.assert_allclose(grad, p - data.y, atol=1e-5)


def test_the_printed_margin_can_be_cheated(data):
  """Shifting all logits down lowers the loss, and its gradient says so."""
  loss = lambda z: mam_softmax(z, data.labels, margin_fn="printed_max")  # noqa: E731
  assert float(loss(data.logits - 20.0).max()) < 1e-3
  slope = jax.grad(lambda shift: loss(data.logits + shift).sum())(0.0)
  assert float(slope) > 0.1


def test_the_literal_margin_is_four_for_any_real_batch():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(centered(rng.normal(size=(64, 10))), jnp.float32)
  np.testing.assert_allclose(MARGIN_FNS["printed_argmax"](logits), 4.0, atol=1e-5)


def test_a_margin_of_one_s_own(data):
  def half(logits):
    return jnp.full(logits.shape[0], 0.5)

  np.testing.assert_allclose(
    mam_softmax(data.logits, data.labels, margin_fn=half),
    sm_softmax(data.logits, data.labels, margin=0.5),
    rtol=1e-6,
  )


def test_probabilities_give_up_their_share_of_the_margin(data):
  z = data.z - FORMULAS["centered_max"](data.z)[:, None] * data.soft
  np.testing.assert_allclose(
    mam_softmax(data.logits, data.soft),
    -(data.soft * special.log_softmax(z, axis=-1)).sum(-1),
    rtol=1e-5,
  )


def test_kappa_zero_is_cross_entropy(data):
  plain = cross_entropy(data.logits, data.labels)
  for name in MARGIN_FNS:
    np.testing.assert_array_equal(
      mam_softmax(data.logits, data.labels, margin_fn=name, kappa=0.0), plain
    )
  np.testing.assert_array_equal(
    mam_softmax_class_count(data.logits, data.labels, data.counts, kappa=0.0), plain
  )
  state = jnp.ones(7)
  np.testing.assert_array_equal(
    mam_softmax_class_ema(data.logits, data.labels, state, kappa=0.0)[0], plain
  )


@pytest.mark.parametrize("name", ["centered_max", "box_repaired"])
@pytest.mark.parametrize("n", [1, 3])
def test_constant_logits_have_no_margin(name, n):
  logits = jnp.full((n, 5), 3.25)
  np.testing.assert_allclose(MARGIN_FNS[name](logits), np.zeros(n), atol=1e-6)


def test_probabilities_for_logits_have_no_margin(data):
  """The mistake that the docstring names."""
  np.testing.assert_array_equal(centered_max(jnp.asarray(data.soft)), np.zeros(5))


@pytest.mark.parametrize("name", ["centered_max", "box_repaired"])
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(
  z=st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4),
  shift=st.floats(-100, 100, width=32),
)
def test_the_margin_is_bounded_and_shifts_with_nothing(name, z, shift):
  z = jnp.asarray([z], jnp.float32)
  margin = float(MARGIN_FNS[name](z)[0])
  assert 0 <= margin <= 4 + 1e-6
  # The centered maximum carries the rounding of logits of that size.
  rounding = 1e-6 * (float(jnp.abs(z).max()) + abs(shift)) + 1e-5
  assert float(MARGIN_FNS[name](z + shift)[0]) == pytest.approx(margin, abs=rounding)


def test_a_correct_example_costs_more_than_under_cross_entropy(data):
  assert (
    mam_softmax(data.logits, data.labels) > cross_entropy(data.logits, data.labels)
  ).all()


# With the counts of the classes.


def test_class_count_margins_are_their_formula(data):
  counts = np.maximum(data.counts, 1)
  margins = (counts.max() / counts[data.labels]) ** 0.25
  margins = np.clip(0.8 * margins * FORMULAS["centered_max"](data.z), 0, 4)
  logits = mam_softmax_class_count_logits(
    data.logits, data.labels, data.counts, kappa=0.8
  )
  np.testing.assert_allclose(
    (data.logits - logits)[np.arange(5), data.labels], margins, rtol=1e-4
  )
  p = special.softmax(data.z - margins[:, None] * data.y, axis=-1)
  grad = jax.grad(
    lambda z: mam_softmax_class_count(z, data.labels, data.counts, kappa=0.8).sum()
  )(data.logits)
  np.testing.assert_allclose(grad, p - data.y, atol=1e-5)


def test_rare_classes_have_the_larger_class_count_margin(data):
  order = np.argsort(-data.counts)  # from common to rare, the empty class last
  z = jnp.asarray(np.tile(data.logits[:1], (7, 1)))
  labels = jnp.asarray(order)
  logits = mam_softmax_class_count_logits(z, labels, data.counts)
  margins = np.asarray(z - logits)[np.arange(7), order]
  assert (np.diff(margins) >= 0).all()
  assert margins[-1] > margins[0]
  assert margins.max() <= 4


# With a running mean for each class.


def test_class_ema_margins_are_their_formula(data):
  state = np.array([0.3, 1.0, 0.0, 2.0, 0.1, 0.2, 0.4])
  new = state.copy()
  tops = centered(data.z).max(-1)
  for k in set(data.labels):
    new[k] = 0.8 * state[k] + 0.2 * clipped_log(tops[data.labels == k].max() + 0.2)
  losses, got = jax.jit(lambda *a: mam_softmax_class_ema(*a, decay=0.8, kappa=1.5))(
    data.logits, data.labels, jnp.asarray(state, jnp.float32)
  )
  np.testing.assert_allclose(got, new, rtol=1e-5)
  shifted = data.z - 1.5 * new[data.labels][:, None] * data.y
  np.testing.assert_allclose(
    losses, -(data.y * special.log_softmax(shifted, -1)).sum(-1), rtol=1e-5
  )
  grad = jax.grad(
    lambda z: mam_softmax_class_ema(
      z, data.labels, jnp.asarray(state, jnp.float32), decay=0.8, kappa=1.5
    )[0].sum()
  )(data.logits)
  np.testing.assert_allclose(
    grad, special.softmax(shifted, axis=-1) - data.y, atol=1e-5
  )


def test_class_ema_gives_rare_classes_the_smaller_margins():
  rng = np.random.default_rng(0)
  state = mam_softmax_class_ema_state(10, 5)
  step = jax.jit(mam_softmax_class_ema_logits)
  labels = jnp.asarray([0] * 31 + list(range(1, 10)), jnp.int32)
  for _ in range(60):
    logits = jnp.asarray(rng.normal(size=(40, 10)), jnp.float32)
    _, state = step(logits, labels, state)
  # losses.md: about .52 for one example a batch, 1.12 for thirty.
  assert float(state[0]) == pytest.approx(1.12, abs=0.1)
  assert float(state[1:].mean()) == pytest.approx(0.52, abs=0.1)


def test_bad_arguments_are_refused(data):
  logits, labels = data.logits, data.labels
  with pytest.raises(ValueError, match=r"margin_fn.*centered_max.*'max'"):
    mam_softmax(logits, labels, margin_fn="max")
  with pytest.raises(ValueError, match=r"margin_fn.*\(5,\).*\(5, 7\)"):
    mam_softmax(logits, labels, margin_fn=lambda z: z)
  with pytest.raises(ValueError, match=r"kappa.*-1"):
    mam_softmax(logits, labels, kappa=-1)
  with pytest.raises(TypeError, match=r"kappa.*'1'"):
    mam_softmax(logits, labels, kappa="1")
  with pytest.raises(ValueError, match=r"state.*\(7,\).*\(6,\).*init_state"):
    mam_softmax_class_ema(logits, labels, jnp.zeros(6))
  with pytest.raises(TypeError, match=r"state.*int"):
    mam_softmax_class_ema(logits, labels, jnp.zeros(7, int))


def test_kappa_can_be_mapped(data):
  kappas = jnp.array([0.0, 0.5, 2.0])
  mapped = jax.jit(jax.vmap(lambda k: mam_softmax(data.logits, data.labels, kappa=k)))(
    kappas
  )
  for kappa, row in zip(kappas, mapped, strict=True):
    np.testing.assert_allclose(
      row, mam_softmax(data.logits, data.labels, kappa=float(kappa)), rtol=1e-6
    )
