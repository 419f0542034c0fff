"""Errors that a command reports in one line."""


class UserError(RuntimeError):
  """An error whose cause lies in what the user gave, and not in the code."""
