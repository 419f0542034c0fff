"""What a bundle's file says, checked before a network computes with it."""

import math
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from emosynth_jax.training import build


def read_positive(record: dict[str, Any], name: str) -> float:
  """A field of a record that must be a number above 0.

  Args:
    record: what JSON held.
    name: the field's.

  Returns:
    The number.

  Raises:
    KeyError: if it is missing.
    TypeError: if it is of another kind.
    ValueError: if it is no finite number above 0.
  """
  number = float(record[name])
  # JSON as Python reads it has NaN and infinities, which a plain > 0 lets by.
  if not (math.isfinite(number) and number > 0):
    raise ValueError(f"{name}: expected a number above 0, got {record[name]!r}")
  return number


def check_arrays(bundle: Any) -> None:
  """Compares a network's arrays with those that the network of its config has.

  Args:
    bundle: a `bundle.Bundle`.

  Raises:
    ValueError: for an array that is missing, unknown, of another shape or not finite,
      or a config of no network that is known.
    TypeError: for arguments that the network doesn't take.
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
  network = f"the network {bundle.config.model.name!r} of its config"
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
