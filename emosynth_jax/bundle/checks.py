"""Validation of a bundle's content."""

import math
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from emosynth_jax.training import build


def read_positive(record: dict[str, Any], name: str) -> float:
  """Reads a field of a record that must be a number above 0.

  Args:
    record: the decoded JSON.
    name: the field's name.

  Returns:
    The number.

  Raises:
    KeyError: if it is missing.
    TypeError: if it has the wrong type.
    ValueError: if it is not a finite number above 0.
  """
  number = float(record[name])
  # Python's JSON reader accepts NaN and infinity, which > 0 alone would not reject.
  if not (math.isfinite(number) and number > 0):
    raise ValueError(f"{name}: expected a number above 0, got {record[name]!r}")
  return number


def check_arrays(bundle: Any) -> None:
  """Compares a network's arrays with those that the network of its config has.

  Args:
    bundle: a `bundle.Bundle`.

  Raises:
    ValueError: for an array that is missing, unknown, of another shape or not finite,
      or a config of an unknown network.
    TypeError: for arguments that the network does not accept.
  """

  model = build.build_experiment(
    bundle.config,
    image_shape=bundle.image_shape,
    num_classes=len(bundle.class_names),
  ).model
  images = jnp.zeros((1, *bundle.image_shape))
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
  wanted = flax.traverse_util.flatten_dict(dict(shapes), sep="/")
  found = flax.traverse_util.flatten_dict(bundle.variables, sep="/")
  network = f"its config's network {bundle.config.model.name!r}"
  if missing := sorted(wanted.keys() - found.keys()):
    raise ValueError(f"{network} has {_listed(missing)}, the file hasn't")
  if unknown := sorted(found.keys() - wanted.keys()):
    raise ValueError(f"the file has {_listed(unknown)}, {network} hasn't")

  for name, array in found.items():
    if array.shape != wanted[name].shape:
      raise ValueError(
        f"{name}: expected {wanted[name].shape} of {network}, got {array.shape}"
      )
    if not np.isfinite(array).all():
      raise ValueError(f"{name}: expected finite numbers")


def _listed(names: list[str]) -> str:
  return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
