"""Training and loading from Python; `import emosynth_jax as ej` has these functions."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import ml_collections
import numpy as np

from emosynth_jax import evaluate, train_loop
from emosynth_jax.bundle import calibrate
from emosynth_jax.bundle.format import Bundle
from emosynth_jax.bundle.logits import SPLIT_BATCH, compile_logits
from emosynth_jax.config import defaults, recipes, renamed
from emosynth_jax.config.stored import read_config
from emosynth_jax.data import run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.utils import cli, own_code
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import metric_writer, own_parts
from emosynth_jax.workdir import record as run_record


@dataclasses.dataclass(frozen=True)
class Run:
  """A trained run.

  Attributes:
    workdir: its folder.
    config: its settings.
    history: one dictionary of metrics for each epoch.
    report: the content of report.json; None if the run was not evaluated.
  """

  workdir: pathlib.Path
  config: ml_collections.ConfigDict = dataclasses.field(repr=False)
  history: list[dict[str, Any]] = dataclasses.field(repr=False)
  report: dict[str, Any] | None = dataclasses.field(repr=False)

  @functools.cached_property
  def network(self) -> Bundle:
    """The network of the best epoch, with its variables and class names.

    The first access calibrates it on the validation split, which is read for that.
    """
    return calibrate.read_workdir(self.workdir)

  @functools.cached_property
  def _logits(self) -> Callable[[np.ndarray], np.ndarray]:
    return compile_logits(self.network, batch_size=SPLIT_BATCH)

  def logits(self, images: np.ndarray) -> np.ndarray:
    """Computes the evaluation logits of images.

    Args:
      images: uint8 `(N, height, width, channels)`, of the size of the training images.

    Returns:
      float32 `(N, K)`.
    """
    return self._logits(np.asarray(images))

  def __repr__(self) -> str:
    """Names the run and its accuracies."""
    splits = self.report["splits"] if self.report else {}
    accuracies = "".join(
      f", {name} {100 * summary['accuracy']:.2f} %" for name, summary in splits.items()
    )
    return (
      f"Run({str(self.workdir)!r}, {self.config.model.name}, {self.config.loss.name}, "
      f"{len(self.history)} epochs{accuracies})"
    )


def train(
  config: ml_collections.ConfigDict | str | os.PathLike,
  workdir: str | os.PathLike,
  *,
  loss: Callable[..., Any] | str | None = None,
  model: Callable[..., Any] | str | None = None,
  datasets: Mapping[str, Dataset] | Callable[..., Dataset] | str | None = None,
) -> Run:
  """Trains, or resumes, and evaluates: what `emosynth_jax.main` does.

  Args:
    config: a config, or a recipe or a config file with its variants, as in
      "fer2013:small" and "configs/fer2013.py:small". It is not changed.
    workdir: folder for checkpoints, metrics and report.
    loss: a function of some of `losses.INPUTS`, or a name; None for the config's.
    model: a class of `flax.linen.Module`, or a name; None for the config's.
    datasets: the splits "train", "validation" and "test"; or a loader, a function of
      `(data_dir, split)`; or a name; None for the config's. Without "validation", a
      part of "train" is held out.

  Returns:
    The run.

  Raises:
    ValueError, FileNotFoundError: for a config, data or own parts that don't fit.
    KeyboardInterrupt: after Ctrl-C, when the state is saved; the same call resumes.
  """
  cli.start_logging()
  config = _with_parts(_read(config), loss, model, datasets)
  defaults.check_config(config)
  run_record.check_same_config(config, workdir)

  load = run_data.shared_loader(own_parts.of_run(config, workdir))
  if not train_loop.train(config, workdir, load=load):
    raise KeyboardInterrupt(f"stopped; the state is in {workdir}")

  evaluate.evaluate_run(config, workdir, load=load, print_report=False)
  return load_run(workdir)


def load_run(
  workdir: str | os.PathLike,
  *,
  loss: Callable[..., Any] | None = None,
  model: Callable[..., Any] | None = None,
  datasets: Mapping[str, Dataset] | None = None,
  trust: bool = False,
) -> Run:
  """Loads a trained run.

  Args:
    workdir: its folder.
    loss: the run's own loss, if it was defined in a notebook and thus in no file.
    model: the same of its network.
    datasets: the same of its data.
    trust: whether to run the Python code in a workdir that another user trained.

  Returns:
    The run.

  Raises:
    FileNotFoundError: if the folder holds no run.
    ValueError: if its files are damaged, or hold code that is not trusted.
  """
  cli.start_logging()
  workdir = pathlib.Path(workdir)
  if trust:
    own_parts.trust_workdir(workdir)
  config = read_config(workdir)
  _with_parts(config, loss, model, datasets)
  own_parts.of_run(config, workdir)
  report = workdir / "report.json"
  return Run(
    workdir,
    config,
    metric_writer.read_epochs(workdir / "metrics.jsonl"),
    renamed.with_new_names(read_json(report)) if report.is_file() else None,
  )


def _read(config: ml_collections.ConfigDict | str | os.PathLike) -> Any:
  if isinstance(config, ml_collections.ConfigDict):
    return config
  return recipes.read(os.fspath(config))


def _with_parts(
  config: ml_collections.ConfigDict, loss: Any, model: Any, datasets: Any
) -> ml_collections.ConfigDict:
  """Returns the config with the names of own parts, which are made known."""
  config = config.copy_and_resolve_references()
  parts = {"loss.name": loss, "model.name": model, "data.name": _loader(datasets)}
  given = {setting: part for setting, part in parts.items() if part is not None}
  former = {setting: defaults.get(config, setting) for setting in given}
  with config.unlocked():
    for setting, part in given.items():
      name = part if isinstance(part, str) else own_code.name_of(part)
      room, _, leaf = setting.partition(".")
      config[room][leaf] = name
  return defaults.without_foreign_arguments(config, former)


def _loader(datasets: Any) -> Any:
  if not isinstance(datasets, Mapping):
    return datasets

  def arrays(data_dir: str, split: str) -> Dataset:
    del data_dir
    if split not in datasets:
      raise ValueError(f"datasets: the split {split!r} is missing")
    return datasets[split]

  arrays.has_validation = "validation" in datasets  # type: ignore[attr-defined]
  return arrays
