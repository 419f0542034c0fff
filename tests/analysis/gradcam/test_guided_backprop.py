import functools

import jax
import jax.numpy as jnp
import network_shapes
import numpy as np
import pytest
from jax import lax
from small_network import load

from emosynth_jax import models
from emosynth_jax.analysis.gradcam import grad_cam
from emosynth_jax.analysis.gradcam.guided_backprop import (
  guided_backprop,
  guided_grad_cam,
)


def weighted(activation):
  """y = sum of weights times activations, for one class."""

  def apply_fn(weights, inputs):
    return (weights * activation(inputs)).sum((1, 2, 3), keepdims=True)[..., 0, 0], {}

  return apply_fn


def swish_slope(x):
  s = 1 / (1 + np.exp(-x))
  return s + x * s * (1 - s)


@pytest.mark.parametrize(
  ("activation", "slope"),
  [
    (jax.nn.relu, lambda x: 1.0),
    (jax.nn.elu, lambda x: 1.0),
    (functools.partial(jax.nn.elu, alpha=0.3), lambda x: 1.0),
    (jax.nn.relu6, lambda x: float(x < 6)),
    (jax.nn.swish, swish_slope),
  ],
)
def test_the_rule_by_hand(activation, slope):
  values = [-2.0, -0.5, 0.0, 0.5, 3.0, 7.0]
  x = jnp.array([[v, v] for v in values]).reshape(1, len(values), 2, 1)
  weights = jnp.broadcast_to(jnp.array([2.0, -3.0]).reshape(1, 1, 2, 1), x.shape)
  found = jax.jit(functools.partial(guided_backprop, weighted(activation)))(weights, x)
  # Open for x > 0 and the gradient 2, closed for the gradient -3.
  expected = [[2 * slope(v) if v > 0 else 0, 0] for v in values]
  np.testing.assert_allclose(found[0, :, :, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["relu", "elu"])
def test_it_is_torchs(name):
  """ReLU: pytorch-grad-cam. ELU: restated with torch's hooks."""
  model, variables, images, targets, record = load(name)
  apply_fn = grad_cam.flax_apply_fn(model)
  found = jax.jit(functools.partial(guided_backprop, apply_fn))(
    variables, images, targets=targets
  )
  expected = np.asarray(record["guided"])
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.max())
  plain = jax.jit(
    jax.grad(lambda x: apply_fn(variables, x)[0][jnp.arange(3), targets].sum())
  )(images)
  assert np.abs(plain - expected).max() > 0.1 * np.abs(expected).max()


def test_the_class_is_the_predicted_one_by_default():
  model, variables, images, _, _ = load("elu")
  images = jnp.concatenate([images, -2 * images])
  apply_fn = grad_cam.flax_apply_fn(model)
  predicted = jax.jit(apply_fn)(variables, images)[0].argmax(-1)
  assert len(set(predicted.tolist())) > 1
  guided = jax.jit(functools.partial(guided_backprop, apply_fn))
  np.testing.assert_array_equal(
    guided(variables, images), guided(variables, images, targets=predicted)
  )


def test_an_activation_inside_of_a_jitted_function_is_found():
  def apply_fn(weights, inputs):
    return jax.jit(weighted(jax.nn.relu))(weights, 1.0 * inputs)

  x = jnp.array([1.0, -1.0]).reshape(1, 2, 1, 1)
  found = guided_backprop(apply_fn, jnp.ones_like(x), x)
  np.testing.assert_array_equal(found.ravel(), [1, 0])


def test_what_cant_be_guided_is_refused():
  x = jnp.ones((1, 2, 1, 1))
  with pytest.raises(ValueError, match=r"one of the activations relu, .* got none"):
    guided_backprop(weighted(jnp.tanh), x, x)

  def in_a_loop(y):
    return lax.scan(lambda c, _: (jax.nn.relu(c), None), y, None, length=2)[0]

  with pytest.raises(ValueError, match="an activation is inside scan"):
    guided_backprop(weighted(in_a_loop), x, x)
  # Nothing was switched on that would stay on.
  gradient = jax.grad(lambda x: -jax.nn.relu(x).sum())(x)
  np.testing.assert_array_equal(gradient, -x)


def test_zero_and_nan_stay_what_they_are():
  x = jnp.ones((1, 2, 1, 1))
  guided = functools.partial(guided_backprop, weighted(jax.nn.relu))
  np.testing.assert_array_equal(guided(0 * x, x), 0 * x)
  assert np.isnan(guided(jnp.nan * x, x)).all()
  assert np.isnan(guided(x, x, targets=jnp.array([1]))).all()


def test_guided_grad_cam_is_the_product():
  guided = jnp.arange(8.0).reshape(1, 2, 2, 2)
  maps = jnp.array([[[0.0, 1.0], [2.0, 3.0]]])
  np.testing.assert_array_equal(
    guided_grad_cam(guided, maps).ravel(), [0, 0, 2, 3, 8, 10, 18, 21]
  )
  with pytest.raises(ValueError, match=r"maps: expected \(1, 2, 2\)"):
    guided_grad_cam(guided, maps[:, :1])


@pytest.mark.parametrize("name", ["all_cnn", "emosynthnet", "mobilenet_v2"])
def test_networks_can_be_guided(name):
  """Each kind of activation and block; the others are made of the same."""
  model = models.build_model(name, num_classes=3, width=0.125)
  images = jax.ShapeDtypeStruct((2, 32, 32, 1), jnp.float32)
  variables, *_ = network_shapes.of(model, images.shape)
  guided = functools.partial(guided_backprop, grad_cam.flax_apply_fn(model))
  assert jax.eval_shape(guided, variables, images).shape == images.shape
