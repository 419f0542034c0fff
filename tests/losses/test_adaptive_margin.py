"""CurricularFace, MagFace and AdaFace against the authors' formulas in float64.

With the angle itself, as their published code has it (arccos), where ours has none.
"""

import functools
import inspect
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from emosynth_jax import losses
from emosynth_jax.losses import (
  _angle,
  adaface,
  arcface,
  cosface,
  cross_entropy,
  curricularface,
  init_state,
  magface,
)


def angles64(data):
  """Angles `(N, K)` and the embeddings' norms `(N, 1)`."""
  x, w = data.embeddings.astype(np.float64), data.weights.astype(np.float64)
  norms = np.linalg.norm(x, axis=1, keepdims=True)
  return np.arccos(x @ w / norms / np.linalg.norm(w, axis=0)), norms


def nll64(z, y):
  return -(y * special.log_softmax(z, axis=-1)).sum(-1)


def shifted64(theta, m):
  """ArcFace's cos(theta + m), continued past pi."""
  return np.where(theta + m < np.pi, np.cos(theta + m), np.cos(theta) - m * np.sin(m))


# CurricularFace.


def curricular64(data, t, margin, decay, scale):
  theta, _ = angles64(data)
  c, y = np.cos(theta), data.y
  t = decay * t + (1 - decay) * (c * y).sum(-1).mean()
  target = (shifted64(theta, margin) * y).sum(-1, keepdims=True)
  negatives = np.where(c > target, c * (t + c), c)
  return scale * np.where(y == 1, target, negatives), t


@pytest.mark.parametrize(("margin", "easy"), [(0.1, True), (0.5, True), (1.5, False)])
def test_curricularface_is_its_formula(data, margin, easy):
  expected, t = curricular64(data, 0.4, margin, 0.7, 12.0)
  loss = jax.jit(
    functools.partial(curricularface, margin=margin, decay=0.7, scale=12.0)
  )
  values, state = loss(data.embeddings, data.weights, data.labels, jnp.float32(0.4))
  np.testing.assert_allclose(values, nll64(expected, data.y), rtol=1e-5)
  np.testing.assert_allclose(state, t, rtol=1e-5)
  # Hard negatives were there, and easy ones.
  hard = expected / 12 != np.cos(angles64(data)[0])
  assert hard[data.y == 0].any()
  assert hard[data.y == 0].all() != easy


def test_curricularface_starts_at_zero_and_follows_the_label_s_cosine(data):
  state = init_state("curricularface", 7, 4)
  assert float(state) == 0
  mean = (np.cos(angles64(data)[0]) * data.y).sum(-1).mean()
  loss = jax.jit(curricularface)
  for _ in range(3):
    _, state = loss(data.embeddings, data.weights, data.labels, state)
  assert float(state) == pytest.approx(mean * (1 - 0.99**3), rel=1e-4)


def test_curricularface_without_hard_negatives_is_arcface():
  w = np.eye(4, 3, dtype=np.float32)
  x = w.T + np.float32(0.05)
  given = x, w, np.arange(3)
  settings = {"margin": 0.5, "scale": 4.0}
  loss = jax.jit(functools.partial(curricularface, **settings))
  values, _ = loss(*given, jnp.float32(0.9))
  expected = jax.jit(functools.partial(arcface, **settings))(*given)
  np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_curricularface_s_t_has_no_gradient(data):
  """The gradient is that with t held at its new value, by decay = 1.

  That one is, too, what central differences of the formula in float64 are.
  """
  w, y = data.weights, data.labels

  def total(x, state, decay):
    values, state = curricularface(x, w, y, state, decay=decay, scale=12.0)
    return values.sum(), state

  gradient = jax.jit(jax.grad(total, has_aux=True), static_argnums=2)
  found, new = gradient(data.embeddings, jnp.float32(0.2), 0.5)
  held, _ = gradient(data.embeddings, new, 1.0)
  np.testing.assert_allclose(found, held, rtol=1e-5, atol=1e-5)

  x = data.embeddings.astype(np.float64)
  expected = np.zeros_like(x)
  for place in np.ndindex(*x.shape):
    totals = []
    for change in (1e-6, -1e-6):
      moved = x.copy()
      moved[place] += change
      given = types.SimpleNamespace(embeddings=moved, weights=w, y=data.y)
      z, _ = curricular64(given, float(new), 0.5, 1.0, 12.0)
      totals.append(nll64(z, data.y).sum())
    expected[place] = (totals[0] - totals[1]) / 2e-6
  np.testing.assert_allclose(held, expected, rtol=1e-4, atol=1e-4)


