"""Export of a trained network: StableHLO, ONNX, ONNX in 8 bits."""
