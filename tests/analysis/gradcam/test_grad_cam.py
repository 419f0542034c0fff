import functools

import jax
import jax.numpy as jnp
import network_shapes
import numpy as np
import pytest
from small_network import load

from emosynth_jax import models
from emosynth_jax.analysis.gradcam import grad_cam
from emosynth_jax.models import normalized_inputs
from emosynth_jax.parallel import batched_map


def linear(variables, inputs):
  """A network whose only layer is its input: y = sum of weights and pixels."""
  maps = 1.0 * inputs
  return jnp.einsum("nhwk,hwkc->nc", maps, variables), {"maps": maps, "flat": maps[0]}


def test_a_case_by_hand():
  # Two maps of 1 x 2 pixels, two classes.
  maps = jnp.array([[[[3.0, 1.0], [-2.0, 5.0]]]])
  weights = np.zeros((1, 2, 2, 2), np.float32)
  weights[..., 0] = [[[1, -4], [3, -2]]]  # alpha = (2, -3)
  weights[..., 1] = [[[0, 2], [2, 0]]]  # alpha = (1, 1)
  cam = jax.jit(functools.partial(grad_cam.grad_cam, linear, layer="maps"))
  first = cam(jnp.asarray(weights), maps, targets=jnp.array([0]))
  # 2*3 - 3*1 = 3; 2*-2 - 3*5 = -19, which the ReLU cuts off.
  np.testing.assert_allclose(first.maps, [[[3, 0]]])
  # Logits 3 - 4 - 6 - 10 = -17 and 0 + 2 - 4 + 0 = -2: class 1, maps 3 + 1 and -2 + 5.
  second = cam(jnp.asarray(weights), maps)
  np.testing.assert_allclose(second.logits, [[-17, -2]])
  np.testing.assert_array_equal(second.targets, [1])
  np.testing.assert_allclose(second.maps, [[[4, 3]]])


@pytest.mark.parametrize("name", ["relu", "elu"])
def test_it_is_pytorch_grad_cams(name):
  model, variables, images, targets, record = load(name)
  apply_fn = grad_cam.flax_apply_fn(model, modules=True)
  layers = list(record["cams"])

  @jax.jit
  def compute(variables, images, targets):
    cams = {
      layer: grad_cam.grad_cam(
        apply_fn, variables, images, layer=layer, targets=targets
      ).maps
      for layer in layers
    }
    return cams, {k: grad_cam.upsample(v, images.shape[1:3]) for k, v in cams.items()}

  maps, large = jax.device_get(compute(variables, images, targets))
  logits = jax.jit(apply_fn)(variables, images)[0]
  np.testing.assert_allclose(logits, record["logits"], rtol=1e-4, atol=1e-5)
  for layer in layers:
    golden = record["cams"][layer]
    expected = np.maximum(golden["sums"], 0)
    assert expected.any(), "maps of zeros would test nothing"
    np.testing.assert_allclose(
      maps[layer], expected, rtol=1e-4, atol=1e-5 * expected.max(), err_msg=layer
    )
    # Theirs goes from 0 to 1 in each image; it adds 1e-7 to what it divides by.
    spread = large[layer] - large[layer].min((1, 2), keepdims=True)
    scaled = spread / np.maximum(spread.max((1, 2), keepdims=True), 1e-7)
    np.testing.assert_allclose(scaled, golden["scaled"], atol=1e-4, err_msg=layer)


def test_a_layer_that_two_ways_lead_on_from():
  # y = mean(a b) + mean(a): a = 2 x, b = x^2, as a function of a alone b is fixed.
  def apply_fn(variables, inputs):
    a = 2 * inputs
    b = inputs * inputs
    y = (a * b + a).mean((1, 2))
    return y, {"a": a, "b": b}

  x = jnp.array([1.0, -3.0]).reshape(1, 1, 2, 1)
  cam = grad_cam.grad_cam(apply_fn, None, x, layer="a")
  # dy/da = (b + 1) / 2 = (1, 5); alpha = 3; a = (2, -6).
  np.testing.assert_allclose(cam.maps, [[[6, 0]]])
  cam = grad_cam.grad_cam(apply_fn, None, x, layer="b")
  # dy/db = a / 2 = (1, -3); alpha = -1; b = (1, 9).
  np.testing.assert_allclose(cam.maps, [[[0, 0]]])


