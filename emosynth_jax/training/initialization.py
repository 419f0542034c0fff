"""Fine-tuning: initialization from another run's best checkpoint or from a file."""

import contextlib
import inspect
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from emosynth_jax import models
from emosynth_jax.config import renamed
from emosynth_jax.data import class_names as spellings
from emosynth_jax.data import fingerprints
from emosynth_jax.models import from_torch, normalized_inputs
from emosynth_jax.training import build
from emosynth_jax.training.finite import check_finite
from emosynth_jax.training.programs import Programs
from emosynth_jax.training.state import TrainState, copy_for_ema
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir.checkpoints import CheckpointError, Checkpoints

_LAST_LAYER = "logits"  # See models.build_model.
# Settings of a network that may differ: they affect training, not the architecture.
_TRAINING_ONLY = ("dropout_rate", "norm_momentum", "dtype")


def init_from(
  workdir: str | os.PathLike,
  state: TrainState,
  *,
  class_names: tuple[str, ...],
  model: Mapping[str, Any],
  pixel_forms: Mapping[str, int] | None = None,
) -> TrainState:
  """Transfers parameters and batch statistics from a trained run.

  In the last layer the columns of the classes that both runs have, matched by name (see
  `class_names.matches`), are transferred; those of other classes keep their
  initialization. The optimizer state is reset, and averages of the variables start from
  the transferred values.

  Args:
    workdir: the folder of the trained run.
    state: the new run's state before its first step.
    class_names: the new run's K classes, in label order.
    model: the new run's `config.model`.
    pixel_forms: the new run's training images of each form; a warning is logged if most
      are of another form than the trained run's.

  Returns:
    The state to start from.

  Raises:
    FileNotFoundError: the folder holds no trained run.
    ValueError: its network differs; the first differing layer or setting is named.
    CheckpointError: all its best checkpoints are damaged.
  """
  workdir = pathlib.Path(workdir)
  old_data, old_model = _read_run(workdir)
  old_names = old_data["train"]["class_names"]
  fingerprints.warn_of_other_form(
    fingerprints.form_counts(old_data).get("train"), pixel_forms, "fine-tuned on"
  )
  with contextlib.closing(Checkpoints(workdir, keep=1, read_only=True)) as checkpoints:
    variables = checkpoints.restore_variables()

  if variables is None:
    raise FileNotFoundError(
      f"config.init_from: {workdir} has no best checkpoint; train it for at least one "
      "epoch"
    )

  new = {"params": state.params, "batch_stats": state.batch_stats}
  old = variables._asdict()
  check_finite(old, f"config.init_from: the best checkpoint of {workdir}")
  _check_same_network(workdir, _flatten(old), _flatten(new), old_model, model)
  params = dict(old["params"])
  for names, layers in ((old_names, old["params"]), (class_names, state.params)):
    columns = layers[_LAST_LAYER]["kernel"].shape[-1]
    if columns != len(names):
      raise ValueError(
        f"config.init_from: the last layer has {columns} columns for {len(names)} "
        "classes (a sub-center loss): columns cannot be matched by class; use another "
        "loss in one of the runs, or random initialization"
      )

  matches = spellings.matches(class_names, old_names)
  to = np.array([*matches], int)
  of = np.array([*matches.values()], int)
  params[_LAST_LAYER] = jax.tree.map(
    lambda x, y: jnp.asarray(x).at[..., to].set(jnp.asarray(y)[..., of]),
    state.params[_LAST_LAYER],
    params[_LAST_LAYER],
  )
  taken = [
    class_names[i]
    + (f" (from {old_names[k]})" if class_names[i] != old_names[k] else "")
    for i, k in matches.items()
  ]
  fresh = [name for i, name in enumerate(class_names) if i not in matches]
  unused = [name for k, name in enumerate(old_names) if k not in matches.values()]
  logging.info(
    "Initialized from the best checkpoint of %s. Classes transferred: %s; new: %s; "
    "unused: %s.",
    workdir,
    ", ".join(taken) or "none",
    ", ".join(fresh) or "none",
    ", ".join(unused) or "none",
  )
  ema = None if state.ema is None else copy_for_ema(params, old["batch_stats"])
  return state.replace(params=params, batch_stats=old["batch_stats"], ema=ema)


def start_from_file(
  path: str | os.PathLike,
  state: TrainState,
  *,
  model: nn.Module,
  keep: Sequence[str] = (),
) -> TrainState:
  """Loads parameters and batch statistics from a file of torch weights.

  Args:
    path: as `from_torch.load_pretrained` takes it.
    state: the run's state before its first step.
    model: the network, with or without input normalization.
    keep: layers that keep their initialization.

  Returns:
    The state to start from.

  Raises:
    FileNotFoundError, ImportError, ValueError: as `from_torch.load_pretrained`.
  """
  network = model.network if isinstance(model, normalized_inputs.WRAPPERS) else model
  converted = from_torch.load_pretrained(
    pathlib.Path(path), network, state.variables, keep=keep
  )
  check_finite(converted.variables, f"config.pretrained.file: {path}")
  params = jax.tree.map(jnp.asarray, converted.variables["params"])
  batch_stats = jax.tree.map(jnp.asarray, converted.variables.get("batch_stats", {}))
  logging.info(
    "Initialized from %s. Randomly initialized: %s; unused in the file: %s.",
    path,
    ", ".join(converted.kept) or "no layer",
    ", ".join(converted.unused) or "nothing",
  )

  if not isinstance(model, normalized_inputs.NormalizedInputs):
    logging.warning(
      "config.input.mean is not set: published weights expect normalized images; see "
      "docs/reference/models.md."
    )

  ema = None if state.ema is None else copy_for_ema(params, batch_stats)
  return state.replace(params=params, batch_stats=batch_stats, ema=ema)


