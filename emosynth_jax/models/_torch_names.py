"""Layer names of torchvision and timm for the project's networks."""

from collections.abc import Collection

import flax.linen as nn

from emosynth_jax.models import efficientnet, mobilenet_v2, vgg
from emosynth_jax.models.densenet import DenseNet121
from emosynth_jax.models.efficientnet import EfficientNetB0
from emosynth_jax.models.mobilenet_v2 import MobileNetV2
from emosynth_jax.models.resnet import ResNet
from emosynth_jax.models.vgg import VGG19

Names = dict[str, str]


def torch_names(model: nn.Module, keys: Collection[str]) -> Names:
  """Maps the path of every layer to its name in a torch state dict.

  Args:
    model: one of the comparison networks.
    keys: the state dict's keys, which distinguish torchvision's layout from timm's.

  Returns:
    A dictionary from paths such as "stage1_block1/conv1" to names such as
    "layer1.0.conv1".

  Raises:
    ValueError: if no layout of the network is known.
  """
  for kind, names in _NAMES.items():
    if isinstance(model, kind):
      return names(model, keys)
  known = sorted(kind.__name__ for kind in _NAMES)
  raise ValueError(
    f"model: expected a network with torch weights {known}, got {type(model).__name__}"
  )


def _vgg(model, keys):
  names, index = {}, 0
  for i, (_, num_convs) in enumerate(vgg.STAGES, start=1):
    for j in range(1, num_convs + 1):
      names[f"conv{i}_{j}"] = f"features.{index}"
      if model.norm:
        names[f"norm{i}_{j}"] = f"features.{index + 1}"
      index += 3 if model.norm else 2  # Convolution, (norm,) ReLU.
    index += 1  # Max-pooling.

  if "head.fc.weight" in keys:  # timm
    dense, logits = ["pre_logits.fc1", "pre_logits.fc2"], "head.fc"
  else:
    dense, logits = ["classifier.0", "classifier.3"], "classifier.6"

  if model.stem == "imagenet":
    names |= {f"dense{i}": name for i, name in enumerate(dense, start=1)}
  return names | {"logits": logits}


def _resnet(model, keys):
  names = {"stem_conv": "conv1", "stem_norm": "bn1", "logits": "fc"}
  for i, num_blocks in enumerate(model.stage_sizes, start=1):
    for j in range(num_blocks):
      ours, theirs = f"stage{i}_block{j + 1}", f"layer{i}.{j}"
      for k in range(1, 4 if model.bottleneck else 3):
        names[f"{ours}/conv{k}"] = f"{theirs}.conv{k}"
        names[f"{ours}/norm{k}"] = f"{theirs}.bn{k}"
      names[f"{ours}/shortcut_conv"] = f"{theirs}.downsample.0"
      names[f"{ours}/shortcut_norm"] = f"{theirs}.downsample.1"
      if model.se_reduction:  # timm's seresnet50; torchvision has none.
        names[f"{ours}/squeeze/reduce"] = f"{theirs}.se.fc1"
        names[f"{ours}/squeeze/expand"] = f"{theirs}.se.fc2"
  return names


def _densenet(model, keys):
  names = {
    "stem_conv": "features.conv0",
    "stem_norm": "features.norm0",
    "last_norm": "features.norm5",
    "logits": "classifier",
  }

  for i, num_layers in enumerate(model.block_sizes, start=1):
    for part in ("conv", "norm"):
      names[f"transition{i}_{part}"] = f"features.transition{i}.{part}"
      for j in range(1, num_layers + 1):
        for k in (1, 2):
          theirs = f"features.denseblock{i}.denselayer{j}.{part}{k}"
          names[f"block{i}_layer{j}/{part}{k}"] = theirs

  return names


def _inverted_residuals(model, keys):
  """MobileNetV2 and EfficientNet: timm names both alike, torchvision does not."""
  if "conv_stem.weight" in keys:
    layout = _timm_names
  else:
    layout = _mobilenet_names if isinstance(model, MobileNetV2) else _efficientnet_names
  stages = (
    mobilenet_v2.STAGES if isinstance(model, MobileNetV2) else efficientnet.STAGES
  )
  return layout(stages)


def _timm_names(stages):
  names = {
    "stem_conv": "conv_stem",
    "stem_norm": "bn1",
    "last_conv": "conv_head",
    "last_norm": "bn2",
    "logits": "classifier",
  }

  for ours, i, j, _, stage in _blocks(stages):
    parts = ["expand", "depthwise", "project"][stage.expansion == 1 :]
    convs = ["conv_pw", "conv_dw", "conv_pwl"]
    if stage.expansion == 1:
      convs = ["conv_dw", "conv_pw"]
    for k, (part, conv) in enumerate(zip(parts, convs, strict=True), start=1):
      names[f"{ours}/{part}_conv"] = f"blocks.{i}.{j}.{conv}"
      names[f"{ours}/{part}_norm"] = f"blocks.{i}.{j}.bn{k}"
    for part in ("reduce", "expand"):
      names[f"{ours}/squeeze/{part}"] = f"blocks.{i}.{j}.se.conv_{part}"

  return names


def _mobilenet_names(stages):
  names = _torchvision_ends(last=1 + sum(stage.num_blocks for stage in stages))
  for ours, _, _, number, stage in _blocks(stages):
    theirs = f"features.{number + 1}.conv"
    parts = ["expand", "depthwise"][stage.expansion == 1 :]
    for k, part in enumerate(parts):
      names[f"{ours}/{part}_conv"] = f"{theirs}.{k}.0"
      names[f"{ours}/{part}_norm"] = f"{theirs}.{k}.1"
    names[f"{ours}/project_conv"] = f"{theirs}.{len(parts)}"
    names[f"{ours}/project_norm"] = f"{theirs}.{len(parts) + 1}"
  return names


def _efficientnet_names(stages):
  names = _torchvision_ends(last=1 + len(stages))
  for ours, i, j, _, stage in _blocks(stages):
    theirs = f"features.{i + 1}.{j}.block"
    parts = ["expand", "depthwise", "squeeze", "project"][stage.expansion == 1 :]
    for k, part in enumerate(parts):
      if part == "squeeze":
        names[f"{ours}/squeeze/reduce"] = f"{theirs}.{k}.fc1"
        names[f"{ours}/squeeze/expand"] = f"{theirs}.{k}.fc2"
      else:
        names[f"{ours}/{part}_conv"] = f"{theirs}.{k}.0"
        names[f"{ours}/{part}_norm"] = f"{theirs}.{k}.1"
  return names


def _torchvision_ends(last):
  return {
    "stem_conv": "features.0.0",
    "stem_norm": "features.0.1",
    "last_conv": f"features.{last}.0",
    "last_norm": f"features.{last}.1",
    "logits": "classifier.1",
  }


def _blocks(stages):
  """The path of every block, its stage, its index in it and overall, from 0."""
  number = 0
  for i, stage in enumerate(stages):
    for j in range(stage.num_blocks):
      yield f"stage{i + 1}_block{j + 1}", i, j, number, stage
      number += 1


_NAMES = {
  DenseNet121: _densenet,
  EfficientNetB0: _inverted_residuals,
  MobileNetV2: _inverted_residuals,
  ResNet: _resnet,
  VGG19: _vgg,
}