# MagFace.


BOUNDS = {"min_norm": 2.0, "max_norm": 5.0, "min_margin": 0.2, "max_margin": 0.9}


@pytest.mark.parametrize("easy_margin", [False, True])
def test_magface_is_its_formula(data, easy_margin):
  theta, norms = angles64(data)
  a = np.clip(norms, 2, 5)
  assert 0 < (a == norms).sum() < len(a)
  m = 0.2 + 0.7 / 3 * (a - 2)
  if easy_margin:
    target = np.where(np.cos(theta) > 0, np.cos(theta + m), np.cos(theta))
  else:
    target = shifted64(theta, m)
  z = 10 * np.where(data.y == 1, target, np.cos(theta))
  expected = nll64(z, data.y) + 7 * (a / 25 + 1 / a)[:, 0]
  settings = {"scale": 10.0, "norm_weight": 7.0, "easy_margin": easy_margin, **BOUNDS}
  loss = jax.jit(functools.partial(magface, **settings))
  values = loss(data.embeddings, data.weights, data.labels)
  np.testing.assert_allclose(values, expected, rtol=1e-5)


def along_the_norm(data, norm, **arguments):
  """d loss / d |x| of the first example at a norm."""
  direction = data.embeddings[:1] / np.linalg.norm(data.embeddings[0])

  def loss(a):
    return magface(a * direction, data.weights, data.labels[:1], **arguments)[0]

  return float(jax.jit(jax.grad(loss))(jnp.float32(norm)))


def test_magface_s_margin_shrinks_the_norm_and_its_reward_lengthens_it(data):
  free = BOUNDS | {"scale": 10.0}
  assert along_the_norm(data, 3.0, norm_weight=0.0, **free) > 0.01
  # The paper's bound on norm_weight, at which the loss falls from min_norm on.
  bound = 10 * 0.7 / 3 / (1 / 4 - 1 / 25)
  assert along_the_norm(data, 2.01, norm_weight=1.1 * bound, **free) < 0
  for norm in (1.0, 6.0):
    assert abs(along_the_norm(data, norm, norm_weight=bound, **free)) < 1e-4


def test_the_bound_on_norm_weight_in_the_docstring():
  (said,) = re.findall(r"(\S+)\s+with\s+the\s+defaults", magface.__doc__)
  of = {
    name: each.default for name, each in inspect.signature(magface).parameters.items()
  }
  rise = (of["max_margin"] - of["min_margin"]) / (of["max_norm"] - of["min_norm"])
  bound = of["scale"] * rise / (1 / of["min_norm"] ** 2 - 1 / of["max_norm"] ** 2)
  assert float(said) == pytest.approx(bound, abs=0.05)
  assert of["norm_weight"] >= bound


# AdaFace.


def ada64(data, state, margin, h, decay, scale):
  theta, norms = angles64(data)
  a = np.clip(norms, 1e-3, 100)
  mean = decay * state[0] + (1 - decay) * a.mean()
  deviation = decay * state[1] + (1 - decay) * a.std(ddof=1)
  q = np.clip(h * (a - mean) / (deviation + 1e-3), -1, 1)
  target = np.cos(np.clip(theta - margin * q, 0, np.pi)) - margin * (1 + q)
  z = scale * np.where(data.y == 1, target, np.cos(theta))
  return z, (mean, deviation), q


