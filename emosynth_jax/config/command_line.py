"""Flags of the commands that take a config."""

import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from emosynth_jax.config import defaults, of_workdir, recipes, renamed, stored
from emosynth_jax.utils import config_files, own_code
from emosynth_jax.utils.cli import describe_flag_error, fail
from emosynth_jax.utils.nearest import did_you_mean

# Flags defined here belong to the command that requests them, also in --help.
flags.disclaim_key_flags()


def define_config(text: str) -> flags.FlagHolder:
  """Defines --config of a command whose flags `parse_config_flags` parses.

  Args:
    text: its help.
  """
  return config_flags.DEFINE_config_file(
    "config",
    None,
    text,
    # get_config leaves sections unlocked that take any argument, such as a loss.
    lock_config=False,
    accept_new_attributes=True,
  )


def define_data_dir() -> flags.FlagHolder:
  """Defines --data_dir of a command with --config, see `config_of`."""
  return flags.DEFINE_string(
    "data_dir", None, "Data set directory; the same as --config.data.data_dir."
  )


def config_of(values: Any) -> ml_collections.ConfigDict:
  """The config of a command, with the changes of its flags.

  Args:
    values: the flags, --config and --data_dir among them.

  Returns:
    A checked config. A network, loss or data set that a flag selects instead of that of
    the config file has none of its arguments, see
    `defaults.without_foreign_arguments`.

  Raises:
    ValueError: for a setting out of range.
  """
  config = values.config
  if values.data_dir is not None:
    config.data.data_dir = values.data_dir
  overridden = config_flags.get_override_values(values["config"])
  former = {path: values[f"config.{path}"].default for path in overridden}
  config = defaults.without_foreign_arguments(config, former)
  defaults.check_config(config)
  return config


def parse_config_flags(argv: list[str]) -> list[str]:
  """Parses flags, including --config, a file or a recipe's name.

  An error is one line.
  """
  # ml_collections reads the overrides of --config from sys.argv.
  sys.argv, argv = map(renamed.update_arguments, (sys.argv, argv))
  _check_settings(argv)
  is_help = any(argument.lstrip("-").startswith("help") for argument in argv[1:])
  try:
    argv = recipes.with_paths(with_stored_config(argv))
  except (FileNotFoundError, ValueError) as error:
    fail(error)
  if not is_help and not config_files.config_argument(argv):
    if config_files.argument_of(argv, "mode") == "eval":
      fail("expected --workdir, the folder of a trained run, as in --workdir=runs/mam")
    fail("expected --config, as in --config=synthetic_faces:small")
  file = pathlib.Path(config_files.config_argument(argv).partition(":")[0])
  try:
    with own_code.without_bytecode([file]):
      arguments = flags.FLAGS(argv)
      # A missing config file is an error only on access.
      flags.FLAGS.config.is_locked  # noqa: B018
    return arguments
  except Exception as error:  # A config file is code, which may raise any error.
    if "--traceback" in argv:
      raise
    if isinstance(error, flags.Error) and not str(error).startswith("flag --config"):
      fail(describe_flag_error(error))
    fail(config_files.describe_error(error, argv))


def with_stored_config(argv: Sequence[str]) -> list[str]:
  """Adds --config to a command with --mode=eval alone: that of the run in --workdir.

  Raises:
    FileNotFoundError: if the folder holds no run.
    ValueError: if its config is damaged, or it is a folder of seeds without --seeds.
  """
  workdir = config_files.argument_of(argv, "workdir")
  is_eval = config_files.argument_of(argv, "mode") == "eval"
  if not is_eval or not workdir or config_files.config_argument(argv):
    return list(argv)

  run = of_workdir.find_run(workdir)
  if run != pathlib.Path(workdir) and not config_files.argument_of(argv, "seeds"):
    raise ValueError(f"--workdir: {workdir} has several seeds; add --seeds, as 0,1,2")
  stored.read_config(run)
  return [argv[0], f"--config={of_workdir.__file__}:{workdir}", *argv[1:]]


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
