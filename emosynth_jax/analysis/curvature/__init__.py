"""The curvature of the loss at a trained network."""
