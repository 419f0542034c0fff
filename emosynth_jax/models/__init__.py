"""The networks, by name."""

import dataclasses
from typing import Any

import flax.linen as nn
from jax import Array

from emosynth_jax.models.all_cnn import AllCNN
from emosynth_jax.models.densenet import DenseNet121
from emosynth_jax.models.efficientnet import EfficientNetB0
from emosynth_jax.models.emosynthnet import EmoSynthNet
from emosynth_jax.models.fer_vgg import FerVGG
from emosynth_jax.models.mobilenet_v2 import MobileNetV2
from emosynth_jax.models.resnet import ResNet18, ResNet50
from emosynth_jax.models.vgg import VGG19

MODELS: dict[str, Any] = {
  "all_cnn": AllCNN,
  "densenet121": DenseNet121,
  "efficientnet_b0": EfficientNetB0,
  "emosynthnet": EmoSynthNet,
  "fer_vgg": FerVGG,
  "mobilenet_v2": MobileNetV2,
  "resnet18": ResNet18,
  "resnet50": ResNet50,
  "vgg19": VGG19,
}


def last_layer(params: Any, logits: Array, out: dict[str, Array]) -> dict[str, Array]:
  """The last layer's input, kernel and output, by the names of the losses' inputs.

  Args:
    params: the network's parameters.
    logits: `(N, K)`, as the network returns them.
    out: the dictionary of inner arrays that it returns.

  Returns:
    "logits" `(N, K)`, "embeddings" `(N, D)` and "weights" `(D, K)`, the kernel.
  """
  return {
    "logits": logits,
    "embeddings": out["pre_logits"],
    "weights": params["logits"]["kernel"],
  }


def build_model(name: str, *, num_classes: int, **arguments: Any) -> nn.Module:
  """Builds a network by its name.

  Every network maps images `(N, m, m, C)` and the keyword `train` to logits `(N, K)`
  and a dictionary with the embedding under "pre_logits", which its last layer, named
  "logits", turns into the logits: the margin losses take both.

  Args:
    name: a key of `MODELS`.
    num_classes: K.
    **arguments: the network's attributes.

  Returns:
    The module.

  Raises:
    ValueError: if the name or an argument is unknown; the message lists those known.
  """
  known = sorted(defaults_of(name))
  for argument in arguments:
    if argument not in known:
      raise ValueError(
        f"model {name}: expected arguments {known}, got {argument!r}; a config takes "
        f"another network as a variant, as in --config=FILE.py:{name}"
      )
  return MODELS[name](num_classes=num_classes, **arguments)


def defaults_of(name: str) -> dict[str, Any]:
  """A network's arguments and their defaults.

  Args:
    name: a key of `MODELS`.

  Returns:
    Name to default, without `num_classes`, which has none.

  Raises:
    ValueError: if the name is unknown; the message lists those known.
  """
  if name not in MODELS:
    raise ValueError(f"model: expected one of {sorted(MODELS)}, got {name!r}")
  return {
    field.name: field.default
    for field in dataclasses.fields(MODELS[name])
    if field.name not in ("num_classes", "parent", "name")
  }
