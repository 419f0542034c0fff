"""Errors that commands report in one line."""

from collections.abc import Iterable


class UserError(RuntimeError):
  """Error caused by the user's input, not by the code."""


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
  """Checks that a value is one of `choices`.

  Raises:
    ValueError: naming the argument, what was expected and what was given.
  """
  if value not in choices:
    raise ValueError(f"{name}: expected one of {', '.join(choices)}; got {value!r}")
