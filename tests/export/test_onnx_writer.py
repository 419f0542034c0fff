"""ONNX models against JAX, in onnxruntime: every primitive, pooling, whole networks."""

import collections
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from jax import lax

from emosynth_jax import losses, models
from emosynth_jax.export.onnx import writer as onnx_writer
from emosynth_jax.models.ops import layers

_SHAPE = (6, 5, 3)


def _images(number=3, shape=_SHAPE, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (number, *shape)).astype(np.uint8)


def _write(function, shape=_SHAPE):
  return onnx_writer.write_onnx(function, shape, output_names=["y"])


def _run(model, images):
  session = onnxruntime.InferenceSession(model.SerializeToString())
  return session.run(None, {"images": images})


def _kinds(model):
  return collections.Counter(node.op_type for node in model.graph.node)


def _check(function, images, *, atol=1e-5):
  """The written function equals the function, on other numbers of images too."""
  model = _write(lambda x: [function(x)], images.shape[1:])
  expected = np.asarray(jax.jit(function)(images))
  (found,) = _run(model, images)
  assert found.dtype == expected.dtype
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)
  (alone,) = _run(model, images[1:2])
  np.testing.assert_allclose(alone, expected[1:2], rtol=1e-5, atol=atol)
  return _kinds(model)


def _floats(images):
  """In (-1, 1), never 0."""
  return (images.astype(jnp.float32) - 127.5) / 128


_KERNEL = np.random.default_rng(1).normal(size=(3, 3, 3, 4)).astype(np.float32)
_ROW = np.array([[[[0.5, -2.0, 1.5]]]], np.float32)
_CONV = ("NHWC", "HWIO", "NHWC")

