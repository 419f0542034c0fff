"""Elementwise JAX primitives as ONNX nodes; see primitives.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper

from emosynth_jax.export.onnx import windows
from emosynth_jax.export.onnx.graph import Graph
from emosynth_jax.export.onnx.tensors import Comparison, Tensor

Handler = Callable[[Graph, Any, list[Any]], Tensor]

_ARITHMETIC = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}


def output_shape(eqn: Any) -> tuple[int, ...]:
  """The shape of an equation's first result."""
  return tuple(eqn.outvars[0].aval.shape)


def _elementwise(kind: str) -> Handler:
  def handle(graph, eqn, inputs):
    return Tensor(
      graph.add(kind, [graph.operand(x) for x in inputs]), output_shape(eqn)
    )

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
  if output_shape(eqn) != tensor.shape or eqn.outvars[0].aval.dtype != np.float32:
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
  result = Tensor(
    graph.add("Not", [_elementwise("Equal")(graph, eqn, inputs).name]),
    output_shape(eqn),
  )
  graph.comparisons[result.name] = Comparison("NotEqual", tuple(inputs))
  return result


def _or(graph, eqn, inputs):
  result = _elementwise("Or")(graph, eqn, inputs)
  at_least, is_nan = (
    graph.comparisons.get(x.name) if isinstance(x, Tensor) else None for x in inputs
  )

  # `(a >= b) | isnan(a)`, by which a maximum propagates NaN, equals `a >= b` if there
  # is no NaN.
  if (
    at_least is not None
    and is_nan is not None
    and (at_least.kind, is_nan.kind) == ("GreaterOrEqual", "NotEqual")
    and is_nan.operands[0] is is_nan.operands[1] is at_least.operands[0]
  ):
    graph.comparisons[result.name] = at_least

  return result


def _select(graph, eqn, inputs):
  which, *cases = inputs
  if len(cases) != 2 or not isinstance(which, Tensor):
    raise NotImplementedError("a choice of other than two, or by a constant")

  compared = graph.comparisons.get(which.name)
  # Pooling by selections: `where(a >= b, a, b)`, the larger of two tensors; see `_or`.
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
  """Applies unary operators, one after the other."""

  def handle(graph, eqn, inputs):
    name = inputs[0].name
    for kind in kinds:
      name = graph.add(kind, [name])
    return Tensor(name, output_shape(eqn))

  return handle


def _expm1(graph, eqn, inputs):
  exponential = graph.add("Exp", [inputs[0].name])
  return Tensor(graph.add("Sub", [exponential, np.float32(1)]), output_shape(eqn))


def _log1p(graph, eqn, inputs):
  return Tensor(
    graph.add("Log", [graph.add("Add", [inputs[0].name, np.float32(1)])]),
    output_shape(eqn),
  )


def _power(graph, eqn, inputs):
  power = np.float32(eqn.params["y"])
  return Tensor(graph.add("Pow", [inputs[0].name, power]), output_shape(eqn))


def _square(graph, eqn, inputs):
  return Tensor(graph.add("Mul", [inputs[0].name] * 2), output_shape(eqn))


def _cast(graph, eqn, inputs):
  element = helper.np_dtype_to_tensor_dtype(np.dtype(eqn.params["new_dtype"]))
  return Tensor(graph.add("Cast", [inputs[0].name], to=element), output_shape(eqn))


HANDLERS: dict[str, Handler] = {
  **dict.fromkeys(_ARITHMETIC, _arithmetic),
  "abs": _then("Abs"),
  "and": _elementwise("And"),
  "convert_element_type": _cast,
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
  "or": _or,
  "rsqrt": _then("Sqrt", "Reciprocal"),
  "select_n": _select,
  "sqrt": _then("Sqrt"),
  "square": _square,
  "tanh": _then("Tanh"),
}
