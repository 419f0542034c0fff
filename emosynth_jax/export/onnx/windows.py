"""Rewrites pooling by sums or maxima of slices to ONNX's pooling operators.

`models.layers` uses slices, which are fast on CPUs in training. ONNX has an operator
for pooling: one node instead of up to thirty, and 1/6 less time for all of EmoSynthNet.
"""

import numpy as np

from emosynth_jax.export.onnx.graph import Graph
from emosynth_jax.export.onnx.tensors import Pool, Tensor, Window


def join(
  graph: Graph, kind: str, left: Tensor, right: Tensor, result: Tensor
) -> Tensor:
  """Sum ("AveragePool") or maximum ("MaxPool") of two tensors, as pooling if possible.

  Args:
    graph: the graph.
    kind: ONNX's operator.
    left: a tensor.
    right: another.
    result: their sum or maximum as written otherwise.

  Returns:
    The tensor, or `result` if it is not pooling, or only a part of it.
  """
  first, second = (graph.windows.get(x.name) for x in (left, right))
  if first is None or second is None:
    return result

  if first.start > second.start:
    first, second = second, first
  next_pixel = first._replace(start=first.start + first.size, size=1, kind="")
  if second != next_pixel or first.kind not in ("", kind):
    return result

  window = first._replace(size=first.size + 1, kind=kind)
  length = window.source.shape[window.axis]
  outputs = (length - window.size) // window.stride + 1
  if window.start == 0 and outputs == result.shape[window.axis]:
    result = Tensor(_add_pool(graph, window), result.shape)
    if kind == "AveragePool":
      result = graph.affine(result, factor=np.array(window.size, np.float32))

  graph.windows[result.name] = window
  return result


def _add_pool(graph: Graph, window: Window) -> str:
  """Adds the operator, fused with preceding pooling along the other axis."""
  source, pads = window.source.name, [0] * 4
  if window.kind == "MaxPool" and source in graph.lowest_padded:
    source, pads = graph.lowest_padded[source]
  axis = window.axis - 1
  shape, strides = [1, 1], [1, 1]
  shape[axis], strides[axis] = window.size, window.stride
  before = graph.pools.get(source)

  if (
    before is not None
    and (before.kind, before.shape[axis], before.strides[axis]) == (window.kind, 1, 1)
    and before.pads[axis] == before.pads[axis + 2] == 0
  ):
    source = before.source
    shape[1 - axis], strides[1 - axis] = (
      before.shape[1 - axis],
      before.strides[1 - axis],
    )
    pads = [a + b for a, b in zip(pads, before.pads, strict=True)]

  return graph.pool(Pool(window.kind, source, shape, strides, pads))
