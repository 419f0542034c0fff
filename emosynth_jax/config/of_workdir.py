"""The config file of a trained run: `--config=of_workdir.py:WORKDIR`."""

import os
import pathlib

import ml_collections

from emosynth_jax.config import stored


def find_run(workdir: str | os.PathLike) -> pathlib.Path:
  """Returns the folder of a run; that of the first one in a folder of several seeds."""
  folder = pathlib.Path(workdir)
  seeds = sorted(folder.glob("seed*/config.json"))
  is_run = (folder / "config.json").is_file() or not seeds
  return folder if is_run else seeds[0].parent


def get_config(workdir: str) -> ml_collections.ConfigDict:
  """Reads the config of a run, or of the first of several seeds."""
  return stored.read_config(find_run(workdir))
