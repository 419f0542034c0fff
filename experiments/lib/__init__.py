"""Shared code of the experiments."""
