"""Checks of arguments that are numbers; those of strings are in `errors`."""

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_number(
  name: str,
  value: Any,
  low: float = -math.inf,
  high: float = math.inf,
  *,
  above: bool = False,
  is_static: bool = False,
) -> None:
  """Checks for a finite number in `[low, high]`, or with `above` in `(low, high]`.

  An array that is being traced (an ablation maps over margins) has no value to check
  and passes, unless the number is static in the compiled program.

  Raises:
    TypeError: for no number, or with `is_static` an array of JAX.
    ValueError: for one out of the interval.
  """
  if isinstance(value, jax.core.Tracer) and not is_static:
    return
  if not _is_number(value) or (is_static and isinstance(value, jax.Array)):
    raise TypeError(f"{name}: expected a number, got {value!r}")
  number = float(value)
  if not low <= number <= high or (above and number == low) or math.isinf(number):
    interval = f"{'(' if above else '['}{low}, {high}]"
    raise ValueError(f"{name}: expected a number in {interval}, got {value}")


def check_order(low_name: str, low: Any, high_name: str, high: Any) -> None:
  """Refuses an upper bound below the lower one.

  Bounds that are being traced have no values to compare and pass.
  """
  if isinstance(low, jax.core.Tracer) or isinstance(high, jax.core.Tracer):
    return
  if float(high) < float(low):
    raise ValueError(
      f"{high_name}: expected a number of at least {low_name}={low}, got {high}"
    )


def check_interval(name: str, interval: Any, high: float = math.inf) -> None:
  """Checks for a pair of static numbers, `0 < least <= greatest <= high`."""
  if not isinstance(interval, tuple | list) or len(interval) != 2:
    raise TypeError(f"{name}: expected (least, greatest), got {interval!r}")
  for value in interval:
    check_number(name, value, 0, high, above=True, is_static=True)
  if interval[0] > interval[1]:
    raise ValueError(f"{name}: expected (least, greatest), got {interval}")


def as_integer(name: str, value: Any, low: int, high: int | None = None) -> int:
  """A whole number that shapes the program, of any library, as one of Python.

  Args:
    name: the argument's name.
    value: the caller's argument.
    low: the least that is allowed.
    high: the most; None for any.

  Raises:
    TypeError: for no whole number.
    ValueError: for one out of range.
  """
  try:
    whole = operator.index(value)
  except TypeError:
    whole = None
  if whole is None or isinstance(value, (bool, np.bool_)):
    raise TypeError(f"{name}: expected an integer, got {value!r}")
  if whole < low or (high is not None and whole > high):
    wanted = f"of at least {low}" if high is None else f"in [{low}, {high}]"
    raise ValueError(f"{name}: expected an integer {wanted}, got {value}")
  return whole


def _is_number(value: Any) -> bool:
  """Returns whether a value is one real number, of Python, NumPy or JAX."""
  if isinstance(value, bool):
    return False
  if isinstance(value, (int, float)):
    return True
  return (
    hasattr(value, "dtype")
    and np.ndim(value) == 0
    and (
      jnp.issubdtype(value.dtype, jnp.floating)
      or jnp.issubdtype(value.dtype, jnp.integer)
    )
  )
