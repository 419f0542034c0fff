"""Facial-expression recognition and margin-loss research in JAX."""

__version__ = "0.1.0"
