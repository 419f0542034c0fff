"""Export of a trained network: StableHLO, ONNX, ONNX with int8 quantization."""
