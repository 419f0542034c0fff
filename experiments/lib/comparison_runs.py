"""One run of a comparison table, as a group of `engines.run_groups`."""

import io
import pathlib
import tarfile
import tempfile
from typing import Any, NamedTuple

import ml_collections
from absl import logging

from emosynth_jax import evaluate
from emosynth_jax.data import run_data
from emosynth_jax.training import seeds as training_seeds
from emosynth_jax.utils import files
from experiments.lib.comparison_rows import Row, build_config, run_folder
from experiments.lib.trainer import train_to_end


class Run(NamedTuple):
  """A row's training with one seed.

  Attributes:
    row: of the table.
    seed: of the training.
    scale: as `build_config` takes it.
    data_dir: likewise.
    workdir: holds the runs.
    is_begun: whether the driver's folder of the run has a training.
    token: name of a file in the driver's workdir, by which a worker sees whether the
      workdir is shared with it; "" in the driver.
  """

  row: Row
  seed: int
  scale: str
  data_dir: str | None
  workdir: pathlib.Path
  is_begun: bool = False
  token: str = ""

  @property
  def name(self) -> str:
    """Its name in messages: that of its folder."""
    return self.folder().name

  def build_config(self) -> ml_collections.ConfigDict:
    """Builds its config."""
    return build_config(self.row, self.seed, self.scale, self.data_dir)

  def folder(self, workdir: pathlib.Path | None = None) -> pathlib.Path:
    """Its folder, by default in its own workdir."""
    return run_folder(workdir or self.workdir, self.row, self.seed)

  def finished_report(self) -> dict[str, Any] | None:
    """Its report, None if it is not finished."""
    return training_seeds.finished_report(self.build_config(), self.folder())


def train(run: Run) -> tuple[dict[str, Any], bytes]:
  """Trains and evaluates a run, in its folder if this machine has the workdir.

  Args:
    run: to train; resumed from its last checkpoint.

  Returns:
    The report, and the archive of the folder, for `unpack`, if the driver does not
    share it, else b"".

  Raises:
    SystemExit: if a signal interrupted it.
    ValueError: if the run was begun in a folder that is not on this machine.
  """
  if not run.token or (run.workdir / run.token).exists():
    return _train_in(run, run.folder()), b""
  if run.is_begun:
    raise ValueError(
      f"this machine does not have {run.folder()}, in which the run was begun: use a "
      "--workdir that all machines share, or delete that folder"
    )
  with tempfile.TemporaryDirectory() as scratch:
    folder = run.folder(pathlib.Path(scratch))
    report = _train_in(run, folder)
    return report, _pack(folder)


def _train_in(run: Run, folder: pathlib.Path) -> dict[str, Any]:
  logging.info("%s, seed %d, in %s.", run.row.label, run.seed, folder)
  config = run.build_config()
  load = run_data.shared_loader(config)
  train_to_end(config, folder, load=load)
  return files.to_jsonable(evaluate.evaluate_run(config, folder, load=load), "report")


def _pack(folder: pathlib.Path) -> bytes:
  content = io.BytesIO()
  with tarfile.open(fileobj=content, mode="w") as archive:
    archive.add(folder, arcname=".")
  return content.getvalue()


def unpack(archive: bytes, folder: pathlib.Path) -> None:
  """Writes the folder of a run that a worker trained; all of it or nothing.

  Args:
    archive: of `train`.
    folder: does not exist.
  """
  folder.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    dir=folder.parent, prefix=f".{folder.name}-"
  ) as partial:
    whole = pathlib.Path(partial) / folder.name
    with tarfile.open(fileobj=io.BytesIO(archive)) as content:
      content.extractall(whole, filter="data")
    whole.rename(folder)
