"""Descriptions of ONNX tensors during writing, used to fuse later nodes."""

from typing import Any, NamedTuple

import numpy as np

# Position of each NHWC axis in the NCHW tensor that ONNX's layers expect.
AXES_OF_IMAGES = (0, 2, 3, 1)


class Tensor(NamedTuple):
  """An array that depends on the images, and the ONNX tensor that holds it.

  Attributes:
    name: the tensor's. Arrays `(N, H, W, C)` are stored as `(N, C, H, W)`, all others
      unchanged.
    shape: the array's, with the number of images of the trace for N.
  """

  name: str
  shape: tuple[int, ...]

  def axis(self, axis: int) -> int:
    """Position of one of the array's axes in the tensor."""
    return AXES_OF_IMAGES[axis] if len(self.shape) == 4 else axis


class Comparison(NamedTuple):
  """A tensor as ONNX's `kind` of two operands, tensors or constants."""

  kind: str
  operands: tuple[Any, Any]


class Window(NamedTuple):
  """A tensor as a sum or maximum over adjacent pixels along one axis.

  Attributes:
    source: the tensor of the pixels, `(N, H, W, C)`.
    axis: 1 along the height, 2 along the width.
    start: of the first window, in pixels.
    size: of a window; at 1 the tensor is a slice.
    stride: from window to window.
    kind: ONNX's operator of pooling; "" at size 1.
  """

  source: Tensor
  axis: int
  start: int
  size: int
  stride: int
  kind: str = ""


class Pool(NamedTuple):
  """A tensor as ONNX's pooling `kind` of a tensor of images."""

  kind: str
  source: str
  shape: list[int]
  strides: list[int]
  pads: list[int]


class Affine(NamedTuple):
  """A tensor as `factor * source + shift`."""

  source: Tensor
  factor: np.ndarray
  shift: np.ndarray


class Linear(NamedTuple):
  """A tensor as a convolution ("Conv") or a matrix product ("Gemm") of a tensor."""

  kind: str
  source: str
  kernel: np.ndarray
  bias: np.ndarray
  attributes: dict[str, Any]
