"""Noise-robust and scheduled losses against float64 formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax.losses import (
  active_passive,
  cross_entropy,
  generalized_cross_entropy,
  mean_absolute_error,
  mixed_cross_entropy,
  normalized_cross_entropy,
  reverse_cross_entropy,
  sample_ratio,
  small_loss_cross_entropy,
  symmetric_cross_entropy,
  truncated_generalized_cross_entropy,
)


def gce(p, q=0.7):
  return (1 - p**q) / q


def test_mae_is_half_of_the_absolute_error(data):
  np.testing.assert_allclose(
    mean_absolute_error(data.logits, data.labels),
    np.abs(data.y - data.p).sum(-1) / 2,
    rtol=1e-5,
  )


def test_rce_exchanges_label_and_prediction(data):
  log_label = np.where(data.y == 1, 0.0, np.log(1e-4))
  np.testing.assert_allclose(
    reverse_cross_entropy(data.logits, data.labels),
    -(data.p * log_label).sum(-1),
    rtol=1e-5,
  )


def test_nce_is_its_formula_and_sums_to_one_over_labels(data):
  expected = data.log_p / data.log_p.sum(-1, keepdims=True)
  for labels, y in ((data.labels, data.y), (data.soft, data.soft)):
    np.testing.assert_allclose(
      normalized_cross_entropy(data.logits, labels), (y * expected).sum(-1), rtol=1e-5
    )
  total = sum(normalized_cross_entropy(data.logits, np.full(5, k)) for k in range(7))
  np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_active_passive_adds_its_parts(data):
  z, y = data.logits, data.labels
  nce = np.log(data.p_y) / data.log_p.sum(-1)
  rest = 1 - data.p_y
  np.testing.assert_allclose(
    active_passive(z, y, active_weight=2.0, passive_weight=0.5),
    2 * nce - 0.5 * np.log(1e-4) * rest,
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    active_passive(z, y, active="ce", passive="mae"),
    -np.log(data.p_y) + rest,
    rtol=1e-5,
  )


def test_symmetric_cross_entropy_is_its_formula(data):
  np.testing.assert_allclose(
    symmetric_cross_entropy(data.logits, data.labels),
    -0.1 * np.log(data.p_y) - np.log(1e-4) * (1 - data.p_y),
    rtol=1e-5,
  )


@pytest.mark.parametrize("q", [0.05, 0.7, 1.0])
def test_gce_is_its_formula(data, q):
  for labels, y in ((data.labels, data.y), (data.soft, data.soft)):
    np.testing.assert_allclose(
      generalized_cross_entropy(data.logits, labels, q=q),
      (y * gce(data.p, q)).sum(-1),
      rtol=1e-5,
    )


def test_gce_runs_from_cross_entropy_to_absolute_error(data):
  z, y = data.logits, data.labels
  np.testing.assert_array_equal(
    generalized_cross_entropy(z, y, q=0), cross_entropy(z, y)
  )
  # The next term of the series is -q (log p)^2 / 2.
  np.testing.assert_allclose(
    generalized_cross_entropy(z, y, q=1e-7), cross_entropy(z, y), rtol=1e-5
  )
  np.testing.assert_allclose(
    generalized_cross_entropy(z, y, q=1), mean_absolute_error(z, y), rtol=1e-5
  )


def test_gce_can_be_mapped_over_q(data):
  qs = jnp.array([0.0, 0.5, 1.0])
  loss = lambda q: generalized_cross_entropy(data.logits, data.labels, q=q)  # noqa: E731
  slopes = jax.jit(jax.vmap(jax.grad(lambda q: loss(q).sum())))(qs)
  assert np.isfinite(slopes).all()
  np.testing.assert_allclose(
    jax.vmap(loss)(qs), np.stack([loss(float(q)) for q in qs]), rtol=1e-6
  )


def test_truncation_keeps_the_examples_of_low_loss(data):
  p_y = np.array([0.9, 0.51, 0.49, 0.1, 0.001])
  logits = np.log((1 - p_y[:, None]) / 6) * np.ones((1, 7))
  logits[np.arange(5), data.labels] = np.log(p_y)
  logits = logits.astype(np.float32)
  loss = lambda z: truncated_generalized_cross_entropy(z, data.labels)  # noqa: E731
  np.testing.assert_allclose(loss(logits), gce(np.maximum(p_y, 0.5)), rtol=1e-5)
  grad = jax.grad(lambda z: loss(z).sum())(logits)
  np.testing.assert_array_equal(
    np.abs(grad).sum(-1) > 0, [True, True, False, False, False]
  )


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (25, 0.125), (300, 0.5)])
def test_mixed_cross_entropy_is_its_formula(data, step, share):
  expected = -(1 - share) * np.log(data.p_y) - share * data.log_p.max(-1)
  np.testing.assert_allclose(
    mixed_cross_entropy(data.logits, data.labels, step, total_steps=100),
    expected,
    rtol=1e-5,
  )


def test_the_sample_ratio_falls_to_one_minus_the_noise_rate():
  """Equation 2.11 with tau = .3 and E_k = 10 of a step an epoch."""
  ratios = [
    float(sample_ratio(e, noise_rate=0.3, warmup_steps=10)) for e in (0, 5, 10, 99)
  ]
  np.testing.assert_allclose(ratios, [1.0, 0.85, 0.7, 0.7], rtol=1e-6)


@pytest.mark.parametrize(("step", "kept"), [(0, 5), (2, 4), (10, 3), (99, 3)])
def test_the_smallest_losses_are_kept(data, step, kept):
  """5 (1 - .4 step / 10): 5, 4.6, 3 and 3 examples, rounded down."""
  loss = jax.jit(
    lambda z: small_loss_cross_entropy(
      z, data.labels, step, noise_rate=0.4, warmup_steps=10
    )
  )
  ce = -np.log(data.p_y)
  chosen = ce <= np.sort(ce)[kept - 1]
  np.testing.assert_allclose(
    loss(data.logits), np.where(chosen, ce * 5 / kept, 0.0), rtol=1e-5
  )
  np.testing.assert_allclose(
    loss(data.logits).mean(), np.sort(ce)[:kept].mean(), rtol=1e-5
  )
  grad = jax.grad(lambda z: loss(z).sum())(data.logits)
  np.testing.assert_allclose(
    grad, chosen[:, None] * (data.p - data.y) * 5 / kept, atol=1e-5
  )


def test_a_loss_that_is_not_a_number_is_not_dropped(data):
  logits = data.logits.copy()
  logits[3] = np.nan
  losses = small_loss_cross_entropy(
    logits, data.labels, 99, noise_rate=0.4, warmup_steps=10
  )
  assert np.isnan(losses[3])


def test_bad_arguments_are_refused(data):
  z, y = data.logits, data.labels
  with pytest.raises(ValueError, match=r"active.*ce, nce.*'mae'"):
    active_passive(z, y, active="mae")
  with pytest.raises(ValueError, match=r"passive.*mae, rce.*'ce'"):
    active_passive(z, y, passive="ce")
  with pytest.raises(ValueError, match=r"q: .*\[0, 1\].*2"):
    generalized_cross_entropy(z, y, q=2)
  with pytest.raises(ValueError, match=r"step: expected one number.*\(5,\)"):
    mixed_cross_entropy(z, y, np.zeros(5), total_steps=10)
  with pytest.raises(ValueError, match=r"total_steps.*0"):
    mixed_cross_entropy(z, y, 0, total_steps=0)
