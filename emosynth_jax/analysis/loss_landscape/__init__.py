"""Loss landscape of a trained network."""
