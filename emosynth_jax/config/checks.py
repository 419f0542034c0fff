"""Checks of the values of settings, with descriptions of the allowed values."""

import numbers
import sys
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np


class Check(NamedTuple):
  """A check of a setting.

  Attributes:
    accepts: returns whether a value is allowed.
    describe: returns what is allowed, for error messages and help.
  """

  accepts: Callable[[Any], bool]
  describe: Callable[[], str]


def number(
  *,
  at_least: float | None = None,
  above: float | None = None,
  at_most: float | None = None,
  below: float | None = None,
) -> Check:
  """A finite number in an interval; not a number (NaN) is outside of each."""
  return _in_interval("a number", numbers.Real, at_least, above, at_most, below)


def whole(at_least: int, *, below: int | None = None) -> Check:
  """A whole number."""
  return _in_interval("a whole number", numbers.Integral, at_least, None, None, below)


def one_of(choices: Collection[str]) -> Check:
  """One of some strings; those that `choices` holds at the time of the check."""
  return Check(
    lambda value: isinstance(value, str) and value in choices,
    lambda: f"one of {tuple(choices)}",
  )


def many(check: Check) -> Check:
  """A tuple or list of any length, whose values pass a check."""
  return Check(
    lambda values: isinstance(values, tuple | list) and all(map(check.accepts, values)),
    lambda: f"() or a tuple; each value {check.describe()}",
  )


FLAG = Check(lambda value: isinstance(value, bool | np.bool_), lambda: "True or False")
TEXT = Check(lambda value: isinstance(value, str), lambda: "a string")


def _in_interval(kind, type_, at_least, above, at_most, below):
  limits = (
    ("at least", at_least, lambda value: value >= at_least),
    ("more than", above, lambda value: value > above),
    ("at most", at_most, lambda value: value <= at_most),
    ("less than", below, lambda value: value < below),
  )
  limits = tuple(limit for limit in limits if limit[1] is not None)
  words = " and ".join(f"{name} {bound}" for name, bound, _ in limits)
  described = f"{kind}, {words}" if words else kind

  # What floats and arrays hold; Python's whole numbers have no limit.
  most = sys.float_info.max if type_ is numbers.Real else 2**63 - 1

  def accepts(value):
    is_number = isinstance(value, type_) and not isinstance(value, bool | np.bool_)
    return (
      is_number and abs(value) <= most and all(holds(value) for _, _, holds in limits)
    )

  return Check(accepts, lambda: described)
