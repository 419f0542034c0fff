"""Static int8 quantization of convolutions and matrix products, by onnxruntime."""

import os
import pathlib
import tempfile

import numpy as np
import onnx

from emosynth_jax.utils import files

# Images at a time in the calibration; onnxruntime keeps statistics of each batch.
_BATCH = 64
_KINDS = ["Conv", "Gemm"]
_PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}


def quantize(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
  """Quantizes the convolutions and matrix products of a model to int8.

  Kernels have one scale per output channel and use 7 of the 8 bits; the scale of a
  layer's input is from its range over the calibration images. All other operations stay
  in float32.

  Args:
    model: in float32.
    images: uint8 `(M, H, W, C)`, of the training or validation split, never the test's.

  Returns:
    The quantized model, with the properties of the original.

  Raises:
    ValueError: without images.
  """
  from onnxruntime import quantization

  if not len(images):
    raise ValueError("images: expected at least one to calibrate on, got none")

  class Reader(quantization.CalibrationDataReader):
    def __init__(self):
      starts = range(0, len(images), _BATCH)
      self._batches = (images[start : start + _BATCH] for start in starts)

    def get_next(self):
      batch = next(self._batches, None)
      return None if batch is None else {model.graph.input[0].name: batch}

  prepared = onnx.ModelProto()
  prepared.CopyFrom(model)
  properties = {p.key: p.value for p in model.metadata_props}
  # Suppresses the advice to fold constants and norms, which is done already.
  onnx.helper.set_model_props(prepared, properties | _PREPARED)

  with tempfile.TemporaryDirectory() as folder, files.writing(folder):
    source, target = (pathlib.Path(folder, name) for name in ("float", "int8"))
    onnx.save(prepared, source)
    quantization.quantize_static(
      os.fspath(source),
      os.fspath(target),
      Reader(),
      quant_format=quantization.QuantFormat.QDQ,
      per_channel=True,
      # x86 without VNNI adds two 8-bit products in 16 bits with saturation: 2 x 255 x
      # 127 saturates, 2 x 255 x 64 does not, so that all machines agree.
      reduce_range=True,
      activation_type=quantization.QuantType.QUInt8,
      weight_type=quantization.QuantType.QInt8,
      op_types_to_quantize=_KINDS,
    )
    result = onnx.load(target)

  onnx.helper.set_model_props(result, properties)
  return result
