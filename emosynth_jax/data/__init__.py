"""Data sets by name: a path in, arrays and their metadata out."""

from emosynth_jax.data.dataset import Dataset, from_arrays, load_splits
from emosynth_jax.data.loaders import (
  LOADERS,
  Loader,
  check_options,
  find_loader,
  loader_options,
)

__all__ = [
  "LOADERS",
  "Dataset",
  "Loader",
  "check_options",
  "find_loader",
  "from_arrays",
  "load_splits",
  "loader_options",
]
