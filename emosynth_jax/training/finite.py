"""Checks that a trained network's variables are finite."""

from typing import Any

import jax
import numpy as np


def check_finite(variables: Any, source: object) -> None:
  """Checks that all parameters and statistics of a network are finite.

  Args:
    variables: a tree of arrays.
    source: where they are from, for the message.

  Raises:
    ValueError: naming an array that is not finite.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    array = np.asarray(leaf)
    if not np.isfinite(array).all():
      name = jax.tree_util.keystr(path, simple=True, separator="/")
      count = int((~np.isfinite(array)).sum())
      raise ValueError(
        f"{source}: {name} has {count} of {array.size} numbers that are not finite: "
        "the training diverged, and nothing can be computed with this network"
      )