def _read_run(workdir: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
  """The data's fingerprint and `config.model` of a trained run."""
  contents = []
  for name, fields in (
    ("data.json", {"train": {"class_names": [str]}}),
    ("config.json", {"model": {"name": str}}),
  ):
    path = workdir / name
    if not path.is_file():
      raise FileNotFoundError(
        f"config.init_from: expected the workdir of a trained run, but {path} is "
        "missing"
      )
    try:
      contents.append(renamed.with_new_names(read_json(path, fields)))
    except ValueError as error:
      raise ValueError(f"config.init_from: {error}") from error
  data, config = contents
  return data, config["model"]


def _check_same_network(
  workdir: pathlib.Path,
  old: Mapping[str, Any],
  new: Mapping[str, Any],
  old_model: Mapping[str, Any],
  new_model: Mapping[str, Any],
) -> None:
  """Checks that the networks match, by layers and by settings."""
  different = []
  for path in [*new, *(path for path in old if path not in new)]:
    shapes = [
      _shape(tree[path], is_last=path.startswith(f"params/{_LAST_LAYER}/"))
      if path in tree
      else "absent"
      for tree in (old, new)
    ]
    if shapes[0] != shapes[1]:
      different.append(f"{path} is {shapes[0]} there and {shapes[1]} here")

  if len(different) > 1:
    different[1:] = [f"{len(different) - 1} more arrays differ"]
  there, here = (_with_defaults(model) for model in (old_model, new_model))
  different += [
    f"model.{key} is {there.get(key)!r} there and {here.get(key)!r} here"
    for key in sorted(there.keys() | here.keys())
    if key not in _TRAINING_ONLY and there.get(key) != here.get(key)
  ]
  if different:
    raise ValueError(
      f"config.init_from: network mismatch with {workdir}: {'; '.join(different)}. "
      "Use the same config.model and images of the same size and channels"
    )


def _with_defaults(model: Mapping[str, Any]) -> dict[str, Any]:
  """A network's settings as JSON has them, a library network's defaults included."""
  name = model["name"]
  known = models.defaults_of(name) if name in models.MODELS else {}
  known = {k: v for k, v in known.items() if v is not inspect.Parameter.empty}
  return json.loads(json.dumps({**known, **model}, default=str))


def _shape(array: Any, *, is_last: bool) -> str:
  # The number of classes may differ.
  shape = [*map(str, array.shape[:-1]), "K"] if is_last else map(str, array.shape)
  return f"({', '.join(shape)})"


def _flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
  return flax.traverse_util.flatten_dict(dict(tree), sep="/")


def _check_best(
  state: TrainState, shapes: TrainState, checkpoints: Checkpoints, steps_per_epoch: int
) -> None:
  """Checks that the run's best checkpoint is there, before anything is trained."""
  if not int(state.best_epoch):
    return
  step = int(state.best_epoch) * steps_per_epoch
  try:
    best = checkpoints.restore("best", shapes)
  except CheckpointError:
    best = None
  if best is not None and int(best.step) == step:
    return
  if step == int(state.step):  # The last one is the best one.
    checkpoints.save("best", state)
    return
  raise CheckpointError(
    f"{checkpoints.path('best')} lacks a sound best checkpoint, of epoch "
    f"{int(state.best_epoch)} (step {step}): restore it from a copy, or train in "
    "another --workdir"
  )


def restore_or_create(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  programs: Programs,
  checkpoints: Checkpoints,
) -> TrainState:
  """Restores the last checkpoint, or creates the state of a run's first step.

  Best checkpoints of later steps are removed.

  Args:
    config: the run's.
    workdir: its folder, for the log.
    programs: the run's experiment, data and number of steps.
    checkpoints: of the folder.

  Returns:
    The state to start from.

  Raises:
    CheckpointError: if the last checkpoints are damaged, or the best one is.
  """
  experiment, training = programs.experiment, programs.data.datasets["train"]
  shapes = build.state_shapes(experiment)
  state = checkpoints.restore("last", shapes)
  if state is not None:
    steps_per_epoch = programs.steps_per_epoch
    # A run that was stopped before an epoch's validation comes to its best one again.
    is_validated = int(state.step) < (int(state.epoch) + 1) * steps_per_epoch
    checkpoints.rewind(int(state.step) if is_validated else int(state.step) - 1)
    _check_best(state, shapes, checkpoints, steps_per_epoch)
    logging.info("Resuming from step %d in %s.", state.step, workdir)
    return state
  checkpoints.rewind(0)

  state = build.create_state(experiment, config.seed)
  if config.init_from:
    state = init_from(
      config.init_from,
      state,
      class_names=training.class_names,
      model=config.model.to_dict(),
      pixel_forms=training.form_counts,
    )

  if config.pretrained.file:
    state = start_from_file(
      config.pretrained.file, state, model=experiment.model, keep=config.pretrained.keep
    )

  return state
