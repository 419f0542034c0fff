"""Training and inference of a network in PyTorch, without JAX.

Nothing here imports JAX, since the startup of a PyTorch process is timed.
"""

import os
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.torch_networks import EmoSynthNet, FerResNet, FerVGG

FORMS = ("eager", "channels_last", "compile")
_NETWORKS: dict[str, Callable[..., torch.nn.Module]] = {
  "emosynthnet": EmoSynthNet,
  "fer_resnet": FerResNet,
  "fer_vgg": FerVGG,
}


class Program(NamedTuple):
  """A network with its weights and training settings.

  Attributes:
    name: one of `cases.NETWORKS`.
    network: the arguments of the network, but its weights.
    state: the JAX network's variables, "params" and "batch_stats".
    learning_rate: of Adam, for `training`.
    scale: factor from pixels to the network's input, for `training` and `inference`.
    batch: images of a step, for `training`.
  """

  name: str
  network: dict[str, Any]
  state: dict[str, Any]
  learning_rate: float = 0.0
  scale: float = 1.0
  batch: int = 1


def build(program: Program, form: str) -> torch.nn.Module:
  """The network with the program's weights.

  Args:
    program: see above.
    form: one of `FORMS`; "compile" has the channels-last layout, too.

  Returns:
    The network.
  """
  model = _NETWORKS[program.name](program.state, **program.network)
  if form != "eager":
    model = model.to(memory_format=torch.channels_last)
  if form == "compile":
    return cast(torch.nn.Module, torch.compile(model))
  return model


def _inputs(program, images, form):
  """Converts uint8 images `(N, H, W, C)` to the network's input."""
  x = images.permute(0, 3, 1, 2)
  if form == "eager":
    x = x.contiguous()
  return x.float() * program.scale


def training(
  program: Program,
  model: torch.nn.Module,
  images: torch.Tensor,
  labels: torch.Tensor,
  form: str,
  *,
  device: str = "cpu",
  mixed: bool = False,
) -> Callable[[], None]:
  """Steps of Adam on the mean cross-entropy over all images in a random order.

  Args:
    program: see above.
    model: of `build`, on the device.
    images: uint8 `(N, H, W, C)`.
    labels: int64 `(N,)`.
    form: that of the model.
    device: where the network and all the images are.
    mixed: whether to use autocast to bfloat16.

  Returns:
    A function that takes the steps and returns when they are done.
  """
  model.train()
  optimizer = torch.optim.Adam(model.parameters(), program.learning_rate, fused=True)
  images, labels = images.to(device), labels.to(device)

  def run():
    order = torch.randperm(len(images), device=device)
    for rows in order.split(program.batch):
      optimizer.zero_grad(set_to_none=True)
      inputs = _inputs(program, images[rows], form)
      with torch.autocast(device, torch.bfloat16, enabled=mixed):
        loss = F.cross_entropy(model(inputs), labels[rows])
      loss.backward()
      optimizer.step()
    if device == "cuda":
      torch.cuda.synchronize()

  return run


def inference(
  program: Program,
  model: torch.nn.Module,
  images: torch.Tensor,
  form: str,
  calls: int,
  *,
  device: str = "cpu",
  mixed: bool = False,
) -> Callable[[], np.ndarray]:
  """Evaluation of images on the host, `calls` times; see `training`.

  Returns:
    A function that returns the logits, float32 `(N, K)`.
  """
  model.eval()

  @torch.inference_mode()
  def run():
    for _ in range(calls):
      inputs = _inputs(program, images.to(device), form)
      with torch.autocast(device, torch.bfloat16, enabled=mixed):
        logits = model(inputs)
      logits = logits.float().cpu().numpy()
    return logits

  return run


def save(
  path: str | os.PathLike, program: Program, images: torch.Tensor, labels: torch.Tensor
) -> None:
  """Writes the inputs of a process without JAX; `load` reads them."""
  torch.save({**program._asdict(), "images": images, "labels": labels}, path)


def load(path: str | os.PathLike) -> tuple[Program, torch.Tensor, torch.Tensor]:
  """Loads program, images and labels from a file of `save`."""
  content = torch.load(path)
  images, labels = content.pop("images"), content.pop("labels")
  return Program(**content), images, labels
