"""Writes golden/*.json.gz: outputs of torchvision's and timm's networks.

  pip install -e '.[oracle-models]'
  python tests/models/generate_golden.py

Weights and images follow from their names by torch_weights.py; the oracles run in
float64 and eval mode. A file holds the shapes of the oracle's state dict and some of
its logits; test_golden_outputs.py computes the same with ours. torchvision knows no
stem for small images: here its layers are replaced by those.
"""

import gzip
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


def densenet(stem):
  """All layers at an eighth of the growth."""
  network = torchvision.models.DenseNet(4, (6, 12, 24, 16), 8, num_classes=10)
  if stem == "small":
    network.features.conv0 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
    network.features.pool0 = nn.Identity()
  return network


def mobilenet(width, stem):
  network = torchvision.models.mobilenet_v2(num_classes=10, width_mult=width)
  if stem == "small":
    first_of_24 = network.features[2]
    network.features[0][0].stride = first_of_24.conv[1][0].stride = (1, 1)
  return network


def efficientnet(width, stem):
  # torchvision's own B0 is this with width_mult=1.
  settings, last = torchvision.models.efficientnet._efficientnet_conf(
    "efficientnet_b0", width_mult=width, depth_mult=1.0
  )
  network = torchvision.models.EfficientNet(
    settings, 0.2, num_classes=10, last_channel=last
  )
  if stem == "small":
    depthwise = network.features[2][0].block[1][0]
    network.features[0][0].stride = depthwise.stride = (1, 1)
  return network


class AllCNN(nn.Module):
  """Model C of table 1 of Springenberg et al. as it is written there, less its last
  ReLU: a 1x1 convolution to the classes, then the mean over the pixels."""

  def __init__(self):
    super().__init__()
    self.conv1 = nn.Conv2d(3, 96, 3, padding=1)
    self.conv2 = nn.Conv2d(96, 96, 3, padding=1)
    self.conv3 = nn.Conv2d(96, 96, 3, padding=1, stride=2)
    self.conv4 = nn.Conv2d(96, 192, 3, padding=1)
    self.conv5 = nn.Conv2d(192, 192, 3, padding=1)
    self.conv6 = nn.Conv2d(192, 192, 3, padding=1, stride=2)
    self.conv7 = nn.Conv2d(192, 192, 3)
    self.conv8 = nn.Conv2d(192, 192, 1)
    self.logits = nn.Conv2d(192, 10, 1)

  def forward(self, x):
    for i in range(1, 9):
      x = torch.relu(getattr(self, f"conv{i}")(x))
    assert x.shape[2:] == (6, 6)
    return self.logits(x).mean((2, 3))


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
  for stem, side in (("imagenet", 65), ("small", 18)):
    arguments, said = {"stem": stem, "width": 0.125}, "torchvision DenseNet(4), "
    yield "densenet121", arguments, said + stem, densenet(stem), side
    # At width 1.4 the last convolution is widened too, at .35 it is not narrowed.
    width = 0.35 if stem == "imagenet" else 1.4
    arguments = {"stem": stem, "width": width}
    said = f"torchvision mobilenet_v2 x {width}, {stem}"
    yield "mobilenet_v2", arguments, said, mobilenet(width, stem), side
  arguments, said = {"stem": "small", "width": 0.5}, "torchvision efficientnet_b0 / 2"
  yield "efficientnet_b0", arguments, said, efficientnet(0.5, "small"), 18
  for name, oracle in (
    ("mobilenet_v2", "mobilenetv2_100"),
    ("efficientnet_b0", "efficientnet_b0"),
  ):
    network = timm.create_model(oracle, num_classes=10)
    yield name, {"stem": "imagenet"}, f"timm {oracle}", network, 64
  yield "all_cnn", {}, "table 1 in torch", AllCNN(), 32


def full_cases():
  """The published networks on images of 224, with a thousand classes."""
  for norm in (False, True):
    name = "vgg19_bn" if norm else "vgg19"
    arguments = {"norm": norm, "stem": "imagenet"}
    yield "vgg19", arguments, f"torchvision {name}", getattr(vgg, name)(), 224
    yield "vgg19", arguments, f"timm {name}", timm.create_model(name), 224
  for name, timm_name in (
    ("resnet18", "resnet18"),
    ("resnet50", "resnet50"),
    ("densenet121", "densenet121"),
    ("mobilenet_v2", "mobilenetv2_100"),
    ("efficientnet_b0", "efficientnet_b0"),
  ):
    network = getattr(torchvision.models, name)()
    yield name, {"stem": "imagenet"}, f"torchvision {name}", network, 224
    network = timm.create_model(timm_name)
    yield name, {"stem": "imagenet"}, f"timm {timm_name}", network, 224


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
  text = f'{{"source": {json.dumps(source)}, "cases": [\n{lines}\n]}}\n'
  # Packed, since the names of layers fill half a megabyte; without a date.
  (GOLDEN / name).write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
  write("small.json.gz", cases())
  write("full.json.gz", full_cases())
