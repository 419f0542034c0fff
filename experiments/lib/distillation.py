"""Distillation from out-of-fold teachers, and averaged labels of near-duplicates.

A teacher that was trained on an image has memorized its label. Here each image's
teacher was trained without it and without its near-duplicates, which share its fold.

References:
  Hinton, Vinyals and Dean (2015), "Distilling the Knowledge in a Neural Network",
  arXiv:1503.02531; out-of-fold predictions as in Wolpert (1992), "Stacked
  Generalization", Neural Networks 5.
"""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
import scipy.special
from absl import logging

from emosynth_jax.config import defaults, variants
from emosynth_jax.data import deduplicate, image_values
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import folds
from emosynth_jax.parallel.mesh import build_placement
from emosynth_jax.training import build, eval_step
from emosynth_jax.training.restore import load_best
from emosynth_jax.utils import cli, npz

# Files and folders of a distillation.
FOLDS, SOFT_LABELS, STUDENT = "folds.npz", "soft_labels.npz", "student"

# The teachers' logits in the file of soft labels, and where they were from.
LOGITS = "teacher_logits"
FILE, NO_FILE = "a file", "no file"


def teacher_config(
  config: ml_collections.ConfigDict,
  changes: Sequence[str],
  folds_file: pathlib.Path,
  fold: int,
) -> ml_collections.ConfigDict:
  """The config of a teacher.

  Args:
    config: the student's.
    changes: settings of the teachers, as "model.width=0.25". With another network or
      loss, as "model.name=resnet50", the arguments of the student's are not the
      teachers'.
    folds_file: see `image_values.without_fold`.
    fold: the fold that it is not trained on.

  Returns:
    A checked config. Teachers have different seeds, and the test split is not read.

  Raises:
    ValueError: for a change that is no setting, has no such value, or is of the seed or
      the data.
  """
  teacher = config.copy_and_resolve_references()
  teacher.seed = config.seed + fold
  known = defaults.flatten(teacher.to_dict())
  changed = {}
  for change in changes:
    path, equals, text = change.partition("=")
    part, _, name = path.rpartition(".")
    if not equals or not (path in known or (part in defaults.OPEN_PARTS and name)):
      raise ValueError(
        f"--teacher: expected SETTING=VALUE such as model.width=0.25, got {change!r}"
      )
    if path == "seed" or path.startswith("data."):
      raise ValueError(
        f"--teacher: {path} cannot be changed; teachers have seeds of their own and "
        "the student's data"
      )
    changed[path] = cli.parse_value(text)
    # Arguments of a network or loss, which may be 2 or 2.5, are checked with it.
    is_argument = part in defaults.OPEN_PARTS
    types = teacher.ignore_type() if is_argument else contextlib.nullcontext()
    try:
      with teacher.unlocked(), types:
        teacher.update_from_flattened_dict({path: changed[path]})
    except TypeError:
      kind = type(known[path]).__name__
      raise ValueError(
        f"--teacher: expected {path} of type {kind}, got {text!r}"
      ) from None

  former = {path: known.get(path) for path in changed}
  teacher = defaults.without_foreign_arguments(teacher, former)
  left_out = {"file": str(folds_file), "left_out": fold}
  variants.update(teacher, {"data": {"folds": left_out, "test_split": ""}})
  defaults.check_config(teacher)
  build.check_parts(teacher)
  return teacher


def read_or_choose_folds(
  training: Dataset,
  num_folds: int,
  workdir: pathlib.Path,
  *,
  thresholds: Mapping[str, Any],
) -> dict[str, np.ndarray]:
  """The near-duplicates and the folds of a training split, chosen at the first call.

  Args:
    training: the split.
    num_folds: F; 0 for near-duplicates alone.
    workdir: the folder in which the folds are kept.
    thresholds: `config.data.near_duplicates`.

  Returns:
    "duplicates", the group of each image, and with folds "folds", 0 to F-1: int `(N,)`.

  Raises:
    ValueError: if the folder has those of other images or of another number.
  """
  path = workdir / FOLDS
  if path.exists():
    found = npz.read_npz(path)
    if found["sources"].tolist() != list(training.sources) or num_folds != int(
      found["num_folds"]
    ):
      raise ValueError(
        f"{path} is of other training images or of another number of folds; use "
        "another --workdir"
      )
    return found

  logging.info("Searching the training split for near-duplicates.")
  (groups,) = deduplicate.duplicate_groups([training], **thresholds)
  values = {"duplicates": groups}
  if num_folds:
    values[image_values.FOLDS] = folds.stratified_group_folds(
      training.labels, groups, num_folds
    )
  image_values.write_values(
    path, training, values | {"num_folds": np.asarray(num_folds)}
  )
  return values


def check_mixture(path: pathlib.Path, mixture: Mapping[str, Any]) -> None:
  """Checks that soft labels that are there were mixed as they would be now.

  Args:
    path: of `write_soft_labels`; it need not exist.
    mixture: name to value, of all that decides how labels and teachers are mixed.

  Raises:
    ValueError: if they were mixed otherwise.
  """
  if not path.exists():
    return
  # A file from before there were views, or --logits, says nothing of them.
  former = {"views": np.asarray("none"), "logits": np.asarray(NO_FILE)}
  found = former | npz.read_npz(path)
  for name, value in mixture.items():
    if name in found and found[name] != value:
      raise ValueError(
        f"{path} was made with --{name}={_short(found[name].item())}, now "
        f"{_short(value)}, and a student may have learned it; use another --workdir"
      )