def test_each_class_is_found_where_its_pattern_is():
  """Vertical stripes (left) are evidence of class 0, horizontal ones (right) of 1."""
  stripes = np.zeros((1, 8, 8, 1), np.float32)
  stripes[0, :, 0:4:2, 0] = 1
  stripes[0, ::2, 5:, 0] = 1

  def apply_fn(variables, inputs):
    across = jnp.abs(jnp.diff(inputs, axis=2))[:, :-1, :, 0]
    down = jnp.abs(jnp.diff(inputs, axis=1))[:, :, :-1, 0]
    maps = jax.nn.relu(jnp.stack([across - down, down - across], axis=-1))
    return maps.mean((1, 2)), {"maps": maps}

  images = jnp.tile(stripes, (2, 1, 1, 1))
  cam = jax.jit(
    lambda x: (
      grad_cam.grad_cam(apply_fn, None, x, layer="maps", targets=jnp.array([0, 1])).maps
    )
  )(images)
  left, right = cam[:, :, :3].sum((1, 2)), cam[:, :, 5:].sum((1, 2))
  assert left[0] > 0
  assert right[0] == 0
  assert right[1] > 0
  assert left[1] == 0


def test_over_batches_no_image_depends_on_its_batch():
  model, variables, images, _, _ = load("elu")
  apply_fn = grad_cam.flax_apply_fn(model)
  images = jnp.concatenate([images, 3 * images[:2] - 1])
  cam = functools.partial(grad_cam.grad_cam, apply_fn, layer="stage2")

  @jax.jit
  def split(variables, images):
    return batched_map.over_batches(
      lambda x: cam(variables, x)._asdict(), (images,), batch_size=2
    )

  found = split(variables, images)
  one = jax.jit(cam)
  for i in range(5):
    alone = one(variables, images[i : i + 1])._asdict()
    for name, values in found.items():
      assert len(values) == 5
      np.testing.assert_allclose(values[i], alone[name][0], rtol=1e-4, atol=1e-6)


def test_without_a_gradient_the_map_is_zero():
  def apply_fn(variables, inputs):
    maps = jax.nn.relu(inputs)
    return maps.mean((1, 2)) * 0.0, {"maps": maps}

  cam = jax.jit(functools.partial(grad_cam.grad_cam, apply_fn, layer="maps"))(
    None, jnp.ones((2, 3, 3, 2))
  )
  np.testing.assert_array_equal(cam.maps, np.zeros((2, 3, 3)))
  np.testing.assert_array_equal(grad_cam.normalize(cam.maps), np.zeros((2, 3, 3)))


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_constant_images_have_finite_maps(value):
  model, variables, images, _, _ = load("elu")
  apply_fn = grad_cam.flax_apply_fn(model)
  cam = jax.jit(functools.partial(grad_cam.grad_cam, apply_fn, layer="stage2"))
  maps = cam(variables, jnp.full_like(images[:1], value)).maps
  assert np.isfinite(maps).all()
  assert np.isfinite(grad_cam.normalize(maps)).all()


def test_normalize_brings_each_map_to_one():
  maps = jnp.array([[[1.0, 4.0]], [[0.5, 0.0]], [[1e-30, 0.0]]])
  np.testing.assert_allclose(
    grad_cam.normalize(maps), [[[0.25, 1]], [[1, 0]], [[1, 0]]], rtol=1e-6
  )


def test_upsample_by_hand():
  # Pixel centers of 4 in a map of 2: -.25, .25, .75, 1.25 of the way from 0 to 1.
  maps = jnp.array([[[0.0, 8.0]]])
  np.testing.assert_allclose(grad_cam.upsample(maps, (1, 4)), [[[0, 2, 6, 8]]])
  # One pixel on each side is beyond the image.
  padded = jnp.pad(maps, ((0, 0), (1, 1), (1, 1)), constant_values=99)
  np.testing.assert_allclose(
    grad_cam.upsample(padded, (1, 4), margin=1), [[[0, 2, 6, 8]]]
  )
  with pytest.raises(ValueError, match="margin: expected 0 or more"):
    grad_cam.upsample(maps, (1, 4), margin=1)


def test_layers_are_listed_in_the_order_of_computation():
  model, variables, images, _, _ = load("relu")
  own = grad_cam.layer_shapes(grad_cam.flax_apply_fn(model), variables, images)
  assert own == {"stage1": (6, 8, 4), "stage2": (3, 4, 5)}
  apply_fn = grad_cam.flax_apply_fn(model, modules=True)
  every = grad_cam.layer_shapes(apply_fn, variables, images)
  assert list(every) == ["conv1", "norm1", "stage1", "conv2", "norm2", "stage2"]


def test_default_layer_is_the_last_that_says_where():
  shapes = {"a": (8, 8, 3), "b": (2, 1, 4), "c": (1, 1, 9)}
  assert grad_cam.default_layer(shapes) == "b"
  with pytest.raises(ValueError, match="more than one pixel"):
    grad_cam.default_layer({"c": (1, 1, 9)})


