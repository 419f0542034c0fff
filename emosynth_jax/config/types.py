"""Types of settings, checked against the type of their defaults."""

from collections.abc import Mapping
from typing import Any


def as_typed(
  path: str, given: Mapping[str, Any], like: Mapping[str, Any]
) -> dict[str, Any]:
  """Checks the types of settings against those of their defaults.

  A whole number may stand for a float, as may one number for each class, and a list for
  a tuple. A default of another type than a bool, a number or a tuple of these says
  nothing. A float without a fraction may stand for a whole number and becomes one: a
  flag has the type of the setting that it replaces, as another network's width.

  Args:
    path: where the settings are, as "config.model".
    given: name to value; sections inside are skipped.
    like: name to default.

  Returns:
    The settings.

  Raises:
    ValueError: naming the setting, what was expected and what was given.
  """
  typed = dict(given)
  for name, value in given.items():
    if name in like and (wanted := _mismatch(value, like[name])):
      raise ValueError(f"{path}.{name}: expected {wanted}, got {value!r}")
    if isinstance(value, float) and _is_whole_type(like.get(name)):
      typed[name] = int(value)
  return typed


def _mismatch(value: Any, default: Any) -> str:
  """Expected kind of a value of the wrong type; "" if it fits the default."""
  if isinstance(default, bool):
    return "" if isinstance(value, bool) else "True or False"
  if isinstance(default, int):
    fits = isinstance(value, int) and not isinstance(value, bool)
    fits |= isinstance(value, float) and value.is_integer()
    return "" if fits else "a whole number"
  if isinstance(default, float):
    numbers = value if isinstance(value, tuple | list) else [value]
    return "" if all(map(_is_number, numbers)) else "a number"
  if isinstance(default, tuple):
    if not isinstance(value, tuple | list):
      return f"values as in {default}"
    wrong = [_mismatch(each, default[0]) for each in value] if default else []
    return f"values as in {default}" if any(wrong) else ""
  return ""


def _is_whole_type(default: Any) -> bool:
  return isinstance(default, int) and not isinstance(default, bool)


def _is_number(value: Any) -> bool:
  if isinstance(value, bool):
    return False
  return isinstance(value, int | float) or hasattr(value, "__array__")
