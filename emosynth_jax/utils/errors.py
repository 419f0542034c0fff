"""Errors that commands report in one line."""

import os
from typing import Any


class UserError(RuntimeError):
  """Error caused by the user's input, not by the code."""


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
