"""Validation of a bundle's content."""

import math
from collections.abc import Iterable
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from emosynth_jax.training import build

# Numbers of an image; 4096 x 4096 in color has fewer.
MAX_PIXELS = 2**26


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
  try:
    number = float(record[name])
  except OverflowError:
    number = math.inf
  # Python's JSON reader accepts NaN and infinity, which > 0 alone would not reject.
  if not (math.isfinite(number) and number > 0):
    raise ValueError(f"{name}: expected a number above 0, got {record[name]!r:.40}")
  return number


def read_shape(record: dict[str, Any]) -> tuple[int, int, int]:
  """Reads the image shape of a record: (height, width, channels).

  Raises:
    KeyError: if it is missing.
    ValueError: if it is not three sizes, or of an image too large to allocate.
  """
  shape = record["image_shape"]
  is_shape = isinstance(shape, list | tuple) and len(shape) == 3
  if not is_shape or not all(type(n) is int and n > 0 for n in shape):
    raise ValueError(f"image_shape: expected positive sizes, got {shape!r:.40}")
  if math.prod(shape) > MAX_PIXELS:
    raise ValueError(
      f"image_shape: expected at most {MAX_PIXELS} numbers, got {shape!r:.40}"
    )
  return tuple(shape)


def check_names(names: Iterable[str]) -> None:
  """Checks the names of a file's arrays: paths below `params` or `batch_stats`.

  Raises:
    ValueError: naming an array that is neither, or that is a part of another's path.
  """
  known = set(names)
  for name in sorted(known):
    head, *rest = name.split("/")
    if head not in ("params", "batch_stats") or not rest or not all(rest):
      raise ValueError(f"array {name!r:.60}: expected a path as params/LAYER/kernel")
    parents = {"/".join((head, *rest[:i])) for i in range(len(rest))}
    if both := sorted(parents & known):
      raise ValueError(f"array {both[0]!r:.60}: there is an array {name!r:.60} as well")


def check_arrays(bundle: Any) -> None:
  """Compares a network's arrays with those that the network of its config has.

  Args:
    bundle: a `bundle.Bundle`.

  Raises:
    ValueError: for an array that is missing, unknown, of another shape or not finite,
      or a config of an unknown network.
    TypeError: for arguments that the network does not accept.
  """

  model = build.experiment_of(bundle.config, bundle).model
  # Of no memory: the shape is the file's word.
  images = jax.ShapeDtypeStruct((1, *bundle.image_shape), jnp.float32)
  shapes = jax.eval_shape(
    lambda pixels: model.init(jax.random.key(0), pixels, train=False), images
  )
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
