"""Random changes to training images."""
