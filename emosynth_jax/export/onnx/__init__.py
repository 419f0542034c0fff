"""ONNX models written from jaxprs."""
