"""Reads a network from a bundle or from a run's workdir."""

import os

from emosynth_jax import pretrained
from emosynth_jax.bundle import calibrate
from emosynth_jax.bundle.format import Bundle, read_bundle
from emosynth_jax.data import run_data


def read_network(
  source: str | os.PathLike | None = None, *, data_dir: str | None = None
) -> Bundle:
  """Loads an included network, or one from a bundle file or a run's workdir.

  Args:
    source: a .safetensors file of `bundle.write_bundle`, a folder, or the name of an
      included network (`pretrained.NETWORKS`); None for `pretrained.DEFAULT`.
    data_dir: data set directory, if it moved since training; a run that is not
      calibrated yet needs it.

  Returns:
    The network.

  Raises:
    FileNotFoundError: if it is none of these, or see `calibrate.read_workdir`.
    ValueError: as `bundle.read_bundle` or `calibrate.read_workdir`.
    CheckpointError: if the run's checkpoints are damaged.
  """
  path = pretrained.find(source)
  if path.is_dir():
    return calibrate.read_workdir(path, data_dir=data_dir)
  if path.suffix == ".safetensors":
    network = read_bundle(path)
    # Its images can be read anywhere; its soft labels may be elsewhere.
    network = network._replace(config=run_data.for_images(network.config))
    if data_dir is not None:
      network.config.data.data_dir = data_dir
    return network
  raise FileNotFoundError(
    "expected the folder of a trained run, a .safetensors bundle or an included "
    f"network ({', '.join(pretrained.NETWORKS)}), got {str(source)!r}"
  )
