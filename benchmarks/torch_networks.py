"""The benchmarked networks in PyTorch, with weights of the JAX ones. Imports no JAX.

Sizes are taken from the weights. Of EmoSynthNet only the default readings are here.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class EmoSynthNet(nn.Module):
  """`emosynth_jax.models.EmoSynthNet` in its default readings."""

  def __init__(self, variables: Mapping[str, Any], dropout_rate: float = 0.0):
    """Builds the network, in evaluation mode.

    Args:
      variables: of the JAX network, "params" and "batch_stats".
      dropout_rate: rate after each hidden dense layer.
    """
    super().__init__()
    params, statistics = variables["params"], variables["batch_stats"]
    self.block1, self.block2, self.block3, self.block4 = (
      _AnalysisBlock(params[name], statistics[name], has_shortcut)
      for name, has_shortcut in (
        ("block1", True),
        ("block2", False),
        ("block3", True),
        ("block4", False),
      )
    )
    self.side1 = _AuxiliaryModule(params["side1"])
    self.side2 = _AuxiliaryModule(params["side2"])
    self.transposed1 = _transposed_convolution(params["transposed1"])
    self.transposed2 = _transposed_convolution(params["transposed2"])

    # torch flattens channels, rows and columns in this order, JAX channels last.
    kernel = _array(params["dense1"]["kernel"])
    channels = self.transposed2.out_channels
    side = math.isqrt(len(kernel) // channels)
    kernel = kernel.reshape(side, side, channels, -1).transpose(2, 0, 1, 3)
    first = {**params["dense1"], "kernel": kernel.reshape(-1, kernel.shape[-1])}

    depth = sum(name.startswith("dense") for name in params)
    rest = [params[f"dense{i}"] for i in range(2, depth + 1)]
    self.dense = nn.ModuleList(map(_linear, [first, *rest]))
    self.dropout = nn.Dropout(dropout_rate)
    self.logits = _linear(params["logits"])
    self.eval()

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """Maps `(N, C, m, m)` to logits `(N, K)`."""
    side_length = images.shape[2] // 16 + 2
    block1 = self.block1(images)
    block3 = self.block3(self.block2(block1))
    block4 = self.block4(block3)

    side = self.side2(self.side1(block1))
    stride = (side.shape[2] - 7) // (side_length - 1)
    side = _crop(F.avg_pool2d(side, 7, stride), side_length)

    x = F.elu(self.transposed1(block4))
    x = torch.cat([x, side, _crop(block3, side_length)], dim=1)
    x = F.interpolate(x, scale_factor=2, mode="nearest")
    x = F.elu(self.transposed2(x))
    x = F.interpolate(x, scale_factor=2, mode="nearest").flatten(1)
    for dense in self.dense:
      x = self.dropout(F.elu(dense(x)))
    return self.logits(x)


class _AnalysisBlock(nn.Module):
  """Units in series with an optional shortcut, then 2x2 average pooling.

  A unit is a 3x3 convolution, ELU and BatchNorm.
  """

  def __init__(
    self, params: Mapping[str, Any], statistics: Mapping[str, Any], has_shortcut: bool
  ):
    super().__init__()
    units = [
      nn.Sequential(
        _convolution(params[name]["conv"]),
        nn.ELU(),
        _norm(params[name]["norm"], statistics[name]["norm"]),
      )
      for name in sorted(params)
    ]
    self.first, self.last = nn.Sequential(*units[:-2]), nn.Sequential(*units[-2:])
    self.has_shortcut = has_shortcut

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    before = self.first(x)
    x = self.last(before)
    return F.avg_pool2d(x + before if self.has_shortcut else x, 2)


class _AuxiliaryModule(nn.Module):
  """Three sub-branches, 640 channels in total at width 1."""

  def __init__(self, params: Mapping[str, Any]):
    super().__init__()
    self.a1, self.a2, self.a3, self.b, self.c1, self.c2, self.c3 = (
      _convolution(params[name]) for name in ("a1", "a2", "a3", "b", "c1", "c2", "c3")
    )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    a2 = F.relu(self.a2(F.relu(self.a1(x))))
    a3 = F.relu(self.a3(a2))
    b = F.relu(self.b(F.max_pool2d(x, 3, stride=1, padding=1)))
    c2 = F.relu(self.c2(F.relu(self.c1(x))))
    c3 = F.relu(self.c3(c2))
    return torch.cat([a3, b, c3, a2, c2], dim=1)


def _crop(x: torch.Tensor, side: int) -> torch.Tensor:
  top, left = ((length - side) // 2 for length in x.shape[2:])
  return x[:, :, top : top + side, left : left + side]


class FerVGG(nn.Module):
  """`emosynth_jax.models.FerVGG`."""

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
  """`emosynth_jax.models.FerResNet`."""

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
  """A contiguous copy of an array or a tensor; NumPy itself warns of tensors."""
  values = values.numpy() if isinstance(values, torch.Tensor) else values
  return np.array(values, order="C")


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


def _transposed_convolution(layer: Mapping[str, Any]) -> nn.ConvTranspose2d:
  # PyTorch's kernel is mirrored.
  kernel = _array(layer["kernel"])[::-1, ::-1].transpose(2, 3, 0, 1)
  conv = nn.ConvTranspose2d(*kernel.shape[:3])
  conv.weight, conv.bias = _tensor(kernel), _tensor(layer["bias"])
  return conv


def _norm(layer: Mapping[str, Any], statistics: Mapping[str, Any]) -> nn.BatchNorm2d:
  # Both have epsilon 1e-5, and the decay that Flax calls 0.9.
  norm = nn.BatchNorm2d(len(layer["scale"]))
  norm.weight, norm.bias = _tensor(layer["scale"]), _tensor(layer["bias"])
  norm.running_mean = torch.from_numpy(_array(statistics["mean"]))
  norm.running_var = torch.from_numpy(_array(statistics["var"]))
  return norm


def _linear(layer: Mapping[str, Any]) -> nn.Linear:
  kernel = _array(layer["kernel"]).T
  linear = nn.Linear(kernel.shape[1], kernel.shape[0])
  linear.weight, linear.bias = _tensor(kernel), _tensor(layer["bias"])
  return linear
