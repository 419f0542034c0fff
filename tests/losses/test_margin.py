"""Margin losses: closed forms in float64, identities, and the shape of the margin.

Values and gradients of an independent implementation are in test_golden.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from emosynth_jax import losses
from emosynth_jax.losses import (
  LOSSES,
  MARGINS,
  cross_entropy,
  multiplicative_margin,
)


def cosines64(data):
  x, w = data.embeddings.astype(np.float64), data.weights.astype(np.float64)
  norms = np.linalg.norm(x, axis=1, keepdims=True), np.linalg.norm(w, axis=0)
  return x @ w / norms[0] / norms[1], *norms


def nll64(z, y):
  return -(y * special.log_softmax(z, axis=-1)).sum(-1)


def psi64(c, m):
  """SphereFace's psi from the angle itself."""
  theta = np.arccos(np.clip(c, -1, 1))
  k = np.minimum(np.floor(theta * m / np.pi), m - 1)
  return (-1.0) ** k * np.cos(m * theta) - 2 * k


ANGULAR = {
  "cosface": ({"scale": 10.0, "margin": 0.2}, lambda c, y: 10 * (c - 0.2 * y)),
  "arcface": (
    {"scale": 10.0, "margin": 0.7},
    lambda c, y: (
      10
      * np.where(
        y == 1,
        np.where(
          np.arccos(c) + 0.7 < np.pi,
          np.cos(np.arccos(c) + 0.7),
          c - 0.7 * np.sin(0.7),
        ),
        c,
      )
    ),
  ),
  "double_am_softmax": (
    {"scale": 10.0, "margin": 0.2},
    lambda c, y: 10 * (c + 0.2 * (1 - 2 * y)),
  ),
  "dynamic_am_softmax": (
    {"scale": 10.0, "margin": 0.3, "lam": 1.5},
    lambda c, y: 10 * (c - y * 0.3 * np.exp(1 - c) / 1.5),
  ),
}


@pytest.mark.parametrize("name", ANGULAR)
def test_scaled_margins_are_their_formulas(data, name):
  arguments, formula = ANGULAR[name]
  c, _, _ = cosines64(data)
  loss = jax.jit(functools.partial(LOSSES[name], **arguments))
  np.testing.assert_allclose(
    loss(data.embeddings, data.weights, data.labels),
    nll64(formula(c, data.y), data.y),
    rtol=1e-5,
  )


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", ["sphereface", "l_softmax"])
def test_multiplied_margins_are_their_formulas(data, name, margin):
  """At step 100 with lam = 1500 / (1 + .1 100) > 5."""
  c, x_norm, w_norm = cosines64(data)
  lam = 1500 / 11
  blended = np.where(data.y == 1, (lam * c + psi64(c, margin)) / (1 + lam), c)
  norms = x_norm * (w_norm if name == "l_softmax" else 1)
  np.testing.assert_allclose(
    LOSSES[name](data.embeddings, data.weights, data.labels, 100, margin=margin),
    nll64(norms * blended, data.y),
    rtol=1e-5,
  )


def test_annealing_ends_at_lam_min(data):
  c, x_norm, _ = cosines64(data)
  blended = np.where(data.y == 1, (5 * c + psi64(c, 4)) / 6, c)
  np.testing.assert_allclose(
    losses.sphereface(data.embeddings, data.weights, data.labels, 10**6),
    nll64(x_norm * blended, data.y),
    rtol=1e-5,
  )


def test_the_dynamic_margin_has_no_gradient(data):
  """Its gradient is CosFace's with the margins held: by (p - y) through the cosines."""
  x, w, y = data.embeddings, data.weights, data.labels
  c, _, _ = cosines64(data)
  margins = 0.2 * np.exp(1 - (c * data.y).sum(-1)) / 2
  held = np.asarray(margins[:, None] * data.y * 30, np.float32)

  def with_constant_margins(x):
    logits = losses.cosine_logits(x, w, scale=30.0) - held
    return cross_entropy(logits, y).sum()

  np.testing.assert_allclose(
    jax.grad(lambda x: losses.dynamic_am_softmax(x, w, y).sum())(x),
    jax.grad(with_constant_margins)(x),
    rtol=1e-4,
    atol=1e-5,
  )


