"""FerVGG and FerResNet in PyTorch, with weights of the JAX networks. Imports no JAX."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class FerVGG(nn.Module):
  """`emosynth_jax.models.FerVGG`, with sizes taken from its weights."""

  def __init__(
    self,
    variables: Mapping[str, Any],
    dropout_rate: float = 0.0,
    head: str = "flatten",
  ):
    """Builds the network, in evaluation mode.

    Args:
      variables: of the JAX network, "params" and "batch_stats".
      dropout_rate: rate after each hidden dense layer, or of the vector without any.
      head: "flatten" or "mean", see the JAX network.
    """
    super().__init__()
    self.head = head
    params, statistics = variables["params"], variables["batch_stats"]
    self.stages = nn.ModuleList()
    for i in range(1, 5):
      layers: list[nn.Module] = []
      for j in (1, 2):
        conv = _convolution(params[f"conv{i}_{j}"])
        norm = _norm(params[f"norm{i}_{j}"], statistics[f"norm{i}_{j}"])
        layers += [conv, norm, nn.ReLU()]
      self.stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
    depth = sum(name.startswith("dense") for name in params)
    self.dense = nn.ModuleList(_linear(params[f"dense{i + 1}"]) for i in range(depth))
    self.dropout = nn.Dropout(dropout_rate)
    self.logits = _linear(params["logits"])
    self.eval()

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Maps `(N, C, m, m)` to logits `(N, K)`."""
    x = images
    for stage in self.stages:
      x = stage(x)
    # The JAX network flattens channels last.
    x = x.mean((2, 3)) if self.head == "mean" else x.permute(0, 2, 3, 1).flatten(1)
    for dense in self.dense:
      x = self.dropout(F.relu(dense(x)))
    if not self.dense:
      x = self.dropout(x)
    return self.logits(x)


class FerResNet(nn.Module):
  """`emosynth_jax.models.FerResNet`, with sizes taken from its weights."""

  def __init__(self, variables: Mapping[str, Any], dropout_rate: float = 0.0):
    """Builds the network, in evaluation mode.

    Args:
      variables: of the JAX network, "params" and "batch_stats".
      dropout_rate: rate of the embedding.
    """
    super().__init__()
    params, statistics = variables["params"], variables["batch_stats"]
    self.stem = nn.Sequential(
      _convolution(params["stem_conv"], stride=2),
      _norm(params["stem_norm"], statistics["stem_norm"]),
      nn.ReLU(),
    )
    names = sorted(name for name in params if name.startswith("stage"))
    self.blocks = nn.Sequential(
      *(
        _Block(
          params[name],
          statistics[name],
          stride=2 if name in ("stage2_block1", "stage3_block1") else 1,
        )
        for name in names
      )
    )
    self.dropout = nn.Dropout(dropout_rate)
    self.logits = _linear(params["logits"])
    self.eval()

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Maps `(N, C, m, m)` to logits `(N, K)`."""
    x = self.blocks(self.stem(images)).mean((2, 3))
    return self.logits(self.dropout(x))


class _Block(nn.Module):
  """Two 3x3 convolutions and a shortcut, with BatchNorm after each convolution."""

  def __init__(
    self, params: Mapping[str, Any], statistics: Mapping[str, Any], stride: int
  ):
    super().__init__()
    self.body = nn.Sequential(
      _convolution(params["conv1"], stride=stride),
      _norm(params["norm1"], statistics["norm1"]),
      nn.ReLU(),
      _convolution(params["conv2"]),
      _norm(params["norm2"], statistics["norm2"]),
    )
    self.shortcut = nn.Sequential()
    if "shortcut_conv" in params:
      self.shortcut = nn.Sequential(
        _convolution(params["shortcut_conv"], stride=stride),
        _norm(params["shortcut_norm"], statistics["shortcut_norm"]),
      )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return F.relu(self.shortcut(x) + self.body(x))


def _array(values: Any) -> np.ndarray:
  """A copy of an array or a tensor; NumPy itself warns of tensors."""
  return np.array(values.numpy() if isinstance(values, torch.Tensor) else values)


def _tensor(values: Any) -> nn.Parameter:
  return nn.Parameter(torch.from_numpy(_array(values)))


def _convolution(layer: Mapping[str, Any], stride: int = 1) -> nn.Conv2d:
  kernel = _array(layer["kernel"])
  # A 1x1 convolution is a product in the JAX network.
  kernel = kernel if kernel.ndim == 4 else kernel[None, None]
  kernel = kernel.transpose(3, 2, 0, 1)
  side = kernel.shape[2]
  conv = nn.Conv2d(
    kernel.shape[1],
    kernel.shape[0],
    side,
    stride=stride,
    padding=side // 2,
    bias="bias" in layer,
  )
  conv.weight = _tensor(kernel)
  if "bias" in layer:
    conv.bias = _tensor(layer["bias"])
  return conv


def _norm(layer: Mapping[str, Any], statistics: Mapping[str, Any]) -> nn.BatchNorm2d:
  norm = nn.BatchNorm2d(len(layer["scale"]))  # Both have epsilon 1e-5.
  norm.weight, norm.bias = _tensor(layer["scale"]), _tensor(layer["bias"])
  norm.running_mean = torch.from_numpy(_array(statistics["mean"]))
  norm.running_var = torch.from_numpy(_array(statistics["var"]))
  return norm


def _linear(layer: Mapping[str, Any]) -> nn.Linear:
  kernel = _array(layer["kernel"]).T
  linear = nn.Linear(kernel.shape[1], kernel.shape[0])
  linear.weight, linear.bias = _tensor(kernel), _tensor(layer["bias"])
  return linear
