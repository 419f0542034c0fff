"""Sharpness against closed forms: softmax regression in float64, and quadratics."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from emosynth_jax.analysis import directions as of_params
from emosynth_jax.analysis.curvature import sharpness


def _quadratic(dtype):
  """`w' A w / 2` as the mean of two batches' losses, with A."""
  rng = np.random.default_rng(0)
  halves = rng.normal(size=(2, 5, 5))
  matrices = halves @ halves.transpose(0, 2, 1)
  w = rng.normal(size=5)

  def loss_fn(params, matrix):
    x = jnp.concatenate([params["a"], params["b"]])
    return x @ matrix @ x / 2

  params = {"a": jnp.asarray(w[:2], dtype), "b": jnp.asarray(w[2:], dtype)}
  return loss_fn, params, jnp.asarray(matrices, dtype), w, matrices.mean(axis=0)


def test_sams_sharpness_of_a_quadratic():
  loss_fn, params, batches, w, matrix = _quadratic(np.float32)
  found = sharpness.sam_sharpness(loss_fn, params, batches, radius=0.3)
  climbed = w + 0.3 * matrix @ w / np.linalg.norm(matrix @ w)
  expected = (climbed @ matrix @ climbed - w @ matrix @ w) / 2
  assert expected > 0.1
  assert float(found) == pytest.approx(expected, rel=1e-4)


def test_the_mean_rise_of_a_quadratic_is_that_of_its_second_order_alone():
  loss_fn, params, batches, _, matrix = _quadratic(np.float32)
  directions = np.random.default_rng(1).normal(size=(3, 5))
  trees = {
    "a": jnp.float32(directions[:, :2]),
    "b": jnp.float32(directions[:, 2:]),
  }
  found = sharpness.mean_rise(loss_fn, params, trees, batches, distance=0.5)
  expected = np.mean([0.5**2 * d @ matrix @ d / 2 for d in directions])
  assert float(found) == pytest.approx(expected, rel=1e-4)


def test_the_temperature_is_the_softer_one_of_two():
  # Three of four examples are right by a margin of 2: the loss has a minimum.
  def loss_at(t):
    return 0.75 * math.log1p(math.exp(-2 / t)) + 0.25 * math.log1p(math.exp(2 / t))

  best = 2 / math.log(3)  # where the probability is the share of the right ones
  for t in (1.05 * best, 3.0, 30.0):
    assert sharpness.find_temperature(loss_at, loss_at(t)) == pytest.approx(t, rel=1e-4)
  # Below the least loss, and above that of equal probabilities.
  assert math.isnan(sharpness.find_temperature(loss_at, loss_at(best) - 1e-3))
  assert math.isnan(sharpness.find_temperature(loss_at, math.log(2) + 1e-3))


def _regression():
  """Softmax regression on 24 images in three batches."""
  rng = np.random.default_rng(2)
  images = rng.normal(size=(3, 8, 4))
  kernel = rng.normal(size=(4, 3))
  labels = np.argmax(images @ kernel + rng.normal(size=(3, 8, 3)), axis=-1)
  return images, labels, kernel


def _measure(params, constants, batch, temperature):
  images, labels = batch
  logs = jax.nn.log_softmax(constants * images @ params["kernel"] / temperature)
  return {"loss": -jnp.take_along_axis(logs, labels[:, None], axis=1).mean()}


def _reference(images, labels, kernel, temperature):
  """Loss, gradient and Hessian of softmax regression, in float64."""
  x, y = images.reshape(-1, 4) / temperature, labels.reshape(-1)
  p = special.softmax(x @ kernel, axis=1)
  loss = -np.mean(np.log(p[np.arange(len(y)), y]))
  gradient = x.T @ (p - np.eye(3)[y]) / len(y)
  curvature = p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None, :]
  hessian = np.einsum("ni,nj,nkl->ikjl", x, x, curvature) / len(y)
  return loss, gradient, hessian.reshape(12, 12)


@pytest.mark.parametrize("suffix", ["", "_at_target"])
def test_a_regression_is_measured_as_its_closed_form_says(suffix):
  images, labels, kernel = _regression()
  params = {"kernel": jnp.float32(kernel)}
  batches = (jnp.float32(images), jnp.int32(labels))
  found = sharpness.measure_sharpness(
    _measure, params, jnp.float32(1), batches, target_loss=1.0, num_products=12
  )

  temperature = found["temperature"] if suffix else 1.0
  loss, gradient, hessian = _reference(images, labels, kernel, temperature)
  assert found["loss"] == pytest.approx(_reference(images, labels, kernel, 1.0)[0])
  if suffix:
    assert loss == pytest.approx(1.0, rel=1e-5)
  climbed = kernel + 0.05 * gradient / np.linalg.norm(gradient)
  rise = _reference(images, labels, climbed, temperature)[0] - loss
  assert found[f"sam{suffix}"] == pytest.approx(rise, rel=1e-2)
  largest = np.linalg.eigvalsh(hessian)[-1]
  assert found[f"eigenvalue{suffix}"] == pytest.approx(largest, rel=1e-4)
  assert found[f"eigenvalue_residual{suffix}"] < 1e-4

  # Of the directions that were drawn, each column with that of the kernel's norm.
  key = jax.random.split(jax.random.key(0))[0]
  drawn = np.asarray(of_params.draw_directions(key, params, 8)["kernel"], np.float64)
  lengths = np.linalg.norm(kernel, axis=0) / np.linalg.norm(drawn, axis=1)[:, None]
  steps = 0.25 * drawn * lengths
  moved = [
    _reference(images, labels, kernel + sign * step, temperature)[0]
    for step in steps
    for sign in (1, -1)
  ]
  assert found[f"rise{suffix}"] == pytest.approx(np.mean(moved) - loss, rel=1e-3)


def test_a_loss_that_no_temperature_has_gives_no_number():
  images, labels, kernel = _regression()
  found = sharpness.measure_sharpness(
    _measure,
    {"kernel": jnp.float32(kernel)},
    jnp.float32(1),
    (jnp.float32(images), jnp.int32(labels)),
    target_loss=0.01,
  )
  unknown = {name for name, value in found.items() if math.isnan(value)}
  assert unknown == {
    "temperature",
    *(f"{name}_at_target" for name in ("sam", "rise", "eigenvalue")),
    "eigenvalue_residual_at_target",
  }
