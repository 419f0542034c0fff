"""Errors that commands report in one line."""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any


class UserError(RuntimeError):
  """Error caused by the user's input, not by the code."""


def reason_of(error: BaseException, length: int = 200) -> str:
  """An error's first line, shortened to a length."""
  return (str(error).strip().splitlines() or [repr(error)])[0][:length]


def expect_several(name: str, value: Any) -> None:
  """Checks that an argument is no single string, path or record, though it has parts.

  Args:
    name: the argument's, in the error.
    value: expected to be a list or another iterable.

  Raises:
    TypeError: if it is a single one, or no iterable.
  """
  is_record = hasattr(value, "_fields")  # A named tuple.
  is_single = is_record or isinstance(value, str | bytes | os.PathLike)
  if is_single or not hasattr(value, "__iter__"):
    raise TypeError(
      f"{name}: expected several, got {value!r}; for one write [{value!r}]"
    )


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
  """Checks that a value is one of `choices`.

  Raises:
    ValueError: naming the argument, what was expected and what was given.
  """
  if value not in choices:
    raise ValueError(f"{name}: expected one of {', '.join(choices)}; got {value!r}")


def check_choices(name: str, values: Iterable[str], choices: Iterable[str]) -> None:
  """Checks that values are some of `choices`.

  Raises:
    ValueError: naming the argument, what was expected and the values that are not.
  """
  known = list(choices)
  if unknown := sorted(set(values) - set(known)):
    found = ", ".join(map(repr, unknown))
    raise ValueError(f"{name}: expected some of {', '.join(known)}; got {found}")


def refuse_twice(folders: Sequence[str | os.PathLike], flag: str) -> None:
  """Checks that no folder is given twice, also under different spellings of its path.

  Args:
    folders: what the flag names.
    flag: its name, for the message.

  Raises:
    ValueError: naming the folder.
  """
  resolved = [pathlib.Path(folder).resolve() for folder in folders]
  if twice := [folder for folder in resolved if resolved.count(folder) > 1]:
    raise ValueError(f"--{flag}: {twice[0]} is given twice")