# Each of floats (N, 6, 5, 3) in (-1, 1).
_FUNCTIONS = {
  "add, sub": lambda x: (1 + x) - (0.25 - x) - 2,
  "mul, div": lambda x: 3 * x / 7 + 1 / (x + 2) + x / (x + 3),
  "channels": lambda x: x * _ROW + (x - _ROW) / _ROW,
  "mul by an image": lambda x: x * x - x,
  "max, min": lambda x: jnp.maximum(x, 0) + jnp.minimum(x, 0.25) + jnp.maximum(x, -0.5),
  "power": lambda x: x**3 + x**-2 + jnp.square(x),
  "exp": lambda x: jnp.exp(x) + jnp.expm1(x) + jnp.log1p(x) + jnp.log(x + 2),
  "tanh": lambda x: jnp.tanh(x) + nn.sigmoid(x) + lax.erf(x) - jnp.abs(-x),
  "roots": lambda x: jnp.sqrt(x + 2) + lax.rsqrt(x + 2),
  "select": lambda x: (
    jnp.where(x > 0.5, x, 2 * x)
    + jnp.where((x < 0) | (x <= -0.5), x, 1.0)
    + jnp.where((x >= 0) & (x != 0.5), -x, x)
    + jnp.where(x == x, 0.0, x)
  ),
  "select that is no maximum": lambda x: jnp.where(x >= 0.5, 0.5, x),
  "integers": lambda x: (x * 100).astype(jnp.int32) * 3 + 1,
  "reduce": lambda x: x.max((1, 2)) + x.mean((1, 2)) - x.min((1, 2)),
  "reduce rows": lambda x: x.sum(1) + x.max(1),
  "reduce maps": lambda x: x.sum(3),
  "reduce all": lambda x: x.sum((1, 2, 3))[:, None],
  "flatten": lambda x: x.reshape(x.shape[0], -1)[:, 3:50:4],
  "reshape": lambda x: x.reshape(x.shape[0], 3, 10, 3)[:, :, 2:9],
  "transpose": lambda x: x.transpose(0, 2, 3, 1)[:, 1:, :, ::2],
  "broadcast": lambda x: jnp.broadcast_to(
    x.mean((1, 2))[:, None, None], (x.shape[0], 2, 4, 3)
  ),
  "repeat": lambda x: jnp.repeat(x[:, :, 1], 2, axis=1),
  "upsample": lambda x: jnp.broadcast_to(
    x[:, :, None, :, None], (x.shape[0], 6, 2, 5, 3, 3)
  ).reshape(x.shape[0], 12, 15, 3),
  "stop_gradient": lambda x: lax.stop_gradient(x) + 1,
  "concatenate": lambda x: jnp.concatenate([x, 2 * x, x[..., :1]], axis=-1),
  "concatenate rows": lambda x: jnp.concatenate([x, x], axis=1),
  "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)), constant_values=0.5),
  "matrix": lambda x: x.sum((1, 2)) @ np.eye(3, 4, dtype=np.float32) + 1,
  "1x1": lambda x: x @ np.arange(6, dtype=np.float32).reshape(3, 2) - 3,
  "3d product": lambda x: x.sum(1) @ np.arange(6, dtype=np.float32).reshape(3, 2),
  "transposed kernel": lambda x: lax.dot_general(
    x.sum((1, 2)),
    np.arange(6, dtype=np.float32).reshape(2, 3),
    (((1,), (1,)), ((), ())),
  ),
  "convolution": lambda x: lax.conv_general_dilated(
    x, _KERNEL, (2, 1), ((0, 1), (2, 1)), rhs_dilation=(1, 2), dimension_numbers=_CONV
  ),
  "groups": lambda x: lax.conv_general_dilated(
    x,
    np.tile(_KERNEL[:, :, :1], (1, 1, 1, 3)),
    (1, 1),
    "SAME",
    dimension_numbers=_CONV,
    feature_group_count=3,
  ),
  "padded convolution": lambda x: lax.conv_general_dilated(
    jnp.pad(x, ((0, 0), (1, 0), (2, 1), (0, 0))),
    _KERNEL,
    (1, 1),
    "SAME",
    dimension_numbers=_CONV,
  ),
  "pools of flax": lambda x: (
    nn.avg_pool(x, (2, 3), (2, 1), ((0, 0), (1, 1)))
    + nn.max_pool(x, (3, 3), (2, 1), ((1, 0), (1, 1)))
  ),
  "elu": lambda x: nn.elu(x) + nn.elu(x, alpha=0.5),
  "activations": lambda x: nn.relu(x) + nn.relu6(9 * x) + nn.swish(x) + nn.gelu(x),
  "softmax": lambda x: nn.softmax(x.sum((1, 2))) + nn.log_softmax(x.sum((1, 2))),
  "cosines": lambda x: losses.norm_cosine_logits(
    x.sum((1, 2)), np.array([[1, 2.0], [3, -1], [0, 1]], np.float32)
  ),
}


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_a_function_is_written_as_it_is(name):
  _check(lambda images: _FUNCTIONS[name](_floats(images)), _images())


def test_what_is_linear_becomes_one_layer():
  def function(images):
    x = lax.conv_general_dilated(
      jnp.pad(_floats(images), ((0, 0), (1, 1), (1, 1), (0, 0))),
      _KERNEL,
      (1, 1),
      "VALID",
      dimension_numbers=_CONV,
    )
    # As BatchNorm: three constants a map.
    x = (x + 0.5 - np.float32([[[[1, 2, 3, 4]]]])) * np.float32([[[[2, -1, 1, 3]]]]) + 1
    return jax.jit(jax.nn.softmax)(nn.elu(x).sum((1, 2)))

  kinds = _check(function, _images())
  assert kinds == dict.fromkeys(
    ["Transpose", "Cast", "Mul", "Add", "Conv", "Elu", "ReduceSum", "Softmax"], 1
  ) | {"Identity": 1}


def test_what_else_needs_a_convolution_keeps_it():
  def function(images):
    x = _floats(images) @ np.ones((3, 2), np.float32)
    return x * 2 + jnp.tanh(x)

  assert _check(function, _images())["Conv"] == 2