def test_mistakes_are_named():
  x = jnp.ones((2, 1, 2, 2))
  weights = jnp.ones((1, 2, 2, 2))

  def cam(layer="maps", targets=None, apply_fn=linear):
    return grad_cam.grad_cam(apply_fn, weights, x, layer=layer, targets=targets)

  with pytest.raises(ValueError, match=r"one of maps \(1, 2, 2\); got 'nope'"):
    cam("nope")
  with pytest.raises(ValueError, match=r"one of maps \(1, 2, 2\); got 'flat'"):
    cam("flat")  # No maps: its first axis is not the batch.
  with pytest.raises(ValueError, match=r"targets: expected \(2,\), got \(3,\)"):
    cam(targets=jnp.array([0, 1, 1]))
  with pytest.raises(TypeError, match="targets: expected integers, got float32"):
    cam(targets=jnp.ones(2))
  with pytest.raises(ValueError, match="logits do not depend on 'aside'"):
    cam("aside", apply_fn=lambda v, x: (linear(v, x)[0], {"aside": x + 1}))
  with pytest.raises(ValueError, match=r"logits of shape \(2, K\), got \(2,\)"):
    cam(apply_fn=lambda v, x: (x.sum((1, 2, 3)), {"maps": x}))
  # A class that there isn't: under jit nothing can be raised.
  assert np.isnan(
    jax.jit(cam, static_argnums=0)("maps", jnp.array([0, 2])).maps[1]
  ).all()
  assert np.isnan(cam(targets=jnp.array([-1, 0])).maps[0]).all()


def test_evaluation_logits_take_the_place_of_the_networks():
  model, variables, images, _, _ = load("relu")
  apply_fn = grad_cam.flax_apply_fn(
    model, to_logits=lambda params, logits, out: out["pre_logits"][:, :2]
  )
  logits, _ = jax.jit(apply_fn)(variables, images)
  assert logits.shape == (3, 2)


# The others are built of the same blocks and take seconds to trace.
@pytest.mark.parametrize(
  ("name", "expected"),
  [
    ("all_cnn", "conv8"),
    ("emosynthnet", "block5"),
    ("fer_vgg", "stage4"),
    ("resnet18", "stage4"),
    ("vgg19", "stage4"),  # Stage 5 ends in a single pixel.
  ],
)
def test_networks_have_layers(name, expected):
  model = models.build_model(name, num_classes=3, width=0.125)
  images = jax.ShapeDtypeStruct((2, 32, 32, 1), jnp.float32)
  variables, *_ = network_shapes.of(model, images.shape)
  apply_fn = grad_cam.flax_apply_fn(model)
  shapes = grad_cam.layer_shapes(apply_fn, variables, images)
  layer = grad_cam.default_layer(shapes)
  assert layer == expected
  maps = jax.eval_shape(
    lambda v, x: grad_cam.grad_cam(apply_fn, v, x, layer=layer).maps, variables, images
  )
  assert maps.shape == (2, *shapes[layer][:2])


@pytest.mark.slow
def test_a_network_with_normalized_inputs_has_the_same_layer():
  network = models.build_model("emosynthnet", num_classes=3, width=0.05)
  assert network.merge_upsampling
  wrapped = normalized_inputs.NormalizedInputs(network, (0.5,), (0.2,))
  images = jax.random.uniform(jax.random.key(0), (2, 32, 32, 1))
  init = jax.jit(functools.partial(network.init, train=False))
  variables = init(jax.random.key(1), images)
  inputs = (images - 0.5) / 0.2
  # The layer whose place in the network the wrapper would hide.
  plain, normalized = (
    grad_cam.grad_cam(
      grad_cam.flax_apply_fn(model), variables, x, layer="upsample1"
    ).maps
    for model, x in ((network, inputs), (wrapped, images))
  )
  np.testing.assert_allclose(plain, normalized, rtol=1e-4, atol=1e-6)


def test_modules_of_a_real_network_are_layers():
  model = models.build_model("emosynthnet", num_classes=3, width=0.125)
  images = jax.ShapeDtypeStruct((2, 48, 48, 1), jnp.float32)
  variables, *_ = network_shapes.of(model, images.shape)
  shapes = grad_cam.layer_shapes(
    grad_cam.flax_apply_fn(model, modules=True), variables, images
  )
  assert shapes["block3/unit4/conv"] == (12, 12, 32)
  assert shapes["transposed2"] == (12, 12, 32)