def _short(value: Any) -> str:
  return f"{value:g}" if isinstance(value, float) else str(value)


def write_soft_labels(
  path: pathlib.Path,
  training: Dataset,
  logits: np.ndarray,
  *,
  duplicates: np.ndarray | None,
  mixture: Mapping[str, Any],
) -> None:
  """Writes what a student learns, as `config.data.soft_labels` reads it.

  Args:
    path: the file.
    training: the training split.
    logits: `(N, K)`, of the teachers that have not seen the images, which are written,
      too; without teachers any, of weight 0.
    duplicates: the group of near-duplicates of each image, which get the mean of their
      labels; None for each image's own label.
    mixture: "folds", the number of teachers, their "weight" and "temperature", see
      `blend`, and what else `check_mixture` is to know.

  Raises:
    ValueError: if the file is there with other logits.
  """
  former = npz.read_npz(path).get(LOGITS) if path.exists() else None
  if former is not None and not np.allclose(former, logits, atol=1e-3):
    raise ValueError(
      f"{path} has other logits of teachers, and a student may have learned them; use "
      "another --workdir"
    )

  size = len(training.class_names)
  labels = (
    np.eye(size)[training.labels]
    if duplicates is None
    else average_labels(training.labels, duplicates, size)
  )
  weight, temperature = mixture["weight"], mixture["temperature"]
  soft = blend(labels, logits, weight=weight, temperature=temperature)
  values = {name: np.asarray(value) for name, value in mixture.items()}
  values |= {image_values.SOFT_LABELS: soft}
  if mixture["folds"]:
    values |= {LOGITS: logits}
  image_values.write_values(path, training, values)


def average_labels(
  labels: np.ndarray, groups: np.ndarray, num_classes: int
) -> np.ndarray:
  """Class probabilities of images, equal for near-duplicates.

  Args:
    labels: int `(N,)`.
    groups: int `(N,)`, the group of near-duplicates of each image.
    num_classes: K.

  Returns:
    float64 `(N, K)`: the share of each label in the image's group.
  """
  _, rows = np.unique(groups, return_inverse=True)
  counts = np.zeros((rows.max() + 1, num_classes))
  np.add.at(counts, (rows, labels), 1)
  return (counts / counts.sum(axis=1, keepdims=True))[rows]


def left_out_logits(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  dataset: Dataset,
  *,
  views: str = "none",
) -> np.ndarray:
  """A teacher's logits of the images that it was not trained on.

  Args:
    config: the teacher's.
    workdir: its workdir.
    dataset: M training images.
    views: a value that `config.eval_augment` takes; its probabilities are averaged over
      these views.

  Returns:
    float32 `(M, K)`.
  """
  placement = build_placement()
  experiment, state, _ = load_best(config, workdir, ("validation",))
  return eval_step.compute_logits(
    *(experiment, placement.put(state, placement.state(state)), dataset),
    batch_size=config.eval_batch_size,
    placement=placement,
    augment=views,
  )


def read_origin(path: str) -> dict[str, Any]:
  """Reads which teachers a file of soft labels is of.

  Args:
    path: of `write_soft_labels`.

  Returns:
    "folds", their number, and "views".

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is damaged, or has no logits of teachers.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"--logits: no file {path}")
  found = npz.read_npz(path)
  if LOGITS not in found:
    raise ValueError(
      f"--logits: {path} has no {LOGITS}: it is of no distillation with teachers, or "
      "older than this flag; rerun that distillation's command, which does not train "
      "finished teachers again"
    )
  return {name: found[name].item() for name in ("folds", "views")}


def read_logits(path: str, training: Dataset) -> np.ndarray:
  """Reads the teachers' logits that another distillation wrote with its soft labels.

  Args:
    path: of `write_soft_labels`.
    training: the training split, or some of its images.

  Returns:
    float32 `(N, K)`.

  Raises:
    ValueError: if the file is not of these images.
  """
  logits = image_values.read_values(training, path, LOGITS, "--logits")
  expected = (len(training), len(training.class_names))
  if logits.shape != expected or not np.all(np.isfinite(logits)):
    raise ValueError(
      f"--logits: expected finite {LOGITS} of shape {expected}, got {logits.shape} in "
      f"{path}"
    )
  return logits.astype(np.float32)


def blend(
  labels: np.ndarray, logits: np.ndarray, *, weight: float, temperature: float
) -> np.ndarray:
  """The probabilities that the student learns.

  Args:
    labels: `(N, K)`, probabilities of the labels.
    logits: `(N, K)`, of the teachers.
    weight: of the teachers, in [0, 1].
    temperature: by which the teachers' logits are divided.

  Returns:
    float32 `(N, K)`: `(1 - weight) labels + weight softmax(logits / temperature)`.
  """
  taught = scipy.special.softmax(logits.astype(np.float64) / temperature, axis=1)
  return ((1 - weight) * labels + weight * taught).astype(np.float32)
