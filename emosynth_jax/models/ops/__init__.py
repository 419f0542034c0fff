"""Layers, and the forms of convolutions that are fast on a CPU."""
