"""FerVGG in PyTorch, with weights of the JAX network. Imports no JAX."""

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


def _tensor(array: Any) -> nn.Parameter:
  return nn.Parameter(torch.from_numpy(np.array(array)))


def _convolution(layer: Mapping[str, Any]) -> nn.Conv2d:
  kernel = np.asarray(layer["kernel"]).transpose(3, 2, 0, 1)
  conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding="same")
  conv.weight, conv.bias = _tensor(kernel), _tensor(layer["bias"])
  return conv


def _norm(layer: Mapping[str, Any], statistics: Mapping[str, Any]) -> nn.BatchNorm2d:
  norm = nn.BatchNorm2d(len(layer["scale"]))  # Both have epsilon 1e-5.
  norm.weight, norm.bias = _tensor(layer["scale"]), _tensor(layer["bias"])
  norm.running_mean = torch.from_numpy(np.array(statistics["mean"]))
  norm.running_var = torch.from_numpy(np.array(statistics["var"]))
  return norm


def _linear(layer: Mapping[str, Any]) -> nn.Linear:
  kernel = np.asarray(layer["kernel"]).T
  linear = nn.Linear(kernel.shape[1], kernel.shape[0])
  linear.weight, linear.bias = _tensor(kernel), _tensor(layer["bias"])
  return linear