# Windows that fill the side, leave pixels over, or fit in parts as well.
@pytest.mark.parametrize(
  ("window", "stride", "side"), [(2, 2, 7), (3, 1, 5), (7, 5, 24), (3, 2, 6), (2, 3, 8)]
)
def test_averages_of_slices_are_one_pooling(window, stride, side):
  kinds = _check(
    lambda images: layers.average_pool(_floats(images), window, stride),
    _images(shape=(side, side, 2)),
  )
  assert kinds["AveragePool"] == 1
  assert kinds["Slice"] == 0


@pytest.mark.parametrize("side", [4, 5])
@pytest.mark.parametrize(
  "pool",
  [layers.max_pool_2x2, layers.max_pool_3x3, lambda x: layers.max_pool_3x3(x, 2)],
)
def test_maxima_of_slices_are_one_pooling(pool, side):
  kinds = _check(lambda images: pool(_floats(images)), _images(shape=(side, side, 2)))
  assert kinds["MaxPool"] == 1
  assert kinds["Slice"] + kinds["Pad"] + kinds["Where"] == 0


@pytest.mark.parametrize(
  ("function", "pools"),
  [
    (lambda x: x[:, :-2] + x[:, 2:], 0),  # Pixels that are not side by side.
    (lambda x: x[:, :-1] + 2 * x[:, 1:], 0),
    (lambda x: x[:, 1:-1] + x[:, 2:], 0),  # From the second pixel on.
    (lambda x: x[:, :-1, 1:] + x[:, 1:, :-1], 0),
    (lambda x: x[:, :-1] + x[:, 1:] + x[:, 1:], 1),
    (lambda x: jnp.maximum(x[:, :-1] + x[:, 1:], x[:, 1:]), 1),
  ],
)
def test_other_sums_of_slices_stay_sums(function, pools):
  kinds = _check(lambda images: function(_floats(images)), _images())
  assert kinds["AveragePool"] == pools
  assert kinds["Add"] + kinds["Max"] >= 1


def _variables(model, shape):
  """Random ones, with statistics and scales as training leaves them: not 0 or 1.

  A BatchNorm's `scale**2 / var` is 1 on average. Scales up to 2 would make MobileNetV2
  amplify rounding: 3e-5 of the largest logit, in onnxruntime as in JAX, with AVX-512 as
  without, so that no tolerance tells a mistake from the machine.
  """
  rng = np.random.default_rng(2)

  def draw(path, x):
    if path[-1].key == "kernel":
      deviation = np.sqrt(2 / np.prod(x.shape[:-1]))
      return rng.normal(0, deviation, x.shape).astype(np.float32)
    low, high = {"var": (0.5, 2), "scale": (0.5, 1.5)}.get(path[-1].key, (-0.3, 0.3))
    return rng.uniform(low, high, x.shape).astype(np.float32)

  images = jnp.zeros((1, *shape))
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
  return jax.tree_util.tree_map_with_path(draw, shapes)


# Of the largest logit, against float64. onnxruntime 1.32 is off by 2.7e-6 at most (of
# MobileNetV2; the others by 1.3e-6), with AVX-512 as with AVX2 alone. BatchNorm's
# epsilon of 1e-3 for 1e-5 makes 6e-4 or more, the first padding by a row off 1e-2.
_TOLERANCE = 2e-5
_NETWORKS = {
  "emosynthnet": {"width": 0.0625, "dense_features": (8, 8)},
  "emosynthnet, other readings": {
    "width": 0.0625,
    "dense_features": (8,),
    "norm_order": "first",
    "side_input": "image",
    "skip": "none",
    "synthesis": "norm",
  },
  "fer_vgg": {"width": 0.0625, "dense_features": (8,)},
  "resnet18": {"width": 0.0625},
  "mobilenet_v2": {"width": 0.125},
  "all_cnn": {"width": 0.125},
}


