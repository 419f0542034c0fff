"""What torchvision and timm call the layers of our networks."""

from collections.abc import Collection

import flax.linen as nn

from emosynth_jax.models import vgg
from emosynth_jax.models.resnet import ResNet
from emosynth_jax.models.vgg import VGG19

Names = dict[str, str]


def torch_names(model: nn.Module, keys: Collection[str]) -> Names:
  """The name of every layer in a torch state dict, by our own path.

  Args:
    model: one of the comparison networks.
    keys: the state dict's keys, by which torchvision's layout is told from timm's.

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
  return names


_NAMES = {ResNet: _resnet, VGG19: _vgg}
