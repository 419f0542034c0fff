"""The loss around a trained network."""
