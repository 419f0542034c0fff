"""Histogram equalization in ONNX's operators; `network_inputs` has it in JAX."""

import numpy as np
import onnx

from emosynth_jax.export.onnx.graph import Graph
from emosynth_jax.export.onnx.tensors import Tensor

_LEVELS = 256


def write(graph: Graph, images: Tensor) -> Tensor:
  """Adds `network_inputs.equalize_histogram`, bit-exactly.

  Counts and levels are whole numbers in float32, exact up to 2^24 pixels.

  Args:
    graph: the graph.
    images: uint8 `(N, H, W, 1)`.

  Returns:
    uint8 `(N, H, W, 1)`.
  """
  total = int(np.prod(images.shape[1:]))
  # With one channel NCHW and NHWC are the same pixels in the same order.
  flat = graph.add("Reshape", [images.name, np.asarray([0, total], np.int64)])
  levels = graph.add("Cast", [flat], to=onnx.TensorProto.INT64)

  # Number of pixels of each level, for any number of images.
  pixels = graph.add("Cast", [flat], to=onnx.TensorProto.FLOAT)
  zeros = graph.add("Mul", [pixels, np.float32(0)])
  ones = graph.add("Add", [zeros, np.float32(1)])
  first = [np.asarray([x], np.int64) for x in (0, 1, 1)]
  column = graph.add("Slice", [zeros, *first])
  no_counts = graph.add("Expand", [column, np.asarray([1, _LEVELS], np.int64)])
  counts = graph.add(
    "ScatterElements", [no_counts, levels, ones], axis=1, reduction="add"
  )
  at_most = graph.add("CumSum", [counts, np.asarray(1, np.int64)])
  lowest = graph.add("ReduceMin", [levels], axes=[1], keepdims=1)
  least = graph.add("GatherElements", [at_most, lowest], axis=1)

  rest = graph.add("Sub", [np.float32(total), least])
  divisor = graph.add("Max", [rest, np.float32(1)])
  scale = graph.add("Div", [np.float32(_LEVELS - 1), divisor])
  above = graph.add("Sub", [at_most, least])
  table = graph.add("Round", [graph.add("Mul", [above, scale])])  # Half to even.
  equalized = graph.add("GatherElements", [table, levels], axis=1)

  is_constant = graph.add("Equal", [rest, np.float32(0)])
  result = graph.add("Where", [is_constant, pixels, equalized])
  result = graph.add("Cast", [result], to=onnx.TensorProto.UINT8)
  n, height, width, channels = images.shape
  shape = np.asarray([0, channels, height, width], np.int64)
  return Tensor(graph.add("Reshape", [result, shape]), (n, height, width, channels))