@pytest.mark.parametrize(("margin", "h"), [(0.4, 0.333), (1.5, 0.9), (3.0, 5.0)])
def test_adaface_is_its_formula(data, margin, h):
  expected, statistics, q = ada64(data, (3.0, 2.0), margin, h, 0.3, 12.0)
  assert q.min() < -0.1
  assert q.max() > 0.1
  loss = jax.jit(
    functools.partial(adaface, margin=margin, concentration=h, decay=0.3, scale=12.0)
  )
  values, state = loss(
    data.embeddings, data.weights, data.labels, jnp.array([3.0, 2.0])
  )
  np.testing.assert_allclose(values, nll64(expected, data.y), rtol=2e-5)
  np.testing.assert_allclose(state, statistics, rtol=1e-5)


def test_adaface_without_concentration_is_cosface(data):
  given = data.embeddings, data.weights, data.labels
  loss = jax.jit(functools.partial(adaface, concentration=0.0))
  values, _ = loss(*given, init_state("adaface", 7, 4))
  np.testing.assert_allclose(values, cosface(*given, margin=0.4, scale=64.0), rtol=1e-5)


def test_adaface_of_the_lowest_quality_is_arcface(data):
  """q = -1 for norms far below the mean; theta + margin stays below pi here."""
  given = data.embeddings, data.weights, data.labels
  assert ((angles64(data)[0] + 0.2) * data.y).max() < np.pi
  loss = functools.partial(adaface, margin=0.2, concentration=1.0, decay=1.0)
  values, _ = jax.jit(loss)(*given, jnp.array([90.0, 1.0]))
  expected = jax.jit(functools.partial(arcface, margin=0.2))(*given)
  np.testing.assert_allclose(values, expected, rtol=1e-4)


