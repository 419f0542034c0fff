"""JAX primitives of the project's networks as ONNX nodes.

A handler takes the graph, the equation and its inputs, of which at least one is a
tensor and the others are constants, and returns the result. Elementwise primitives are
in elementwise.py; here are those that move, reduce and multiply arrays.
"""

import numpy as np

from emosynth_jax.export.onnx import elementwise
from emosynth_jax.export.onnx.elementwise import Handler
from emosynth_jax.export.onnx.elementwise import output_shape as _shape
from emosynth_jax.export.onnx.tensors import Pool, Tensor, Window


def _unchanged(graph, eqn, inputs):
  del graph, eqn
  return inputs[0]


def _reshape(graph, eqn, inputs):
  tensor, shape = inputs[0], _shape(eqn)
  _check_batch(eqn, shape, tensor)
  small = graph.repeated.get(tensor.name)
  if small is not None:
    n, height, width, channels = small.shape
    factors = [b // a for a, b in zip((height, width), shape[1:3], strict=True)]
    if shape == (n, height * factors[0], width * factors[1], channels):
      scales = np.asarray([1, 1, *factors], np.float32)
      name = graph.add(
        "Resize",
        [small.name, "", scales],
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
      )
      return Tensor(name, shape)

  target = np.asarray([0, *shape[1:]], np.int64)  # 0: the input's size.
  return graph.from_array(graph.add("Reshape", [graph.as_array(tensor), target]), shape)


def _broadcast(graph, eqn, inputs):
  tensor, shape = inputs[0], _shape(eqn)
  axes = eqn.params["broadcast_dimensions"]
  if not axes or axes[0] != 0:
    raise ValueError("an array is repeated along a new axis before that of the images")

  spread = [1] * len(shape)
  for axis, size in zip(axes, tensor.shape, strict=True):
    spread[axis] = size
  name = graph.as_array(tensor)
  if len(shape) != len(tensor.shape):
    target = np.asarray([0, *spread[1:]], np.int64)
    name = graph.add("Reshape", [name, target])

  if tuple(spread) != shape:
    name = graph.add("Expand", [name, np.asarray([1, *shape[1:]], np.int64)])
  result = graph.from_array(name, shape)
  small = graph.repeated.get(tensor.name)
  if len(tensor.shape) == 4 and len(shape) == 6 and axes == (0, 1, 3, 5):
    small = tensor  # (N, H, 1, W, 1, C), to repeat its pixels.
  if small is not None and len(shape) == 6:
    graph.repeated[result.name] = small
  return result


def _transpose(graph, eqn, inputs):
  permutation = eqn.params["permutation"]
  if permutation[0] != 0:
    raise ValueError("the axis of the images is moved")
  name = graph.add("Transpose", [graph.as_array(inputs[0])], perm=permutation)
  return graph.from_array(name, _shape(eqn))


def _concatenate(graph, eqn, inputs):
  axis = eqn.params["dimension"]
  if axis == 0 or not all(isinstance(x, Tensor) for x in inputs):
    raise NotImplementedError("images or constants that are put beside images")
  return Tensor(
    graph.add("Concat", [x.name for x in inputs], axis=inputs[0].axis(axis)),
    _shape(eqn),
  )


def _slice(graph, eqn, inputs):
  tensor, shape = inputs[0], _shape(eqn)
  _check_batch(eqn, shape, tensor)
  strides = eqn.params["strides"] or (1,) * len(shape)
  starts, ends = eqn.params["start_indices"], eqn.params["limit_indices"]
  cut = [i for i, (a, b) in enumerate(zip(shape, tensor.shape, strict=True)) if a != b]
  if not cut:
    return tensor

  axes = tuple(map(tensor.axis, range(len(shape))))
  columns = (starts, ends, axes, strides)
  arrays = [np.asarray([column[i] for i in cut], np.int64) for column in columns]
  result = Tensor(graph.add("Slice", [tensor.name, *arrays]), shape)
  if len(shape) == 4 and cut in ([1], [2]):
    (i,) = cut
    graph.windows[result.name] = Window(tensor, i, starts[i], 1, strides[i])

  return result


def _pad(graph, eqn, inputs):
  tensor, value = inputs
  config = eqn.params["padding_config"]
  if isinstance(value, Tensor) or any(interior for _, _, interior in config):
    raise NotImplementedError("padding between pixels, or by what is computed")
  if any(config[0]) or min(x for low, high, _ in config for x in (low, high)) < 0:
    raise NotImplementedError("padding of the axis of the images, or by less than 0")
  rank = len(tensor.shape)
  pads = [0] * (2 * rank)
  for i, (low, high, _) in enumerate(config):
    pads[tensor.axis(i)], pads[rank + tensor.axis(i)] = int(low), int(high)
  return Tensor(graph.pad(tensor, np.asarray(value), pads), _shape(eqn))


def _reduce(kind: str) -> Handler:
  def handle(graph, eqn, inputs):
    tensor, axes = inputs[0], tuple(eqn.params["axes"])
    if 0 in axes:
      raise ValueError(f"{eqn.primitive.name} over the images of a batch")
    name = tensor.name
    if len(tensor.shape) == 4 and set(axes) == {1, 2}:
      axes = tuple(tensor.axis(axis) for axis in axes)
    else:
      name = graph.as_array(tensor)
    if kind == "ReduceSum":  # Only this one has axes as an input here.
      name = graph.add(kind, [name, np.asarray(axes, np.int64)], keepdims=0)
    else:
      name = graph.add(kind, [name], axes=axes, keepdims=0)
    return graph.from_array(name, _shape(eqn))

  return handle


def _product(graph, eqn, inputs):
  left, kernel = inputs
  contracted, batched = eqn.params["dimension_numbers"]
  last = (len(left.shape) - 1,) if isinstance(left, Tensor) else ()
  if any(batched) or contracted[0] != last or np.ndim(kernel) != 2:
    raise NotImplementedError("a product of other than an array's last axis")

  kernel = np.asarray(kernel)
  kernel = kernel.T if contracted[1] == (1,) else kernel
  if len(left.shape) == 2:
    return Tensor(graph.multiply(left.name, kernel), _shape(eqn))
  if len(left.shape) == 4:
    kernel = kernel.T[:, :, None, None]
    name = graph.convolve(left, kernel, pads=[0] * 4, strides=[1] * 2, group=1)
    return Tensor(name, _shape(eqn))

  name = graph.add("MatMul", [graph.as_array(left), kernel])
  return graph.from_array(name, _shape(eqn))


def _convolve(graph, eqn, inputs):
  tensor, kernel = inputs
  params = eqn.params
  numbers = params["dimension_numbers"]
  images = (0, 3, 1, 2)
  if (
    not isinstance(tensor, Tensor)
    or isinstance(kernel, Tensor)
    or numbers.lhs_spec != images
    or numbers.out_spec != images
    or params["batch_group_count"] != 1
    or set(params["lhs_dilation"]) != {1}
  ):
    raise NotImplementedError("a convolution of other than images with a constant")

  (top, bottom), (left, right) = params["padding"]
  name = graph.convolve(
    tensor,
    np.asarray(kernel).transpose(numbers.rhs_spec),
    pads=[int(x) for x in (top, left, bottom, right)],
    strides=params["window_strides"],
    dilations=params["rhs_dilation"],
    group=params["feature_group_count"],
  )
  return Tensor(name, _shape(eqn))


def _pool(kind: str) -> Handler:
  def handle(graph, eqn, inputs):
    tensor, params = inputs[0], eqn.params
    window, strides, padding = (
      params[k] for k in ("window_dimensions", "window_strides", "padding")
    )
    dilations = {*params["base_dilation"], *params["window_dilation"]}
    if len(tensor.shape) != 4 or (window[0], window[3]) != (1, 1) or dilations != {1}:
      raise NotImplementedError("pooling of other than the pixels of images")

    (top, bottom), (left, right) = padding[1:3]
    pads = [int(x) for x in (top, left, bottom, right)]
    made = Pool(kind, tensor.name, list(window[1:3]), list(strides[1:3]), pads)
    result = Tensor(graph.pool(made), _shape(eqn))
    if kind == "MaxPool":
      return result

    return graph.affine(result, factor=np.array(window[1] * window[2], np.float32))

  return handle


def _check_batch(eqn, shape, tensor):
  if shape[0] != tensor.shape[0]:
    raise ValueError(f"{eqn.primitive.name} mixes the axis of the images with others")


HANDLERS: dict[str, Handler] = {
  **elementwise.HANDLERS,
  **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
  **dict.fromkeys(("stop_gradient", "copy", "copy_p"), _unchanged),
  "broadcast_in_dim": _broadcast,
  "concatenate": _concatenate,
  "conv_general_dilated": _convolve,
  "dot_general": _product,
  "pad": _pad,
  "reduce_max": _reduce("ReduceMax"),
  "reduce_min": _reduce("ReduceMin"),
  "reduce_sum": _reduce("ReduceSum"),
  "reduce_window_max": _pool("MaxPool"),
  "reduce_window_sum": _pool("AveragePool"),
  "slice": _slice,
  "transpose": _transpose,
}
