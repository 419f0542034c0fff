"""Grad-CAM and guided backpropagation of a trained run."""
