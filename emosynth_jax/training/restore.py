"""A trained run as evaluation and analysis take it: network, best checkpoint, data."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import ml_collections

from emosynth_jax import experiment as experiments
from emosynth_jax import run_config
from emosynth_jax.checkpoints import Checkpoints
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.train_state import TrainState


class BestCheckpoint(NamedTuple):
  """What `load_best` reads: the run's functions, its best state and the splits."""

  experiment: experiments.Experiment
  state: TrainState
  datasets: dict[str, Dataset]


def load_best(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  splits: Sequence[str],
  *,
  read: Callable[[Dataset], Dataset] | None = None,
) -> BestCheckpoint:
  """Reads a run's best checkpoint, and the splits to look at it on.

  Args:
    config: the run's.
    workdir: its folder.
    splits: of "train", "validation" and "test", at least one.
    read: reads those images that are needed, see `feeds.fetch`; None reads all.

  Returns:
    The three.

  Raises:
    FileNotFoundError: if the folder holds no best checkpoint, or the data is missing.
    ValueError: for data that is not the run's.
    CheckpointError: if the checkpoints are damaged, or of another network.
  """
  workdir = pathlib.Path(workdir)
  if not (workdir / "checkpoints" / "best").is_dir():
    raise FileNotFoundError(
      f"{workdir} holds no best checkpoint: train for an epoch at least "
      "(--mode=train) with the same --workdir"
    )
  datasets = experiments.load_data(config, tuple(splits), lazily=read is not None)
  if read is not None:
    datasets = {name: read(dataset) for name, dataset in datasets.items()}
  run_config.check_same_data(datasets, workdir)
  first = datasets[splits[0]]
  experiment = experiments.build_experiment(
    config,
    image_shape=first.images.shape[1:],
    num_classes=len(first.class_names),
  )
  checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep, read_only=True)
  try:
    state = checkpoints.restore("best", experiments.state_shapes(experiment))
  finally:
    checkpoints.close()
  if state is None:
    raise FileNotFoundError(
      f"{workdir}: no epoch was finished, so there is no best checkpoint"
    )
  return BestCheckpoint(experiment, state, datasets)
