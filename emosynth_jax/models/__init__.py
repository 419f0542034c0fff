"""The networks, by name."""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array

from emosynth_jax.models.all_cnn import AllCNN
from emosynth_jax.models.densenet import DenseNet121
from emosynth_jax.models.efficientnet import EfficientNetB0
from emosynth_jax.models.emosynthnet import EmoSynthNet
from emosynth_jax.models.fer_resnet import FerResNet
from emosynth_jax.models.fer_vgg import FerVGG
from emosynth_jax.models.mobilenet_v2 import MobileNetV2
from emosynth_jax.models.resnet import ResNet18, ResNet50
from emosynth_jax.models.vgg import VGG19
from emosynth_jax.utils.nearest import or_known

MODELS: dict[str, type[nn.Module]] = {
  "all_cnn": AllCNN,
  "densenet121": DenseNet121,
  "efficientnet_b0": EfficientNetB0,
  "emosynthnet": EmoSynthNet,
  "fer_resnet": FerResNet,
  "fer_vgg": FerVGG,
  "mobilenet_v2": MobileNetV2,
  "resnet18": ResNet18,
  "resnet50": ResNet50,
  "vgg19": VGG19,
}

# Attributes that every module of Flax has.
_OF_FLAX = {"name", "parent"}


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


def build_model(
  name: str | Callable[..., nn.Module], *, num_classes: int, **arguments: Any
) -> nn.Module:
  """Builds a network by its name.

  Every network maps images `(N, m, m, C)` and the keyword `train` to logits `(N, K)`
  and a dictionary with the embedding under "pre_logits", which its last layer, named
  "logits", turns into the logits: the margin losses take both.

  Args:
    name: a key of `MODELS`, or a module's class, or a function that returns a module.
    num_classes: K.
    **arguments: the network's attributes.

  Returns:
    The module.

  Raises:
    ValueError: if the name or an argument is unknown; the message lists those known.
  """
  network = _find(name)
  title = network.__name__ if callable(name) else name

  accepted = set(inspect.signature(network).parameters)
  if "num_classes" not in accepted:
    raise ValueError(
      f"model {title}: expected the argument num_classes, the number of its outputs; "
      f"it takes {', '.join(sorted(accepted - _OF_FLAX)) or 'none'}"
    )

  known = sorted(accepted - {"num_classes"} - _OF_FLAX)
  # Every config has a dtype; a network need not.
  if callable(name) and "dtype" not in known:
    arguments.pop("dtype", None)
  for argument in arguments:
    if argument not in known:
      raise ValueError(
        f"model {title} takes no argument {argument!r}"
        f"{or_known(argument, known)}. A config selects another network by a variant, "
        f"as --config=FILE.py:{title}"
      )

  return network(num_classes=num_classes, **arguments)


def defaults_of(name: str | Callable[..., nn.Module]) -> dict[str, Any]:
  """A network's arguments and their defaults.

  Args:
    name: as `build_model` takes it.

  Returns:
    Name to default, without `num_classes`; `inspect.Parameter.empty` for one that must
    be given.

  Raises:
    ValueError: if the name is unknown; the message lists those known.
  """
  return {
    parameter.name: parameter.default
    for parameter in inspect.signature(_find(name)).parameters.values()
    if parameter.name not in {"num_classes", *_OF_FLAX}
  }


def _find(name: str | Callable[..., nn.Module]) -> Callable[..., nn.Module]:
  """The network of a name, or the one that is given itself."""
  if callable(name):
    return name
  if name not in MODELS:
    raise ValueError(f"unknown model {name!r}{or_known(str(name), sorted(MODELS))}")
  return MODELS[name]