def test_adaface_s_quality_has_no_gradient(data):
  """The gradient is that of a margin held constant: none of it along the embedding."""
  w, y = data.weights, data.labels
  state = jnp.array([3.0, 2.0])
  _, _, q = ada64(data, (3.0, 2.0), 0.4, 0.333, 0.3, 12.0)
  q = jnp.asarray(q, jnp.float32)

  def ours(x):
    return adaface(x, w, y, state, decay=0.3, scale=12.0)[0].sum()

  def held(x):
    unit = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    c = unit @ (w / jnp.linalg.norm(w, axis=0, keepdims=True))
    target = jnp.cos(jnp.arccos(c) - 0.4 * q) - 0.4 * (1 + q)
    return cross_entropy(12 * jnp.where(data.y == 1, target, c), y).sum()

  x = jnp.asarray(data.embeddings)
  grad = jax.jit(jax.grad(ours))(x)
  np.testing.assert_allclose(grad, jax.jit(jax.grad(held))(x), rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose((grad * x).sum(-1), 0, atol=1e-4)


def test_adaface_of_one_example_has_a_deviation_of_zero(data):
  _, state = jax.jit(functools.partial(adaface, decay=0.0))(
    data.embeddings[:1], data.weights, data.labels[:1], jnp.ones(2)
  )
  np.testing.assert_allclose(
    state, [np.linalg.norm(data.embeddings[0]), 0.0], rtol=1e-5
  )


# The label's logit as a function of the angle, and what is refused.

THETA = np.linspace(0, np.pi, 201)
MONOTONE = [
  ("curricularface", {"margin": 0.5}),
  ("curricularface", {"margin": 2.331}),
  ("adaface", {"margin": 0.4, "concentration": 0.0}),
  ("adaface", {"margin": 1.0, "concentration": 100.0}),
  ("adaface", {"margin": 3.0, "concentration": 100.0}),
  ("elastic_arcface", {"margin": 0.5, "sigma": 0.0}),
  ("subcenter_arcface", {"margin": 2.331, "sub_centers": 1}),
  ("ldam", {"max_margin": 0.5}),
]


@pytest.mark.parametrize(("name", "arguments"), MONOTONE)
@pytest.mark.parametrize("norm", [0.5, 50.0])
def test_the_label_s_logit_falls_with_the_angle(name, arguments, norm):
  x = norm * np.stack([np.cos(THETA), np.sin(THETA)], axis=1).astype(np.float32)
  available = {
    "embeddings": x,
    "weights": np.eye(2, dtype=np.float32),
    "labels": np.zeros(len(x), np.int32),
    "class_counts": np.array([3, 9]),
    "step": 0,
    "state": init_state(name, 2, 2),
  }
  margin = functools.partial(losses.MARGINS[name], scale=1.0, **arguments)
  logits = jax.jit(margin)(**losses.select_inputs(margin, **available))
  logits = logits[0] if isinstance(logits, tuple) else logits
  assert (np.diff(logits[:, 0]) < 1e-6).all()


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("curricularface", {"margin": 3.2}, r"margin.*2\.33.*3\.2"),
    ("adaface", {"margin": 3.2}, r"margin.*3\.14.*3\.2"),
    ("elastic_arcface", {"margin": 3.2}, r"margin.*2\.33.*3\.2"),
    ("elastic_cosface", {"margin": -0.1}, r"margin.*0.*-0\.1"),
    ("subcenter_arcface", {"margin": 3.2, "sub_centers": 1}, r"margin.*2\.33.*3\.2"),
    ("magface", {"max_margin": 3.2}, r"max_margin.*2\.33.*3\.2"),
    ("magface", {"min_margin": -0.1}, r"min_margin.*0.*-0\.1"),
    ("magface", {"min_margin": 0.9}, r"max_margin.*min_margin=0\.9.*0\.8"),
    ("magface", {"min_norm": 200.0}, r"max_norm.*min_norm=200\.0.*110\.0"),
    ("ldam", {"max_margin": -0.1}, r"max_margin.*0.*-0\.1"),
    ("poly", {"epsilon": -1.5}, r"epsilon.*-1.*-1\.5"),
    ("sphereface", {"margin": 0}, r"margin.*1.*0"),
    ("arcface", {"margin": np.float64(2.4)}, r"margin.*2\.33.*2\.4"),
    ("arcface", {"margin": np.bool_(True)}, r"margin: expected a number"),
    ("cosface", {"margin": np.str_("0.3")}, r"margin: expected a number"),
  ],
)
def test_margins_outside_of_their_monotone_range_are_refused(
  data, name, arguments, message
):
  available = {
    "logits": data.logits,
    "embeddings": data.embeddings,
    "weights": data.weights,
    "labels": data.labels,
    "class_counts": data.counts,
    "step": 0,
    "state": init_state(name, 7, 4),
  }
  with pytest.raises((TypeError, ValueError), match=message):
    losses.call_loss(losses.get_loss(name, **arguments), **available)


def test_arcface_s_largest_margin_is_where_its_continuation_begins_at_minus_one():
  """Where theta + m passes pi: from cos pi to -cos m - m sin m, which has to fall."""
  m = _angle.MAX_MARGIN
  assert -np.cos(m) - m * np.sin(m) == pytest.approx(-1, abs=1e-5)
  wide = np.linspace(m + 1e-3, np.pi, 50)
  assert (-np.cos(wide) - wide * np.sin(wide) > -1).all()


def test_a_state_of_another_shape_is_refused(data):
  given = data.embeddings, data.weights, data.labels
  with pytest.raises(ValueError, match=r"state \(t\).*\(\).*\(7,\)"):
    curricularface(*given, jnp.zeros(7))
  with pytest.raises(ValueError, match=r"state \(norm statistics\).*\(2,\).*\(7,\)"):
    adaface(*given, jnp.zeros(7))
