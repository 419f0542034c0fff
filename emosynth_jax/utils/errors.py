"""Errors that commands report in one line."""


class UserError(RuntimeError):
  """Error caused by the user's input, not by the code."""
