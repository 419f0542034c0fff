"""The config of each data set; the files in configs/ call these functions.

Variants, joined by commas in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small, for two CPU cores; strong, a modern training recipe, or
thesis, the recipe as printed in the thesis; the loss (ce, mse, sce, mam, mam_sce).
"""

import pathlib
import runpy
from collections.abc import Sequence

import ml_collections

from emosynth_jax.config.recipes.data_sets import (
  cifar10,
  ck_plus,
  fer2013,
  fer_plus,
  mnist,
  raf_db,
  svhn,
  synthetic_faces,
)
from emosynth_jax.utils.nearest import or_known

__all__ = [
  "cifar10",
  "ck_plus",
  "fer2013",
  "fer_plus",
  "mnist",
  "raf_db",
  "svhn",
  "synthetic_faces",
]

# The config file that makes a recipe's config by its name.
_BY_NAME = pathlib.Path(__file__).with_name("by_name.py")


def find(config: str) -> str:
  """Finds a recipe by its name, where a config file can be given.

  Args:
    config: "NAME:VARIANTS" of a recipe, as "fer2013:small", or "FILE.py:VARIANTS".

  Returns:
    The path of a config file and what follows its colon.

  Raises:
    FileNotFoundError: for a name of no recipe; the nearest ones are named.
  """
  name = config.partition(":")[0]
  is_path = name.endswith(".py") or "/" in name or pathlib.Path(name).is_file()
  if is_path:
    return config
  if name not in __all__:
    raise FileNotFoundError(
      f"--config: there is no recipe {name!r}{or_known(name, __all__)}; the name of a "
      "config file ends in .py"
    )
  return f"{_BY_NAME}:{config}"


def with_paths(argv: Sequence[str]) -> list[str]:
  """Replaces the recipe's name in a command's --config, see `find`."""
  found = list(argv)
  for i, argument in enumerate(argv):
    flag, equals, value = argument.partition("=")
    if flag in ("--config", "-config") and equals:
      found[i] = f"{flag}={find(value)}"
    elif flag in ("--config", "-config") and i + 1 < len(argv):
      found[i + 1] = find(argv[i + 1])
  return found


def read(config: str) -> ml_collections.ConfigDict:
  """Makes the config that `find` finds.

  Args:
    config: "NAME:VARIANTS" of a recipe, or "FILE.py:VARIANTS".

  Returns:
    The config.

  Raises:
    FileNotFoundError: for a name of no recipe, or a missing file.
    ValueError: for an unknown variant, or a file without `get_config`.
  """
  path, _, variants = find(config).partition(":")
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"config: the file {path} does not exist")
  get_config = runpy.run_path(path).get("get_config")
  if get_config is None:
    raise ValueError(f"config: {path} has no function get_config")
  return get_config(*([variants] if variants else []))


def typed(config_file: str) -> str:
  """Returns what the user typed for a config file that `find` found."""
  return config_file.removeprefix(f"{_BY_NAME}:")
