"""The first lines of a training: what is trained, on what and where."""

import os
import pathlib
from collections.abc import Mapping

import jax
import ml_collections
from absl import logging
from clu import parameter_overview

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.parallel import cpu_devices, distributed
from emosynth_jax.training import build
from emosynth_jax.training.programs import Programs
from emosynth_jax.training.state import TrainState
from emosynth_jax.utils import log_file


def log_start(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, mesh: jax.sharding.Mesh
) -> None:
  """Logs what is known before the data is read."""
  logging.info("network: %s, %s", config.model.name, config.model.dtype)
  logging.info("loss: %s, seed %d", config.loss.name, config.seed)
  logging.info("device: %s", describe_devices(list(mesh.devices.flat)))
  logging.info("workdir: %s (log in %s)", workdir, log_file.NAME)
  logging.info("data: %s%s", config.data.name, _where(config, ", data directory %s"))


def log_run(config: ml_collections.ConfigDict, run: Programs) -> None:
  """Logs the sizes of network, data and training.

  The table of all parameters is for log.txt; the screen has their number.
  """
  params = build.state_shapes(run.experiment).params
  logging.info("parameters: %s", f"{parameter_overview.count_parameters(params):,}")
  logging.get_absl_logger().info(
    "parameters by name:\n%s",
    parameter_overview.get_parameter_overview(params, include_stats=False),
    extra={"file_only": True},
  )
  logging.info("data: %s", describe_splits(run.data.datasets))
  total = config.num_epochs * run.steps_per_epoch
  logging.info(
    "steps: %s (epochs: %d, of %s steps), batch size %d",
    f"{total:,}",
    config.num_epochs,
    f"{run.steps_per_epoch:,}",
    config.batch_size,
  )


def log_reading(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, split: str
) -> None:
  """Logs which trained run an analysis reads, before it does."""
  logging.info(
    "run: %s, %s trained with %s", workdir, config.model.name, config.loss.name
  )
  logging.info("device: %s", describe_devices(jax.devices()))
  logging.info(
    "data: reading %s of %s%s", split, config.data.name, _where(config, " from %s")
  )


def _where(config: ml_collections.ConfigDict, text: str) -> str:
  """The data directory, which generated data sets do not need."""
  folder = config.data.data_dir
  return text % folder if os.path.exists(folder) else ""


def log_network(state: TrainState, datasets: Mapping[str, Dataset]) -> None:
  """Logs the sizes of a trained network and of what it is evaluated on."""
  number = sum(x.size for x in jax.tree.leaves(state.params))
  logging.info(
    "parameters: %s, of epoch %d; data: %s",
    f"{number:,}",
    state.best_epoch,
    describe_splits(datasets),
  )


def describe_splits(datasets: Mapping[str, Dataset]) -> str:
  """Sizes of the splits, as "train 28,709 (Training), test 3,589 images of ..."."""
  sizes = [
    f"{name} {len(dataset.labels):,}"
    + (f" ({dataset.official_split})" if dataset.official_split else "")
    for name, dataset in datasets.items()
  ]
  first = next(iter(datasets.values()))
  shape = "x".join(map(str, first.images.shape[1:]))
  return f"{', '.join(sizes)}; {shape}, {len(first.class_names)} classes"


def describe_devices(devices: list) -> str:
  """The devices of a run, as "1 cpu (2 cores)" or "8 NVIDIA H200"."""
  first = devices[0]
  kind = first.device_kind if first.platform != "cpu" else "cpu"
  text = f"{len(devices)} {kind}"
  if first.platform == "cpu":
    cores = cpu_devices.cpu_cores()
    text += f" ({cores} core{'s' if cores > 1 else ''})"
  if (processes := jax.process_count()) > 1:
    text += f", process {jax.process_index()} of {processes}"
  return text if distributed.is_first() else f"{text}, which writes nothing"
