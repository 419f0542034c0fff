"""Writes golden/*.json: outputs of torchvision's and timm's networks.

  pip install -e '.[oracle-models]'
  python tests/models/generate_golden.py

Weights and images follow from their names by torch_weights.py; the oracles run in
float64 and eval mode. A file holds the shapes of the oracle's state dict and some of
its logits; test_golden_outputs.py computes the same with ours. torchvision knows no
stem for small images: here its layers are replaced by those.
"""

import json
import pathlib
from collections import OrderedDict

import numpy as np
import timm
import torch
import torch_weights
import torchvision
from torch import nn
from torchvision.models import vgg

GOLDEN = pathlib.Path(__file__).parent / "golden"
# The logits that are kept of a thousand: every so many.
STEP = 50


def small_vgg(norm, stem):
  """Configuration E at an eighth of its width, with small dense layers."""
  cfg = [c if c == "M" else c // 8 for c in vgg.cfgs["E"]]
  network = vgg.VGG(vgg.make_layers(cfg, batch_norm=norm), init_weights=False)
  if stem == "imagenet":
    network.classifier[0] = nn.Linear(64 * 7 * 7, 48)
    network.classifier[3] = nn.Linear(48, 24)
    network.classifier[6] = nn.Linear(24, 10)
  else:
    network.avgpool = nn.AdaptiveAvgPool2d(1)
    network.classifier = nn.Sequential(OrderedDict({"6": nn.Linear(64, 10)}))
  return network


def resnet(name, stem):
  network = getattr(torchvision.models, name)(num_classes=10)
  if stem == "small":
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
  return network


def cases():
  """Our network, its arguments, the oracle in words, the oracle, the images' side."""
  for norm in (False, True):
    for stem, side in (("imagenet", 96), ("small", 40)):
      arguments = {"norm": norm, "stem": stem, "width": 0.125}
      if stem == "imagenet":
        arguments["dense_features"] = [48, 24]
      said = f"torchvision VGG E/8, batch_norm={norm}, {stem}"
      yield "vgg19", arguments, said, small_vgg(norm, stem), side
  for name in ("resnet18", "resnet50"):
    for stem, side in (("imagenet", 63), ("small", 18)):
      said = f"torchvision {name}, {stem}"
      yield name, {"stem": stem}, said, resnet(name, stem), side


def full_cases():
  """The published networks on images of 224, with a thousand classes."""
  for norm in (False, True):
    name = "vgg19_bn" if norm else "vgg19"
    arguments = {"norm": norm, "stem": "imagenet"}
    yield "vgg19", arguments, f"torchvision {name}", getattr(vgg, name)(), 224
    yield "vgg19", arguments, f"timm {name}", timm.create_model(name), 224
  for name in ("resnet18", "resnet50"):
    network = getattr(torchvision.models, name)()
    yield name, {"stem": "imagenet"}, f"torchvision {name}", network, 224


def case(name, arguments, oracle, network, side):
  shapes = {
    key: tuple(tensor.shape)
    for key, tensor in network.state_dict().items()
    if not key.endswith("num_batches_tracked")
  }
  state = {
    key: torch.tensor(array) for key, array in torch_weights.weights(shapes).items()
  }
  missing = network.load_state_dict(state, strict=False).missing_keys
  assert all(key.endswith("num_batches_tracked") for key in missing)
  images = torch.tensor(torch_weights.images(side)).permute(0, 3, 1, 2)
  with torch.no_grad():
    logits = network.eval().double()(images.double()).numpy()
  num_classes = logits.shape[1]
  if num_classes > STEP:
    logits = logits[:, ::STEP]
  # Outputs that hardly depend on the images would prove little.
  contrast = np.abs(logits[0] - logits[1]).mean() / logits.std()
  print(f"{oracle} at {side}: deviation {logits.std():.3g}, contrast {contrast:.2g}")
  return {
    "network": name,
    "arguments": arguments,
    "oracle": oracle,
    "num_classes": num_classes,
    "side": side,
    "num_parameters": sum(p.numel() for p in network.parameters()),
    "shapes": shapes,
    "logits": [[float(f"{x:.7g}") for x in row] for row in logits],
  }


def write(name, entries):
  source = f"torchvision {torchvision.__version__}, timm {timm.__version__}, torch "
  source += torch.__version__
  lines = ",\n".join(json.dumps(case(*entry)) for entry in entries)
  (GOLDEN / name).write_text(
    f'{{"source": {json.dumps(source)}, "cases": [\n{lines}\n]}}\n'
  )


if __name__ == "__main__":
  write("small.json", cases())
  write("full.json", full_cases())
