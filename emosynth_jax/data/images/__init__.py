"""Decoding and cropping of images, and images left on disk."""
