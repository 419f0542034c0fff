"""Loads a trained run: network, best checkpoint and data."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from emosynth_jax.config.stored import read_config
from emosynth_jax.data import run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.training import build, run_header
from emosynth_jax.training.finite import check_finite
from emosynth_jax.training.state import TrainState
from emosynth_jax.workdir import digests, own_parts
from emosynth_jax.workdir import record as run_record
from emosynth_jax.workdir.checkpoints import CheckpointError, Checkpoints
from emosynth_jax.workdir.metric_writer import digest_of


class BestCheckpoint(NamedTuple):
  """Result of `load_best`: the run's functions, its best state and the splits."""

  experiment: build.Experiment
  state: TrainState
  datasets: dict[str, Dataset]


def load_best(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  splits: Sequence[str],
  *,
  load: Callable[[], run_data.RunData] | None = None,
) -> BestCheckpoint:
  """Reads a run's best checkpoint, and the splits to evaluate it on.

  Args:
    config: the run's.
    workdir: its folder.
    splits: of "train", "validation" and "test", at least one.
    load: loads these splits; None loads all of their images.

  Returns:
    The functions, the state and the splits.

  Raises:
    FileNotFoundError: if the folder holds no best checkpoint, or the data is missing.
    ValueError: for data that is not the run's, or parameters that are not finite.
    CheckpointError: if the checkpoints are damaged, or of another network.
  """
  workdir = pathlib.Path(workdir)
  config = own_parts.of_run(config, workdir)
  if not (workdir / "checkpoints" / "best").is_dir():
    raise FileNotFoundError(
      f"{workdir} has no best checkpoint: train for at least one epoch (--mode=train) "
      "with the same --workdir"
    )

  if load is None:
    datasets = run_data.load_data(config, tuple(splits))
    fingerprint = run_data.fingerprint(datasets)
  else:
    datasets, fingerprint = load()
  run_record.check_same_fingerprint(fingerprint, workdir)

  experiment = build.experiment_of(config, datasets[splits[0]])
  checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep, read_only=True)
  with contextlib.closing(checkpoints):
    state = checkpoints.restore("best", build.state_shapes(experiment))

  if state is None:
    raise FileNotFoundError(
      f"{checkpoints.path('best')} holds no checkpoint: no epoch was validated, or it "
      "was deleted"
    )
  check_finite(state.evaluation_variables, f"the best checkpoint of {workdir}")
  return BestCheckpoint(experiment, state, datasets)


def count_epochs(
  workdir: str | os.PathLike,
  best: BestCheckpoint,
  records: Sequence[Mapping[str, Any]],
) -> int:
  """Number of epochs that a run has finished, also where records are missing.

  The last checkpoint knows it; it is read if metrics.jsonl is not as it was then.
  Records of epochs after it are of a run that was killed and will repeat these epochs.

  Args:
    workdir: the run's folder.
    best: its best checkpoint.
    records: of `metric_writer.read_epochs`.

  Returns:
    The number.
  """
  workdir = pathlib.Path(workdir)
  known = max([int(best.state.best_epoch), *(record["epoch"] for record in records)])
  if not (workdir / "checkpoints" / "last").is_dir():
    return known

  with contextlib.closing(Checkpoints(workdir, keep=1, read_only=True)) as checkpoints:
    try:
      if checkpoints.newest_records() == digest_of(workdir / "metrics.jsonl"):
        return known
      last = checkpoints.restore("last", build.state_shapes(best.experiment))
    except CheckpointError:
      return known
  return known if last is None else max(int(best.state.best_epoch), int(last.epoch))


class Network(NamedTuple):
  """A trained network and the split that it is evaluated on."""

  config: Any
  experiment: Any
  state: Any
  dataset: Dataset

  def facts(self) -> dict[str, Any]:
    """Description of the network and its data for an analysis's record."""
    return {
      "data_set": self.config.data.name,
      "official_split": self.dataset.official_split,
      "model": self.config.model.name,
      "training_loss": self.config.loss.to_dict(),
      "training_seed": self.config.seed,
      "best_epoch": int(self.state.best_epoch),
      "variables_crc32": digests.checksum(self.state.evaluation_variables),
    }


def load_network(
  workdir: str | os.PathLike, split: str, data_dir: str | None, *, dtype: str | None
) -> Network:
  """Loads a run's best checkpoint and a split of its data.

  Args:
    workdir: the run's folder.
    split: "train", "validation" or "test".
    data_dir: data set directory, if it moved since training; else None.
    dtype: dtype of the computation; None for that of the run's training and evaluation.
      Parameters and logits are float32 in any case.

  Returns:
    The network; its config has the dtype.

  Raises:
    FileNotFoundError: if the folder holds no run, or no best checkpoint.
    ValueError: for a split that the run does not have, or data that is not the run's.
    CheckpointError: if the checkpoints are damaged, or of another network.
  """
  workdir = pathlib.Path(workdir)
  config = read_config(workdir)
  if data_dir is not None:
    config.data.data_dir = data_dir
  if split not in run_data.splits(config):
    raise ValueError(
      f"--split: {workdir} has {', '.join(run_data.splits(config))}; got {split!r}"
    )

  if dtype is not None:
    config.model.dtype = dtype
  run_header.log_reading(config, workdir, split)
  experiment, state, datasets = load_best(config, workdir, (split,))
  run_header.log_network(state, datasets)
  return Network(config, experiment, state, datasets[split])