# Identities.


def test_sm_softmax_is_cross_entropy_of_shifted_logits(data):
  shifted = (data.logits - 1.25 * data.y).astype(np.float32)
  np.testing.assert_allclose(
    losses.sm_softmax(data.logits, data.labels, margin=1.25),
    optax.softmax_cross_entropy_with_integer_labels(shifted, data.labels),
    rtol=1e-6,
  )


def test_cosface_has_three_names():
  assert LOSSES["cosface"] is LOSSES["am_softmax"] is LOSSES["lmcl"]
  assert LOSSES["arcface"] is LOSSES["aam_softmax"]
  assert LOSSES["sphereface"] is LOSSES["a_softmax"]


@pytest.mark.parametrize(
  "name", ["cosface", "arcface", "double_am_softmax", "dynamic_am_softmax"]
)
def test_no_margin_is_cross_entropy_of_scaled_cosines(data, name):
  x, w, y = data.embeddings, data.weights, data.labels
  c, _, _ = cosines64(data)
  np.testing.assert_allclose(
    LOSSES[name](x, w, y, margin=0.0, scale=8.0), nll64(8 * c, data.y), rtol=1e-5
  )


def test_sphereface_with_margin_one_and_unit_weights_is_cross_entropy(data):
  w = data.weights / np.linalg.norm(data.weights, axis=0)
  np.testing.assert_allclose(
    losses.sphereface(data.embeddings, w, data.labels, 0, margin=1),
    cross_entropy(data.embeddings @ w, data.labels),
    rtol=1e-5,
  )


# The margin as a function of the angle.


def target_logit(name, theta, **arguments):
  """The label's logit over its norm for embeddings at the angles `theta`."""
  x = np.stack([np.cos(theta), np.sin(theta)], axis=1).astype(np.float32)
  weights = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
  given = {"step": 0} if name in ("sphereface", "l_softmax") else {"scale": 1.0}
  labels = jnp.zeros(len(theta), jnp.int32)
  return np.asarray(MARGINS[name](x, weights, labels=labels, **given, **arguments))[
    :, 0
  ]


THETA = np.linspace(0, np.pi, 201)


@pytest.mark.parametrize(
  ("name", "arguments"),
  [
    ("cosface", {}),
    ("arcface", {"margin": 0.5}),
    ("arcface", {"margin": 2.0}),
    ("arcface", {"margin": 2.331}),
    ("sphereface", {"lam_min": 0.0, "lam_max": 0.0, "margin": 4}),
    ("sphereface", {"lam_min": 0.0, "lam_max": 0.0, "margin": 3}),
    ("dynamic_am_softmax", {}),
  ],
)
def test_the_label_s_logit_falls_with_the_angle_and_below_the_cosine(name, arguments):
  logit = target_logit(name, THETA, **arguments)
  assert (np.diff(logit) < 1e-6).all()
  assert (logit <= np.cos(THETA) + 1e-6).all()


def test_an_easy_margin_is_not_monotone():
  logit = target_logit("arcface", THETA, easy_margin=True)
  assert np.diff(logit).max() > 0.4  # a step of sin .5 at the right angle
  np.testing.assert_allclose(logit[101:], np.cos(THETA[101:]), atol=1e-6)


def test_psi_is_exact_at_its_joints():
  theta = np.arange(5) * np.pi / 4
  psi = target_logit("sphereface", theta, lam_min=0.0, lam_max=0.0)
  np.testing.assert_allclose(psi, [1, -1, -3, -5, -7], atol=1e-4)


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_psi_falls_up_to_an_angle_of_pi(margin):
  """d psi / dc is m^2 at c = -1, as T_m' is at 1; with k = m it equals -m^2."""
  slope = jax.grad(lambda c: multiplicative_margin._multiple_angle(c, margin))(-1.0)
  assert float(slope) == pytest.approx(margin**2, rel=1e-5)


