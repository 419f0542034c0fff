"""EmoSynthNet in PyTorch, with the same weights, as reference of the benchmarks.

Only the default readings of `emosynth_jax.models.emosynthnet`, in idiomatic PyTorch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

_BLOCKS = ((32, 64, 64, 64), (128,) * 4, (256,) * 4, (512,) * 3)
_SHORTCUT_BLOCKS = (1, 3)


def _scaled(channels: int, width: float) -> int:
  return max(1, round(channels * width))


class Unit(nn.Module):
  """3x3 convolution, ELU and BatchNorm."""

  def __init__(self, inputs: int, features: int):
    super().__init__()
    self.conv = nn.Conv2d(inputs, features, 3, padding=1)
    # A decay of 0.9 in Flax's terms.
    self.norm = nn.BatchNorm2d(features, eps=1e-5, momentum=0.1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps `(N, C, H, W)` to `(N, features, H, W)`."""
    return self.norm(F.elu(self.conv(x)))


class AnalysisBlock(nn.Module):
  """Units in series with an optional shortcut, then 2x2 average pooling."""

  def __init__(self, inputs: int, features: tuple[int, ...], shortcut: bool):
    super().__init__()
    for i, (before, after) in enumerate(
      zip((inputs, *features), features, strict=False), start=1
    ):
      self.add_module(f"unit{i}", Unit(before, after))
    self.shortcut = shortcut

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps `(N, C, H, W)` to `(N, features[-1], H / 2, W / 2)`."""
    units = list(self.children())
    for unit in units[:-2]:
      x = unit(x)
    before = x
    for unit in units[-2:]:
      x = unit(x)
    return F.avg_pool2d(x + before if self.shortcut else x, 2)


class AuxiliaryModule(nn.Module):
  """Three sub-branches, 640 channels in total at width 1."""

  def __init__(self, inputs: int, width: float):
    super().__init__()
    m64, m96, m128, m192 = (_scaled(m, width) for m in (64, 96, 128, 192))
    self.a1 = nn.Conv2d(inputs, m64, 1)
    self.a2 = nn.Conv2d(m64, m96, 5, padding=2)
    self.a3 = nn.Conv2d(m96, m96, 5, padding=2)
    self.b = nn.Conv2d(inputs, m64, 1)
    self.c1 = nn.Conv2d(inputs, m128, 1)
    self.c2 = nn.Conv2d(m128, m192, 3, padding=1)
    self.c3 = nn.Conv2d(m192, m192, 3, padding=1)
    self.features = 2 * m96 + m64 + 2 * m192

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Maps `(N, C, H, W)` to `(N, 640 width, H, W)`."""
    a2 = F.relu(self.a2(F.relu(self.a1(x))))
    a3 = F.relu(self.a3(a2))
    b = F.relu(self.b(F.max_pool2d(x, 3, stride=1, padding=1)))
    c2 = F.relu(self.c2(F.relu(self.c1(x))))
    c3 = F.relu(self.c3(c2))
    return torch.cat([a3, b, c3, a2, c2], dim=1)


class EmoSynthNet(nn.Module):
  """The network in its default readings.

  Args:
    side: m, the images' side, a multiple of 16.
    channels: the images' channels.
    num_classes: K.
    width: factor on the channels of every convolution.
    dense_features: sizes of the dense layers before the last one.
    dropout_rate: rate after each of them.
  """

  # Added by index, so that a type checker would not know them.
  block1: nn.Module
  block2: nn.Module
  block3: nn.Module
  block4: nn.Module

  def __init__(
    self,
    side: int,
    channels: int,
    num_classes: int,
    width: float = 1.0,
    dense_features: tuple[int, ...] = (128, 64),
    dropout_rate: float = 0.0,
  ):
    super().__init__()
    maps = channels
    for i, features in enumerate(_BLOCKS, start=1):
      features = tuple(_scaled(f, width) for f in features)
      self.add_module(f"block{i}", AnalysisBlock(maps, features, i in _SHORTCUT_BLOCKS))
      maps = features[-1]
    self.side1 = AuxiliaryModule(_scaled(64, width), width)
    self.side2 = AuxiliaryModule(self.side1.features, width)
    m512, m256 = _scaled(512, width), _scaled(256, width)
    self.transposed1 = nn.ConvTranspose2d(m512, m512, 3)
    joined = m512 + self.side2.features + m256
    self.transposed2 = nn.ConvTranspose2d(joined, m256, 3)
    sizes = (m256 * (side // 4 + 12) ** 2, *dense_features)
    for i, (before, after) in enumerate(
      zip(sizes, dense_features, strict=False), start=1
    ):
      self.add_module(f"dense{i}", nn.Linear(before, after))
    self.depth = len(dense_features)
    self.dropout = nn.Dropout(dropout_rate)
    self.logits = nn.Linear(dense_features[-1], num_classes)

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
    for i in range(self.depth):
      x = self.dropout(F.elu(getattr(self, f"dense{i + 1}")(x)))
    return self.logits(x)


def _crop(x: torch.Tensor, side: int) -> torch.Tensor:
  top, left = ((length - side) // 2 for length in x.shape[2:])
  return x[:, :, top : top + side, left : left + side]


def load_weights(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
  """Gives a network the weights of `from_flax`.

  Args:
    model: the network.
    state: its state dict without batch counters.

  Raises:
    ValueError: if the weights are those of other layers.
  """
  missing, unexpected = model.load_state_dict(dict(state), strict=False)
  # Batch counters, which have no counterpart in the weights.
  if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
    raise ValueError(f"weights: missing {missing}, unexpected {unexpected}")


def from_flax(variables: Mapping[str, Any], side: int) -> dict[str, torch.Tensor]:
  """Converts the JAX network's weights to the state dict of `EmoSynthNet`.

  Args:
    variables: of `emosynth_jax.models.EmoSynthNet`, default readings.
    side: m, the images' side.

  Returns:
    Tensors by the names of the class above.
  """
  state = {}

  def visit(tree, path):
    for name, value in tree.items():
      if isinstance(value, Mapping):
        visit(value, (*path, name))
      else:
        new_name, array = _in_torch_layout(path, name, np.asarray(value), side)
        state[new_name] = torch.from_numpy(np.array(array))

  visit(variables["params"], ())
  visit(variables["batch_stats"], ())
  return state


_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean"}
_LEAVES["var"] = "running_var"


def _in_torch_layout(path, name, array, side):
  """A leaf's name and array: channels first, and a transposed kernel mirrored."""
  layer = path[-1]
  if name == "kernel":
    if layer.startswith("transposed"):
      array = array[::-1, ::-1].transpose(2, 3, 0, 1)
    elif array.ndim == 4:
      array = array.transpose(3, 2, 0, 1)
    elif path[0].startswith("side"):
      array = array.T[:, :, None, None]  # A 1x1 convolution.
    elif layer == "dense1":
      # torch flattens channels, rows and columns in this order, JAX channels last.
      m = side // 4 + 12
      array = array.reshape(m, m, -1, array.shape[1]).transpose(3, 2, 0, 1)
      array = array.reshape(array.shape[0], -1)
    else:
      array = array.T
  return ".".join((*path, _LEAVES.get(name, name))), array
