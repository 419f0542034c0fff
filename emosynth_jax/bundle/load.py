"""Reads a network from a bundle or from a run's workdir."""

import os
import pathlib

from emosynth_jax.bundle import calibrate
from emosynth_jax.bundle.format import Bundle, read_bundle

# The pretrained model that is included in the package.
PRETRAINED = (
  pathlib.Path(__file__).parents[1] / "pretrained" / "fer2013_small.safetensors"
)


def read_network(source: str | os.PathLike, *, data_dir: str | None = None) -> Bundle:
  """Loads a network from a bundle file or a run's workdir.

  Args:
    source: a .safetensors file of `bundle.write_bundle`, or a folder.
    data_dir: data set directory of a run that is not calibrated yet, if it moved.

  Returns:
    The network.

  Raises:
    FileNotFoundError: if it is neither, or see `calibrate.read_workdir`.
    ValueError: as `bundle.read_bundle` or `calibrate.read_workdir`.
    CheckpointError: if the run's checkpoints are damaged.
  """
  if pathlib.Path(source).is_dir():
    return calibrate.read_workdir(source, data_dir=data_dir)
  if pathlib.Path(source).suffix == ".safetensors":
    return read_bundle(source)
  raise FileNotFoundError(
    "expected the folder of a trained run or a .safetensors bundle, got "
    f"{str(source)!r}"
  )