@pytest.mark.parametrize("m", [0.1, 0.5, 1.5])
def test_arcface_is_right_at_cosine_plus_and_minus_one(m):
  """cos(0 + m), and at theta = pi the straight continuation -1 - m sin m."""
  logit = target_logit("arcface", np.array([0.0, np.pi]), margin=m)
  np.testing.assert_allclose(logit, [np.cos(m), -1 - m * np.sin(m)], atol=1e-5)


def test_arcface_s_slope_is_bounded_near_cosine_one():
  """By 2000 sin m; the true one, sin(theta + m) / sin(theta), is not."""
  weights = jnp.array([[1.0, 0.0], [0.0, 1.0]])

  def logit(c):
    x = jnp.stack([c, jnp.sqrt(jnp.maximum(1 - c**2, 1e-12))])[None]
    return losses.arcface_logits(x, weights, jnp.array([0]), scale=1.0)[0, 0]

  slope_at = jax.jit(jax.grad(logit))
  for tiny in (1e-3, 1e-5, 1e-6, 1e-7):
    slope = float(slope_at(jnp.float32(1 - tiny)))
    assert slope < 2000 * np.sin(0.5) + 1
    assert slope > (10 if tiny == 1e-3 else 100)
  theta = np.arccos(1 - 1e-3)
  assert float(slope_at(jnp.float32(1 - 1e-3))) == pytest.approx(
    np.sin(theta + 0.5) / np.sin(theta), rel=1e-2
  )


def test_scale_and_margin_can_be_mapped(data):
  scales, margins = jnp.array([4.0, 16.0]), jnp.array([0.1, 0.4])
  given = data.embeddings, data.weights, data.labels
  for name in ("cosface", "arcface"):
    mapped = jax.jit(
      jax.vmap(lambda s, m, name=name: LOSSES[name](*given, scale=s, margin=m))
    )(scales, margins)
    for row, s, m in zip(mapped, scales, margins, strict=True):
      np.testing.assert_allclose(
        row, LOSSES[name](*given, scale=float(s), margin=float(m)), rtol=1e-5
      )


def test_bad_arguments_are_refused(data):
  given = data.embeddings, data.weights, data.labels
  with pytest.raises(ValueError, match=r"margin.*2\.33.*4"):
    losses.arcface(*given, margin=4.0)
  with pytest.raises(TypeError, match=r"margin: expected an integer, got 3\.5"):
    losses.sphereface(*given, 0, margin=3.5)
  with pytest.raises(ValueError, match=r"margin.*1.*0"):
    losses.l_softmax(*given, 0, margin=0)
  with pytest.raises(ValueError, match=r"scale.*-1"):
    losses.cosface(*given, scale=-1.0)


@pytest.mark.parametrize("margin", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("offset", [-0.2, 0.2])
def test_arcface_drives_all_cosines_down_beyond_half_of_pi_less_margin(margin, offset):
  """The docstring's hazard.

  d cos(theta + m) / d cos theta = sin(theta + m) / sin theta is 1 at theta =
  (pi - m) / 2. With all K weights at one angle the loss is
  log(1 + (K - 1) e^(s (c - cos(theta + m)))), and only its difference counts.
  """

  def loss(theta, name):
    weights = jnp.stack([jnp.cos(theta) * jnp.ones(7), jnp.sin(theta) * jnp.ones(7)])
    function = losses.get_loss(name, scale=4.0, margin=margin)
    return function(
      embeddings=jnp.array([[1.0, 0.0]]), weights=weights, labels=jnp.array([3])
    )[0]

  theta = (np.pi - margin) / 2 + offset
  slope_of = jax.jit(jax.grad(loss), static_argnums=1)
  slope = slope_of(theta, "arcface")
  # Away from the embedding the loss falls beyond that angle, and rises before it.
  assert np.sign(slope) == -np.sign(offset)
  assert abs(slope) > 0.01
  # CosFace's does not care where all of them stand.
  assert abs(slope_of(theta, "cosface")) < 1e-5
