"""Each JAX primitive that the project's networks are made of, as ONNX nodes.

A handler takes the graph, the equation and its inputs, of which at least one is a
tensor and the others are constants, and returns the result.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper

from emosynth_jax.exporting import windows
from emosynth_jax.exporting.graph import Comparison, Graph, Pool, Tensor, Window

Handler = Callable[[Graph, Any, list[Any]], Tensor]

_ARITHMETIC = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}


def _shape(eqn) -> tuple[int, ...]:
  return tuple(eqn.outvars[0].aval.shape)


def _elementwise(kind: str) -> Handler:
  def handle(graph, eqn, inputs):
    return Tensor(graph.add(kind, [graph.operand(x) for x in inputs]), _shape(eqn))

  return handle


def _arithmetic(graph, eqn, inputs):
  name = eqn.primitive.name
  if all(isinstance(x, Tensor) for x in inputs):
    result = _elementwise(_ARITHMETIC[name])(graph, eqn, inputs)
    if name != "add":
      return result
    return windows.join(graph, "AveragePool", *inputs, result)
  left, right = inputs
  tensor, constant = (left, right) if isinstance(left, Tensor) else (right, left)
  if _shape(eqn) != tensor.shape or eqn.outvars[0].aval.dtype != np.float32:
    return _elementwise(_ARITHMETIC[name])(graph, eqn, inputs)
  constant = graph.operand(constant)
  if name == "add":
    return graph.affine(tensor, shift=constant)
  if name == "mul":
    return graph.affine(tensor, factor=constant)
  if tensor is left:
    if name == "sub":
      return graph.affine(tensor, shift=-constant)
    return graph.affine(tensor, divisor=constant)
  return _elementwise(_ARITHMETIC[name])(graph, eqn, inputs)


def _compare(kind: str) -> Handler:
  def handle(graph, eqn, inputs):
    result = _elementwise(kind)(graph, eqn, inputs)
    graph.comparisons[result.name] = Comparison(kind, tuple(inputs))
    return result

  return handle


def _not_equal(graph, eqn, inputs):
  return Tensor(
    graph.add("Not", [_elementwise("Equal")(graph, eqn, inputs).name]), _shape(eqn)
  )


def _select(graph, eqn, inputs):
  which, *cases = inputs
  if len(cases) != 2 or not isinstance(which, Tensor):
    raise NotImplementedError("a choice of other than two, or by a constant")
  compared = graph.comparisons.get(which.name)
  # Pooling by selections: `where(a >= b, a, b)`, the larger of two tensors.
  if (
    compared is not None
    and compared.kind == "GreaterOrEqual"
    and compared.operands[0] is cases[1]
    and compared.operands[1] is cases[0]
  ):
    result = _elementwise("Max")(graph, eqn, cases)
    if not all(isinstance(x, Tensor) for x in cases):
      return result
    return windows.join(graph, "MaxPool", *cases, result)
  return _elementwise("Where")(graph, eqn, [which, *cases[::-1]])


def _max(graph, eqn, inputs):
  constants = [x for x in inputs if not isinstance(x, Tensor)]
  if constants and not np.any(constants[0]):
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    return _elementwise("Relu")(graph, eqn, tensors)
  return _elementwise("Max")(graph, eqn, inputs)


def _then(*kinds: str) -> Handler:
  """Operators of one input, one after the other."""

  def handle(graph, eqn, inputs):
    name = inputs[0].name
    for kind in kinds:
      name = graph.add(kind, [name])
    return Tensor(name, _shape(eqn))

  return handle


def _expm1(graph, eqn, inputs):
  exponential = graph.add("Exp", [inputs[0].name])
  return Tensor(graph.add("Sub", [exponential, np.float32(1)]), _shape(eqn))


def _log1p(graph, eqn, inputs):
  return Tensor(
    graph.add("Log", [graph.add("Add", [inputs[0].name, np.float32(1)])]), _shape(eqn)
  )


def _power(graph, eqn, inputs):
  power = np.float32(eqn.params["y"])
  return Tensor(graph.add("Pow", [inputs[0].name, power]), _shape(eqn))


def _square(graph, eqn, inputs):
  return Tensor(graph.add("Mul", [inputs[0].name] * 2), _shape(eqn))


def _cast(graph, eqn, inputs):
  element = helper.np_dtype_to_tensor_dtype(np.dtype(eqn.params["new_dtype"]))
  return Tensor(graph.add("Cast", [inputs[0].name], to=element), _shape(eqn))


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
  target = np.asarray([0, *shape[1:]], np.int64)  # 0: as many as there are.
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
    small = tensor  # (N, H, 1, W, 1, C), for its pixels to be repeated.
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
    if kind == "ReduceSum":  # Of this opset the only one that takes them as an input.
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
  **dict.fromkeys(_ARITHMETIC, _arithmetic),
  **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
  **dict.fromkeys(("stop_gradient", "copy", "copy_p"), _unchanged),
  "abs": _then("Abs"),
  "and": _elementwise("And"),
  "broadcast_in_dim": _broadcast,
  "concatenate": _concatenate,
  "conv_general_dilated": _convolve,
  "convert_element_type": _cast,
  "dot_general": _product,
  "eq": _compare("Equal"),
  "erf": _then("Erf"),
  "exp": _then("Exp"),
  "expm1": _expm1,
  "ge": _compare("GreaterOrEqual"),
  "gt": _compare("Greater"),
  "integer_pow": _power,
  "le": _compare("LessOrEqual"),
  "log": _then("Log"),
  "log1p": _log1p,
  "logistic": _then("Sigmoid"),
  "lt": _compare("Less"),
  "max": _max,
  "min": _elementwise("Min"),
  "ne": _not_equal,
  "neg": _then("Neg"),
  "or": _elementwise("Or"),
  "pad": _pad,
  "reduce_max": _reduce("ReduceMax"),
  "reduce_min": _reduce("ReduceMin"),
  "reduce_sum": _reduce("ReduceSum"),
  "reduce_window_max": _pool("MaxPool"),
  "reduce_window_sum": _pool("AveragePool"),
  "rsqrt": _then("Sqrt", "Reciprocal"),
  "select_n": _select,
  "slice": _slice,
  "sqrt": _then("Sqrt"),
  "square": _square,
  "tanh": _then("Tanh"),
  "transpose": _transpose,
}