@pytest.mark.parametrize("name", _NETWORKS)
def test_a_network_is_written_as_it_is(name):
  """Bottlenecks, squeeze-excitation and dense blocks (ResNet50, EfficientNet-B0,
  DenseNet121) are made of the same primitives and take a minute to compile."""
  model = models.build_model(name.partition(",")[0], num_classes=5, **_NETWORKS[name])
  images = _images(3, (32, 32, 1))
  variables = _variables(model, (32, 32, 1))

  def function(images, variables=variables, model=model):
    inputs = images.astype(model.dtype) / 255
    return [model.apply(variables, inputs, train=False)[0]]

  written = _write(function, (32, 32, 1))
  with jax.enable_x64(True):
    in_float64 = functools.partial(function, model=model.clone(dtype=jnp.float64))
    wide = jax.tree.map(np.float64, variables)
    expected = np.asarray(jax.jit(in_float64)(images, wide)[0])
  (found,) = _run(written, images)
  (alone,) = _run(written, images[2:])

  assert np.ptp(expected, axis=0).max() > 1e-3  # Outputs differ between images.
  atol = _TOLERANCE * np.abs(expected).max()
  np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
  np.testing.assert_allclose(alone, expected[2:], rtol=0, atol=atol)
  if name == "emosynthnet":
    kinds = _kinds(written)
    # 15 of the analysis, 2 modules of 7, 2 of the synthesis; an ELU after each of the
    # first and last, and of two dense layers; 4 blocks' pooling and the side's.
    assert kinds["Conv"] == 31
    assert kinds["Elu"] == 19
    assert kinds["AveragePool"] == 5
    assert kinds["MaxPool"] == 2
    assert kinds["Resize"] == 2
    assert kinds["Gemm"] == 3
    assert not {"Pad", "Slice", "Expand", "Where", "Exp"} & set(kinds)


def test_the_model_says_what_it_takes_and_tells():
  model = onnx_writer.write_onnx(
    lambda images: [_floats(images).sum((1, 2))],
    _SHAPE,
    output_names=["sums"],
    input_name="pixels",
    metadata={"class_names": '["a"]'},
  )
  session = onnxruntime.InferenceSession(model.SerializeToString())
  (pixels,), (sums,) = session.get_inputs(), session.get_outputs()
  assert (pixels.name, pixels.shape, pixels.type) == (
    "pixels",
    ["batch", 6, 5, 3],
    "tensor(uint8)",
  )
  assert (sums.name, sums.shape) == ("sums", ["batch", 3])
  assert session.get_modelmeta().custom_metadata_map == {"class_names": '["a"]'}


@pytest.mark.parametrize(
  ("function", "error", "message"),
  [
    (lambda x: x - x.mean(0, keepdims=True), ValueError, "over the images of a batch"),
    (lambda x: x.reshape(-1, 3), ValueError, "mixes the axis of the images"),
    (lambda x: x.transpose(1, 0, 2, 3), ValueError, "axis of the images is moved"),
    (lambda x: x[::-1][:1], (ValueError, NotImplementedError), "rev|axis"),
    (
      lambda x: x + jnp.arange(2.0)[:, None, None, None],
      ValueError,
      "not the same for every image",
    ),
    (lambda x: jnp.zeros((2, 3)), ValueError, "y does not depend on the images"),
    (lambda x: jnp.sort(x), NotImplementedError, "the primitive sort has no form"),
    (
      lambda x: jnp.concatenate([x, jnp.zeros((2, 6, 5, 1))], axis=-1),
      NotImplementedError,
      "beside images",
    ),
    (
      lambda x: lax.conv_transpose(x, _KERNEL, (2, 2), "SAME"),
      NotImplementedError,
      "a convolution of other",
    ),
    (
      lambda x: jnp.einsum("nhwc,nhwd->ncd", x, x),
      NotImplementedError,
      "a product of other",
    ),
    (
      lambda x: lax.cond(x.sum() > 0, lambda x: x, lambda x: -x, x),
      (ValueError, NotImplementedError),
      "images of a batch|no form",
    ),
  ],
)
def test_what_has_no_form_is_refused(function, error, message):
  with pytest.raises(error, match=message):
    _write(lambda images: [function(_floats(images))])
