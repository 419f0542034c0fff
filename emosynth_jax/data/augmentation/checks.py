"""Checks of the arguments that the augmentations take."""

import math
import numbers
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


def as_images(images: ArrayLike) -> Array:
  """Checks for a floating array `(N, H, W, C)` without an empty axis."""
  images = jnp.asarray(images)
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise TypeError(f"images: expected a floating dtype, got {images.dtype}")
  if images.ndim != 4 or 0 in images.shape:
    raise ValueError(
      f"images: expected shape (N, H, W, C) without a zero, got {images.shape}"
    )
  return images


def check_number(
  name: str,
  value: Any,
  low: float = -math.inf,
  high: float = math.inf,
  *,
  above: bool = False,
) -> None:
  """Checks for a finite number in `[low, high]`, or with `above` in `(low, high]`.

  A traced array is rejected too: these numbers are static in the compiled program.
  """
  if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
    raise TypeError(f"{name}: expected a number, got {value!r}")
  number = float(value)
  if not low <= number <= high or (above and number == low) or math.isinf(number):
    interval = f"{'(' if above else '['}{low}, {high}]"
    raise ValueError(f"{name}: expected a number in {interval}, got {value}")


def check_integer(name: str, value: Any, low: int, high: int) -> None:
  """Checks for an integer in `[low, high]`."""
  if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
    raise TypeError(f"{name}: expected an integer, got {value!r}")
  if not low <= int(value) <= high:
    raise ValueError(f"{name}: expected an integer in [{low}, {high}], got {value}")


def check_interval(name: str, interval: Any, high: float = math.inf) -> None:
  """Checks for a pair `0 < least <= greatest <= high`."""
  if not isinstance(interval, (tuple, list)) or len(interval) != 2:
    raise TypeError(f"{name}: expected (least, greatest), got {interval!r}")
  for value in interval:
    check_number(name, value, 0, high, above=True)
  if interval[0] > interval[1]:
    raise ValueError(f"{name}: expected (least, greatest), got {interval}")
