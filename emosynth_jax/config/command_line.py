"""Flags of the commands that take a config."""

import re
from typing import Any

from absl import flags

from emosynth_jax.config import defaults, recipes
from emosynth_jax.utils import config_files
from emosynth_jax.utils.cli import fail
from emosynth_jax.utils.nearest import did_you_mean

# Flags defined here belong to the command that requests them, also in --help.
flags.disclaim_key_flags()


def define_data_dir() -> flags.FlagHolder:
  """Defines --data_dir of a command with --config, see `apply_data_dir`."""
  return flags.DEFINE_string(
    "data_dir", None, "Where the data set lies; the same as --config.data.data_dir."
  )


def apply_data_dir(config: Any, data_dir: str | None) -> None:
  """Sets a config's data directory by --data_dir, if that is given."""
  if data_dir is not None:
    config.data.data_dir = data_dir


def parse_config_flags(argv: list[str]) -> list[str]:
  """Parses flags, including --config, a file or a recipe's name.

  An error is one line.
  """
  _check_settings(argv)
  is_help = any(argument.lstrip("-").startswith("help") for argument in argv[1:])
  if not is_help and not config_files.config_argument(argv):
    fail("expected --config, as in --config=synthetic_faces:small")
  try:
    argv = recipes.with_paths(argv)
  except FileNotFoundError as error:
    fail(error)
  try:
    arguments = flags.FLAGS(argv)
    # A missing config file is an error only on access.
    flags.FLAGS.config.is_locked  # noqa: B018
    return arguments
  except Exception as error:  # A config file is code, which may raise any error.
    if "--traceback" in argv:
      raise
    fail(config_files.describe_error(error, argv))


def _check_settings(argv: list[str]) -> None:
  """Exits with an error if a flag --config.X=... names no setting."""
  default = defaults.get_default_config()
  known = defaults.flatten(default.to_dict())
  sections = {path[:i] for path in known for i, c in enumerate(path) if c == "."}
  for argument in argv[1:]:
    path = re.match(r"--?config\.([^=]+)", argument)
    if path is None or path[1] in known:
      continue
    name = path[1]
    if any(name.startswith(f"{part}.") for part in defaults.OPEN_PARTS):
      continue
    if name in sections or name in defaults.OPEN_PARTS:
      inner = sorted(each for each in known if each.startswith(f"{name}."))
      inner.sort(key=lambda each: not each.endswith(".name"))
      fail(
        f"--config.{name}: a section of settings; name one of them, as "
        f"--config.{inner[0] if inner else f'{name}.NAME'}=..."
      )
    fail(f"{argument}: no such setting{did_you_mean(name, known)}")
