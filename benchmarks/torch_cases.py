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
from benchmarks.emosynthnet_torch import from_flax

FORMS = torch_programs.FORMS

# Of the logits, relative to the largest: due to the order of summation in float32.
TOLERANCE = 1e-4


def describe(case: Case) -> torch_programs.Program:
  """A case for PyTorch, with the JAX network's initial weights."""
  config = case.config()
  network, state = describe_network(
    config.model, cases.variables(case), case.image_shape, case.num_classes
  )
  return torch_programs.Program(
    name=config.model.name,
    network=network,
    state=state,
    learning_rate=float(config.optimizer.learning_rate),
    scale=float(config.input.scale),
    batch=case.batch,
  )


def describe_network(
  model: Any, variables: Any, image_shape: tuple[int, int, int], num_classes: int
) -> tuple[dict[str, Any], dict[str, Any]]:
  """A JAX network's arguments and weights, as `torch_programs.Program` has them.

  Args:
    model: the settings of a network, one of `cases.NETWORKS`, as `config.model`.
    variables: its "params" and "batch_stats".
    image_shape: `(height, width, channels)`.
    num_classes: K.

  Returns:
    "network" and "state".
  """
  network: dict[str, Any] = {"dropout_rate": float(model.dropout_rate)}
  if model.name == "emosynthnet":
    network |= {
      "side": image_shape[0],
      "channels": image_shape[2],
      "num_classes": num_classes,
      "width": float(model.width),
      "dense_features": tuple(model.dense_features),
    }
    return network, from_flax(variables, image_shape[0])
  if model.name == "fer_vgg":
    network["head"] = model.get("head", "flatten")
  return network, jax.tree.map(_tensor, variables)


def _tensor(array):
  return torch.from_numpy(np.array(array))


def _tensors(case, count):
  images = torch.from_numpy(case.images(count))
  return images, torch.from_numpy(case.labels(count)).long()


def build(case: Case, form: str) -> torch.nn.Module:
  """The network with the JAX network's initial weights.

  Args:
    case: the network and the batch.
    form: one of `FORMS`; "compile" has the channels-last layout, too.

  Returns:
    The network.
  """
  return torch_programs.build(describe(case), form)


def _on_device(case, form, device, model):
  program = describe(case)
  if model is None:
    model = torch_programs.build(program, form).to(device)
  return program, model


def training(
  case: Case,
  form: str,
  steps: int,
  *,
  device: str = "cpu",
  mixed: bool = False,
  model: torch.nn.Module | None = None,
) -> Callable[[], None]:
  """Steps of Adam on the mean cross-entropy, as `cases.training` takes them.

  Args:
    case: the network and the batch.
    form: one of `FORMS`.
    steps: number of steps per call.
    device: where the network and all the images are.
    mixed: whether to use autocast to bfloat16.
    model: the network of `build` on the device, if it is there already.

  Returns:
    A function that takes the steps and returns when they are done.
  """
  program, model = _on_device(case, form, device, model)
  images, labels = _tensors(case, steps * case.batch)
  return torch_programs.training(
    program,
    model,
    images,
    labels,
    form,
    device=device,
    mixed=mixed,
  )


def inference(
  case: Case,
  form: str,
  calls: int,
  *,
  device: str = "cpu",
  mixed: bool = False,
  model: torch.nn.Module | None = None,
) -> Callable[[], np.ndarray]:
  """Evaluation of images on the host, as `cases.inference`; see `training`."""
  program, model = _on_device(case, form, device, model)
  images, _ = _tensors(case, case.batch)
  return torch_programs.inference(
    program, model, images, form, calls, device=device, mixed=mixed
  )


def write_start(path: str | os.PathLike, case: Case) -> None:
  """Writes a one-step case for `start`, whose PyTorch process does not import JAX."""
  torch_programs.save(path, describe(case), *_tensors(case, case.batch))
