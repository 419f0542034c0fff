"""The benchmark cases in PyTorch: eager, channels-last, and compiled.

The initial weights are the JAX network's, so JAX creates them here; `torch_programs.py`
has the PyTorch programs.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch

from benchmarks import cases, torch_programs
from benchmarks.cases import Case
from emosynth_jax import models

FORMS = torch_programs.FORMS

# Of the logits, relative to the largest: due to the order of summation in float32.
TOLERANCE = 1e-4


# Arguments of EmoSynthNet of which PyTorch's version has the default alone.
_READINGS = ("norm_order", "side_input", "skip", "synthesis")


def describe(case: Case) -> torch_programs.Program:
  """A case for PyTorch, with the JAX network's initial weights."""
  config = case.config()
  network, state = describe_network(config.model, cases.variables(case))
  return torch_programs.Program(
    name=config.model.name,
    network=network,
    state=state,
    learning_rate=float(config.optimizer.learning_rate),
    scale=float(config.input.scale),
    batch=case.batch,
  )


def describe_network(
  model: Any, variables: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
  """A JAX network's arguments and weights, as `torch_programs.Program` has them.

  Args:
    model: the settings of a network, one of `cases.NETWORKS`, as `config.model`.
    variables: its "params" and "batch_stats".

  Returns:
    "network" and "state".

  Raises:
    ValueError: for a reading of EmoSynthNet that PyTorch's version does not have.
  """
  if model.name == "emosynthnet":
    for name in _READINGS:
      default = getattr(models.EmoSynthNet, name)
      if (reading := model.get(name, default)) != default:
        raise ValueError(f"{name}: PyTorch's version has {default!r}, not {reading!r}")
  network: dict[str, Any] = {"dropout_rate": float(model.dropout_rate)}
  if model.name == "fer_vgg":
    network["head"] = model.get("head", "flatten")
  return network, jax.tree.map(_tensor, variables)


def _tensor(array):
  return torch.from_numpy(np.array(array))


def tensors(case: Case, count: int) -> tuple[torch.Tensor, torch.Tensor]:
  """Random images and labels, as `cases.Case` has them."""
  images = torch.from_numpy(case.images(count))
  return images, torch.from_numpy(case.labels(count)).long()


def training(
  case: Case, form: str, steps: int, *, mixed: bool = False
) -> Callable[[], None]:
  """Steps of Adam on the mean cross-entropy, as `cases.training` takes them.

  Args:
    case: the network and the batch.
    form: one of `FORMS`; "compile" has the channels-last layout, too.
    steps: number of steps per call.
    mixed: whether to use autocast to bfloat16.

  Returns:
    A function that takes the steps and returns when they are done.
  """
  program = describe(case)
  model = torch_programs.build(program, form)
  images, labels = tensors(case, steps * case.batch)
  return torch_programs.training(program, model, images, labels, form, mixed=mixed)


def inference(case: Case, form: str, calls: int) -> Callable[[], np.ndarray]:
  """Evaluation of images on the host, as `cases.inference`; see `training`."""
  program = describe(case)
  model = torch_programs.build(program, form)
  images, _ = tensors(case, case.batch)
  return torch_programs.inference(program, model, images, form, calls)


def write_start(path: str | os.PathLike, case: Case) -> None:
  """Writes a one-step case for `start`, whose PyTorch process does not import JAX."""
  torch_programs.save(path, describe(case), *tensors(case, case.batch))
