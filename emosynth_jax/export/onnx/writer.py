"""Writes a function of images as an ONNX model, from its jaxpr.

JAX records a function as a list of equations (a jaxpr). Those that depend on the images
become ONNX nodes; the others are computed here and become constants.
docs/notes/libraries_tried.md compares this with existing converters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np
import onnx

from emosynth_jax.export.onnx import equalization
from emosynth_jax.export.onnx.graph import Graph
from emosynth_jax.export.onnx.primitives import HANDLERS
from emosynth_jax.export.onnx.tensors import Tensor
from emosynth_jax.models.network_inputs import equalize_histogram

# Number of images of the trace. It is arbitrary: no equation may mix the image axis
# with another axis, and none that does has a handler.
_BATCH_SIZE = 2


def _operator(kind: str, **attributes: Any) -> Callable[[Graph, Tensor], Tensor]:
  """One ONNX operator that keeps the shape."""

  def write(graph: Graph, tensor: Tensor) -> Tensor:
    return Tensor(graph.add(kind, [tensor.name], **attributes), tensor.shape)

  return write


# Jitted functions of one array that are written as a whole, and their writers.
_FUNCTIONS: dict[str, tuple[Callable, Callable[[Graph, Tensor], Tensor]]] = {
  "elu": (jax.nn.elu, _operator("Elu")),
  "equalize_histogram": (equalize_histogram, equalization.write),
  "softmax": (jax.jit(jax.nn.softmax), _operator("Softmax", axis=-1)),
}


def write_onnx(
  function: Callable[[jax.Array], Sequence[jax.Array]],
  image_shape: tuple[int, int, int],
  *,
  output_names: Sequence[str],
  input_name: str = "images",
  metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
  """Writes a function of any number of images.

  Args:
    function: uint8 images `(N, H, W, C)` to arrays `(N, ...)`, one for each name. Each
      image's output depends on that image alone.
    image_shape: `(H, W, C)`.
    output_names: of the arrays.
    input_name: of the images.
    metadata: texts by name, for the model's properties.

  Returns:
    The model, checked, with images of uint8 `(batch, H, W, C)` as its input.

  Raises:
    NotImplementedError: for a primitive, or a use of it, that is not supported.
    ValueError: if an output does not depend on its image, or depends on others.
  """
  images = jax.ShapeDtypeStruct((_BATCH_SIZE, *image_shape), np.uint8)
  closed = _fold(jax.make_jaxpr(function)(images))
  graph = Graph(_BATCH_SIZE)
  results = _write(graph, closed, [graph.from_array(input_name, images.shape)])
  outputs = []
  for name, result, variable in zip(
    output_names, results, closed.jaxpr.outvars, strict=True
  ):
    if not isinstance(result, Tensor):
      raise ValueError(f"{name} does not depend on the images")
    outputs.append((name, result, variable.aval.dtype))

  model = graph.build((input_name, images.shape), outputs)
  onnx.helper.set_model_props(model, dict(metadata or {}))
  return model


def _fold(closed: jex.ClosedJaxpr) -> jex.ClosedJaxpr:
  """Constant folding of a jaxpr, in one program."""
  jaxpr = closed.jaxpr
  unknown = set(jaxpr.invars)
  folded, kept = [], []
  for eqn in jaxpr.eqns:
    if unknown.isdisjoint(_variables(eqn.invars)):
      folded.append(eqn)
    else:
      kept.append(eqn)
      unknown.update(eqn.outvars)

  made = {v for eqn in folded for v in eqn.outvars}
  used = [v for eqn in kept for v in _variables(eqn.invars)]
  wanted = list(dict.fromkeys(v for v in [*used, *jaxpr.outvars] if v in made))
  program = jaxpr.replace(invars=[], outvars=wanted, eqns=folded)
  values = jax.jit(jex.jaxpr_as_fun(jex.ClosedJaxpr(program, closed.consts)))()
  rest = jaxpr.replace(constvars=[*jaxpr.constvars, *wanted], eqns=kept)
  return jex.ClosedJaxpr(rest, [*closed.consts, *values])


def _write(graph: Graph, closed: jex.ClosedJaxpr, arguments: Sequence[Any]) -> list:
  """Writes a jaxpr's equations; its results, tensors or constants."""
  jaxpr = closed.jaxpr
  values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
  values.update(zip(jaxpr.invars, arguments, strict=True))

  def read(variable):
    return variable.val if isinstance(variable, jex.Literal) else values[variable]

  for eqn in jaxpr.eqns:
    inputs = [read(v) for v in eqn.invars]
    if eqn.primitive.name == "platform_index":
      # Selects the platform-independent form of a layer: single convolutions.
      results = [np.int32(eqn.params["platforms"].index(None))]
    elif any(isinstance(x, Tensor) for x in inputs):
      results = _results(graph, eqn, inputs)
    else:
      results = _evaluate(jaxpr, eqn, inputs)
    values.update(zip(eqn.outvars, results, strict=True))

  return [read(v) for v in jaxpr.outvars]


def _results(graph: Graph, eqn: Any, inputs: list[Any]) -> list[Any]:
  name = eqn.primitive.name
  if name in HANDLERS:
    return [HANDLERS[name](graph, eqn, inputs)]
  if name == "cond" and not isinstance(inputs[0], Tensor):
    return _write(graph, eqn.params["branches"][int(inputs[0])], inputs[1:])
  inner = eqn.params.get("jaxpr") or eqn.params.get("call_jaxpr")
  if name not in ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"):
    known = ", ".join(sorted(HANDLERS))
    raise NotImplementedError(f"the primitive {name} has no form here; known: {known}")
  write = _whole(eqn, inner, inputs)
  if write is None:
    return _write(graph, inner, inputs)
  return [write(graph, *inputs)]


def _whole(eqn: Any, inner: Any, inputs: list[Any]) -> Any:
  """Writes a function of `_FUNCTIONS` as a whole; its name alone is not sufficient."""
  function, write = _FUNCTIONS.get(eqn.params.get("name"), (None, None))
  if function is None or len(inputs) != 1:
    return None
  argument = eqn.invars[0].aval
  known = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(argument.shape, argument.dtype))
  same = str(known.eqns[0].params["jaxpr"]) == str(inner)
  return write if same else None


def _evaluate(jaxpr: Any, eqn: Any, inputs: list[Any]) -> list[Any]:
  """Evaluates an equation of constants."""
  variables = list(dict.fromkeys(_variables(eqn.invars)))
  program = jaxpr.replace(
    constvars=[],
    invars=variables,
    outvars=eqn.outvars,
    eqns=[eqn],
  )
  values = dict(zip(eqn.invars, inputs, strict=True))
  run = jex.jaxpr_as_fun(jex.ClosedJaxpr(program, []))
  return run(*(values[v] for v in variables))


def _variables(atoms: Sequence[Any]) -> list[Any]:
  return [v for v in atoms if not isinstance(v, jex.Literal)]
