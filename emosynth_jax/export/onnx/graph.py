"""Builder of an ONNX graph: its nodes, and structural facts about its tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from emosynth_jax.export.onnx.tensors import (
  AXES_OF_IMAGES,
  Affine,
  Comparison,
  Linear,
  Pool,
  Tensor,
  Window,
)

_OPSET = 17
_IR_VERSION = 8  # That of the same release as the opset, for older runtimes.
_TO_NCHW = (0, 3, 1, 2)
_ONE = np.ones((), np.float32)


class Graph:
  """Nodes and constants, to which the handlers of the primitives add.

  A handler may rewrite a tensor in a fused form, such as a convolution with the
  BatchNorm that follows it. The original nodes are kept only if another node uses them.

  Attributes:
    comparisons: the alternative forms of some tensors, by name.
    windows: likewise.
    pools: likewise.
    repeated: images whose pixels a tensor repeats along new axes of their own.
    lowest_padded: a tensor without the -inf beside its images, and their pads.
  """

  def __init__(self, batch_size: int):
    """An empty graph.

    Args:
      batch_size: N of the trace.
    """
    self.comparisons: dict[str, Comparison] = {}
    self.windows: dict[str, Window] = {}
    self.pools: dict[str, Pool] = {}
    self.repeated: dict[str, Tensor] = {}
    self.lowest_padded: dict[str, tuple[str, list[int]]] = {}
    self._batch_size = batch_size
    self._nodes: list[onnx.NodeProto] = []
    self._constants: dict[str, np.ndarray] = {}
    self._arrays: dict[str, str] = {}
    self._affine: dict[str, Affine] = {}
    self._linear: dict[str, Linear] = {}
    self._zero_padded: dict[str, tuple[str, list[int]]] = {}

  def add(self, kind: str, inputs: Sequence[Any], **attributes: Any) -> str:
    """Adds a node.

    Args:
      kind: ONNX's operator, of one output.
      inputs: names of tensors, and constants.
      **attributes: the operator's.

    Returns:
      The name of the output.
    """
    names = [x if isinstance(x, str) else self._add_constant(x) for x in inputs]
    name = f"{kind}_{len(self._nodes)}"
    self._nodes.append(helper.make_node(kind, names, [name], name, **attributes))
    return name

  def as_array(self, tensor: Tensor) -> str:
    """The name of the tensor with the axes that the array has."""
    if len(tensor.shape) != 4:
      return tensor.name
    if tensor.name not in self._arrays:
      self._arrays[tensor.name] = self.add(
        "Transpose", [tensor.name], perm=AXES_OF_IMAGES
      )
    return self._arrays[tensor.name]

  def from_array(self, name: str, shape: Sequence[int]) -> Tensor:
    """Makes a tensor from the name of one that has the array's axes."""
    shape = tuple(shape)
    if len(shape) != 4:
      return Tensor(name, shape)
    tensor = Tensor(self.add("Transpose", [name], perm=_TO_NCHW), shape)
    self._arrays[tensor.name] = name
    return tensor

  def operand(self, value: Any) -> Any:
    """A tensor's name, or a constant in the layout that matches tensors.

    Raises:
      ValueError: for a constant that is not the same for every image.
    """
    if isinstance(value, Tensor):
      return value.name
    value = np.asarray(value)
    if not value.ndim:
      return value
    if value.shape[0] not in (1, self._batch_size) or (value != value[:1]).any():
      raise ValueError("a constant is not the same for every image")

    value = value[:1]
    return value.transpose(_TO_NCHW) if value.ndim == 4 else value

  def affine(
    self,
    tensor: Tensor,
    *,
    factor: np.ndarray = _ONE,
    divisor: np.ndarray = _ONE,
    shift: np.ndarray | None = None,
  ) -> Tensor:
    """`factor / divisor * tensor + shift`, fused with its source if that is linear.

    Args:
      tensor: its source.
      factor: a constant in the form of `operand`.
      divisor: likewise; separate from the factor, since 7 / 7 is 1 and 7 * (1 / 7) is
        not.
      shift: likewise; None for 0.

    Returns:
      The tensor.
    """
    shift = np.zeros((), factor.dtype) if shift is None else shift
    if tensor.name in self._linear:
      made = _merge(self._linear[tensor.name], factor / divisor, shift)
      if made is not None:
        return Tensor(self._add_linear(made), tensor.shape)

    if tensor.name in self._affine:
      before = self._affine[tensor.name]
      shift = before.shift * factor / divisor + shift
      factor, tensor = before.factor * factor, before.source

    factor = factor / divisor
    name = tensor.name
    if (factor != 1).any():
      name = self.add("Mul", [name, factor])
    if (shift != 0).any():
      name = self.add("Add", [name, shift])
    if name != tensor.name:
      self._affine[name] = Affine(tensor, factor, shift)
    return Tensor(name, tensor.shape)

  def convolve(self, tensor: Tensor, kernel: np.ndarray, **attributes: Any) -> str:
    """Adds a convolution; zeros padded before it become its own padding.

    Args:
      tensor: the images.
      kernel: `(F, C / group, h, w)`.
      **attributes: ONNX's, "pads" among them.

    Returns:
      The name of the tensor.
    """
    source = tensor.name
    if source in self._zero_padded:
      source, more = self._zero_padded[source]
      pads = zip(attributes["pads"], more, strict=True)
      attributes["pads"] = [a + b for a, b in pads]
    bias = np.zeros(len(kernel), kernel.dtype)
    return self._add_linear(Linear("Conv", source, kernel, bias, attributes))

  def multiply(self, source: str, kernel: np.ndarray) -> str:
    """Adds the product of `(N, D)` and a kernel `(D, F)`; the name of the tensor."""
    bias = np.zeros(kernel.shape[1], kernel.dtype)
    return self._add_linear(Linear("Gemm", source, kernel, bias, {}))

  def pad(self, tensor: Tensor, value: np.ndarray, pads: Sequence[int]) -> str:
    """Adds padding.

    Args:
      tensor: the source.
      value: scalar of the tensor's type.
      pads: ONNX's: before each axis of the tensor, then behind each.

    Returns:
      The name of the tensor.
    """
    name = self.add("Pad", [tensor.name, np.asarray(pads, np.int64), value])
    if len(tensor.shape) == 4 and not any([*pads[:2], *pads[4:6]]):
      known = {0.0: self._zero_padded, -np.inf: self.lowest_padded}.get(float(value))
      if known is not None:
        known[name] = (tensor.name, [*pads[2:4], *pads[6:]])
    return name

  def pool(self, made: Pool) -> str:
    """Adds pooling of images. In an average, padded zeros count as pixels."""
    counting = {"count_include_pad": 1} if made.kind == "AveragePool" else {}
    name = self.add(
      made.kind,
      [made.source],
      kernel_shape=made.shape,
      strides=made.strides,
      pads=made.pads,
      **counting,
    )
    self.pools[name] = made
    return name

  def build(
    self,
    images: tuple[str, tuple[int, ...]],
    outputs: Sequence[tuple[str, Tensor, np.dtype]],
  ) -> onnx.ModelProto:
    """Builds the model of the nodes that the outputs need.

    Args:
      images: name of the uint8 input, and its shape `(N, H, W, C)`.
      outputs: name, tensor and type of each.

    Returns:
      The model, checked.
    """
    for name, tensor, _ in outputs:
      array = self.as_array(tensor)
      self._nodes.append(helper.make_node("Identity", [array], [name], name))

    needed = {name for name, _, _ in outputs}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(self._nodes):
      if node.output[0] in needed:
        needed.update(node.input)
        nodes.append(node)

    graph = helper.make_graph(
      nodes[::-1],
      "emosynth_jax",
      [_value_info(images[0], images[1], np.dtype(np.uint8))],
      [_value_info(name, tensor.shape, dtype) for name, tensor, dtype in outputs],
      [
        numpy_helper.from_array(np.ascontiguousarray(value), name)
        for name, value in self._constants.items()
        if name in needed
      ],
    )
    model = helper.make_model(
      graph,
      opset_imports=[helper.make_opsetid("", _OPSET)],
      ir_version=_IR_VERSION,
      producer_name="emosynth_jax",
    )
    onnx.checker.check_model(model, full_check=True)
    return model

  def _add_linear(self, made: Linear) -> str:
    inputs = [made.source, made.kernel, made.bias]
    name = self.add(made.kind, inputs, **made.attributes)
    self._linear[name] = made
    return name

  def _add_constant(self, value: Any) -> str:
    name = f"constant_{len(self._constants)}"
    self._constants[name] = np.asarray(value)
    return name


def _merge(made: Linear, factor: np.ndarray, shift: np.ndarray) -> Linear | None:
  """Fuses a linear layer with a following per-channel operation."""
  features = made.bias.size
  for x in (factor, shift):
    if x.size > 1 and (x.size != features or x.shape[1] != features):
      return None
  factor, shift = factor.reshape(-1), shift.reshape(-1)
  along = (-1, 1, 1, 1) if made.kind == "Conv" else (1, -1)
  return made._replace(
    kernel=made.kernel * factor.reshape(along), bias=made.bias * factor + shift
  )


def _value_info(name: str, shape: Sequence[int], dtype: np.dtype) -> Any:
  element = helper.np_dtype_to_tensor_dtype(dtype)
  return helper.make_tensor_value_info(name, element, ["batch", *shape[1:]])
