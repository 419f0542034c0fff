"""Pretrained models that are included in the package, by name."""

import os
import pathlib

_FOLDER = pathlib.Path(__file__).parent

NETWORKS = {
  "ferplus": _FOLDER / "fer_plus_small.safetensors",
  "fer2013": _FOLDER / "fer2013_small.safetensors",
}
DEFAULT = "ferplus"


def find(source: str | os.PathLike | None) -> pathlib.Path:
  """The path of a network.

  Args:
    source: a name of `NETWORKS`, or a path; None for the default network. A folder
      with the name of a network is written as "./fer2013".

  Returns:
    The path, which need not exist.
  """
  if source is None or isinstance(source, str):
    name = source or DEFAULT
    return NETWORKS.get(name, pathlib.Path(name))
  return pathlib.Path(source)
