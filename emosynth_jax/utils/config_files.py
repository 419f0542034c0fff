"""Errors of --config and of the settings that override it, in one line."""

import pathlib
import re
import runpy
from collections.abc import Sequence

# What Python and absl say of a text that is no such value -> what is expected.
_CONVERSIONS = {
  "invalid literal for int": "a whole number",
  "could not convert string to float": "a number",
  r"\('Non-boolean argument": "True or False",
}


def describe_error(error: Exception, argv: Sequence[str]) -> str:
  """Describes an error of parsing the flags.

  Args:
    error: what parsing them raised.
    argv: the command line.

  Returns:
    What is wrong, where, and what to do.
  """
  if reason := _file_error(config_argument(argv)):
    return reason

  text = str(error).strip()
  if isinstance(error, AttributeError | KeyError):
    changes = " ".join(flag for flag in argv if flag.startswith("--config."))
    reason = text.partition(". Other fields")[0].strip("\"'")
    return f"no such setting in {changes}: {reason}"

  # ml_collections quotes a whole traceback, whose last line says what is wrong.
  last = (text.splitlines() or [repr(error)])[-1].strip()
  last = re.sub(r"^\w+Error: ", "", last).removeprefix("flag ")
  return in_plain_words(last)


def in_plain_words(text: str) -> str:
  """An error of a value that can't be converted, without Python's own words."""
  for python, plain in _CONVERSIONS.items():
    text = re.sub(f": {python}.*", f": expected {plain}", text)
  return text


def config_argument(argv: Sequence[str]) -> str:
  """The value of --config, "" if it is not given."""
  return argument_of(argv, "config")


def argument_of(argv: Sequence[str], flag: str) -> str:
  """The value of a flag before the flags are parsed, "" if it is not given."""
  for i, argument in enumerate(argv):
    name, equals, value = argument.partition("=")
    if name in (f"--{flag}", f"-{flag}"):
      return value if equals else "".join(argv[i + 1 : i + 2])
  return ""


def _file_error(argument: str) -> str:
  """Describes the error of a config file, not of its variants; "" if it has none."""
  path = pathlib.Path(argument.partition(":")[0])
  if not argument:
    return ""
  expected = "expected a Python file with get_config(), as configs/fer2013.py"
  if not path.is_file():
    problem = "is a folder" if path.is_dir() else "no such file"
    return f"--config={path}: {problem}; {expected}"
  try:
    functions = runpy.run_path(str(path))
  except Exception as error:
    line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
    reason = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"--config={path}: {expected}, got {type(error).__name__}{line}: {reason}"

  if not callable(functions.get("get_config")):
    return f"--config={path}: {expected}, got a file without it"
  variants = argument.partition(":")[2]
  try:
    config = functions["get_config"](*([variants] if variants else []))
  except ValueError:
    return ""  # Of the variants, and described by the message.
  except Exception as error:
    return f"--config={path}: its get_config() raised {error!r}"
  if not hasattr(config, "is_locked"):
    return (
      f"--config={path}: its get_config() returned {type(config).__name__}, expected "
      "a ConfigDict"
    )
  return ""
