"""Reads configs stored by runs and bundles."""

import os
import pathlib
from typing import Any

import ml_collections

from emosynth_jax.config import defaults, renamed
from emosynth_jax.utils.json_files import read_json


def read_config(workdir: str | os.PathLike) -> ml_collections.ConfigDict:
  """Reads the config of a workdir.

  Settings added since the run take their defaults, which keep its behavior; old names
  (`renamed.KEYS`) are read as the new ones.

  Args:
    workdir: the run's folder.

  Returns:
    A checked config.

  Raises:
    FileNotFoundError: if the folder holds no run.
    ValueError: if its config is damaged, or has settings that are no longer known.
  """
  path = pathlib.Path(workdir) / "config.json"
  if not path.is_file():
    one = next(iter(sorted(path.parent.glob("*/config.json"))), None)
    hint = f"; choose one of the runs in it, as {one.parent}" if one else ""
    raise FileNotFoundError(
      f"--workdir: expected the folder of a trained run, but {path} is missing{hint}"
    )

  try:
    return parse_config(read_json(path))
  except ValueError as error:
    raise ValueError(f"{path} is damaged or of another version ({error})") from error


def parse_config(stored: dict[str, Any]) -> ml_collections.ConfigDict:
  """Builds a config from its JSON form; see `read_config`.

  Args:
    stored: the JSON form of `config.to_dict()`.

  Returns:
    A checked config.

  Raises:
    ValueError: if it is not a config, or has settings that are no longer known.
  """
  try:
    stored = _with_tuples(renamed.with_new_names(stored))
    config = defaults.get_default_config()
    for name in defaults.OPEN_PARTS:
      part, _, leaf = name.rpartition(".")
      holder, kept = (config[part], stored[part]) if part else (config, stored)
      holder[leaf] = ml_collections.ConfigDict(kept.pop(leaf))
    config.update(ml_collections.ConfigDict(stored))
    defaults.check_config(config)
  except RecursionError as error:
    raise ValueError("config: nested too deeply") from error
  except (ArithmeticError, ValueError, KeyError, AttributeError, TypeError) as error:
    # ml_collections writes several lines.
    raise ValueError(" ".join(str(error).split())) from error
  return config


def _with_tuples(tree: Any) -> Any:
  """Converts JSON's lists back to tuples."""
  if isinstance(tree, dict):
    return {key: _with_tuples(value) for key, value in tree.items()}
  return tuple(map(_with_tuples, tree)) if isinstance(tree, list) else tree
