"""Conversion of torchvision and timm weights.

A pretrained network expects the input normalization of its training: for ImageNet,
pixels in [0, 1] minus `IMAGENET_MEAN`, divided by `IMAGENET_STD`, per channel.
"""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import numpy as np
import safetensors
import safetensors.numpy

from emosynth_jax.models._torch_names import torch_names
from emosynth_jax.models.vgg import HEAD_SIDE, VGG19
from emosynth_jax.utils import npz

# Of ImageNet's training images in RGB, scaled to [0, 1]: used by nearly all published
# weights of torchvision and timm.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_LEAVES = {
  "kernel": "weight",
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}
# torchvision's DenseNet files are from a version in which names could contain a dot.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


class Converted(NamedTuple):
  """Variables with another network's weights.

  Attributes:
    variables: the collections, as the model takes them.
    kept: paths of the layers that keep their initialization.
    unused: names in the state dict that no layer uses.
  """

  variables: dict[str, Any]
  kept: tuple[str, ...]
  unused: tuple[str, ...]


def convert(
  model: nn.Module,
  state: Mapping[str, np.ndarray],
  variables: Mapping[str, Any],
  *,
  keep: Sequence[str] = (),
) -> Converted:
  """Converts a torch state dict to a network's variables.

  Weights for color images can be used for gray images: the first kernel is then summed
  over its input channels, which is equivalent to an image with three equal channels.
  (With ImageNet's normalization a single mean and deviation are needed, such as the
  averages of `IMAGENET_MEAN` and `IMAGENET_STD`.) If the number of classes differs, the
  last layer keeps its initialization. So do the dense layers of VGG19 where the model's
  stem is "small", for it has none.

  Args:
    model: ResNet18, ResNet50, VGG19, DenseNet121, MobileNetV2 or EfficientNetB0.
    state: arrays by the names of torchvision or timm.
    variables: the model's variables, as `model.init` returns them.
    keep: paths of layers, such as "stem_conv", that keep their initialization: a
      "small" stem of ResNet and DenseNet has another shape than the published one.

  Returns:
    The variables, and the lists of kept and unused layers.

  Raises:
    ValueError: if a layer is missing in the state dict or has another shape, or if the
      state dict holds layers that the model lacks; the message names them.
  """
  state = _plain_names(state)
  names = torch_names(model, state)
  flat = flax.traverse_util.flatten_dict(dict(variables), sep="/")
  layers = {key.split("/", 1)[1].rsplit("/", 1)[0] for key in flat}
  if unknown := sorted(set(keep) - layers):
    raise ValueError(f"keep: expected some of {sorted(layers)}, got {unknown}")

  kept = set(keep)
  if _classes(state, names["logits"]) != model.num_classes:  # type: ignore[attr-defined]
    kept.add("logits")
  used, converted = set(), {}
  misfits: dict[str, str] = {}

  # Convolutions before the statistics, whose shapes follow theirs, for the message.
  for key, old in sorted(flat.items(), key=lambda item: item[0] < "params"):
    layer, leaf = key.split("/", 1)[1].rsplit("/", 1)
    name = f"{names[layer]}.{_LEAVES[leaf]}"
    used.add(name)
    if layer in kept:
      converted[key] = old
      continue
    if name not in state:
      raise ValueError(
        f"weights: layer {layer} of {type(model).__name__} needs {name!r}, which is "
        "missing; the weights are of another network or of other model arguments"
      )
    new = _in_our_layout(model, layer, np.asarray(state[name]), old.shape)
    if new.shape != old.shape:
      misfits.setdefault(
        layer, f"{layer} ({name}): expected {old.shape}, got {new.shape} in Flax layout"
      )
    converted[key] = new.astype(np.float32)

  if misfits:
    raise ValueError(
      f"weights: {len(misfits)} of {len(layers)} layers have another shape: "
      f"{'; '.join(list(misfits.values())[:3])}. Other model arguments (stem, width, "
      f"norm) may match; keep={tuple(misfits)[:3]} keeps these layers' "
      "initialization"
    )

  unused = [name for name in state if name not in used]
  head_is_cut = isinstance(model, VGG19) and model.stem == "small"
  if unused and not (head_is_cut and all("features." not in n for n in unused)):
    raise ValueError(
      f"weights: {type(model).__name__} with these arguments has no layer for "
      f"{unused[:5]}{' and more' if len(unused) > 5 else ''}"
    )

  tree = flax.traverse_util.unflatten_dict(converted, sep="/")
  return Converted(tree, tuple(sorted(kept)), tuple(sorted(unused)))


def load_pretrained(
  path: str | pathlib.Path,
  model: nn.Module,
  variables: Mapping[str, Any],
  *,
  keep: Sequence[str] = (),
) -> Converted:
  """Reads a file of torchvision's or timm's weights into a network's variables.

  Args:
    path: a .safetensors file (as timm publishes them), an .npz of the state dict's
      arrays, or a .pth, .pt or .bin of torch, which has to be installed then.
    model: as `convert` takes it.
    variables: as `convert` takes them.
    keep: as `convert` takes it.

  Returns:
    As `convert`.

  Raises:
    FileNotFoundError: if there is no such file.
    ImportError: if torch is missing, for a file of torch.
    ValueError: if the file has another format or its weights do not fit.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f"weights: no file {path}")
  if path.suffix not in _READERS:
    raise ValueError(
      f"weights: expected a file that ends in one of {sorted(_READERS)}, got {path}"
    )

  state = _READERS[path.suffix](path)
  try:
    return convert(model, state, variables, keep=keep)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def _plain_names(state):
  """Removes counters, and the prefixes of wrappers and old versions."""
  plain = {}
  for name, array in state.items():
    if not name.endswith("num_batches_tracked"):
      name = _OLD_DENSENET.sub(r"\1\2", name.removeprefix("module."))
      plain[name] = array
  return plain


def _classes(state, name):
  weight = state.get(f"{name}.weight")
  return None if weight is None else weight.shape[0]


def _in_our_layout(model, layer, array, shape):
  """Transposes torch's (out, in, ...) to (..., in, out)."""
  if array.ndim == 1:
    return array
  if isinstance(model, VGG19) and layer == "dense1":
    # torch flattens channels, rows and columns in this order, here channels are last;
    # timm has a 7x7 convolution here.
    side = HEAD_SIDE
    array = array.reshape(array.shape[0], -1, side, side).transpose(2, 3, 1, 0)
    return array.reshape(-1, array.shape[-1])
  if array.ndim == 4:
    array = array.transpose(2, 3, 1, 0)
    if len(shape) == 2 and array.shape[:2] == (1, 1):
      return array[0, 0]
    if len(shape) == 4 and shape[2] == 1 and array.shape[2] == 3:
      return array.sum(2, keepdims=True)
    return array

  return array.T


def _read_safetensors(path):
  try:
    return safetensors.numpy.load_file(path)
  except (safetensors.SafetensorError, OSError, KeyError, TypeError) as error:
    raise ValueError(f"{path}: damaged or not a safetensors file: {error}") from error


def _read_npz(path):
  return npz.read_npz(path, problem=": damaged or not an npz file")


def _read_torch(path):
  try:
    import torch
  except ImportError as error:
    raise ImportError(
      f"{path}: requires torch (extra oracle-models); or convert it to .npz or "
      ".safetensors, see docs/reference/models.md"
    ) from error

  try:
    state = torch.load(path, map_location="cpu", weights_only=True)
  except Exception as error:  # Damaged pickles raise any error.
    reason = next(iter(str(error).splitlines()), "")
    raise ValueError(
      f"{path}: damaged, or not a torch file with only a network's state_dict() "
      f"({type(error).__name__}: {reason})"
    ) from error

  # Training scripts wrap the state dict.
  if not isinstance(state, Mapping):
    raise ValueError(f"{path}: expected a state_dict(), got {type(state).__name__}")
  for key in ("state_dict", "model"):
    if isinstance(state.get(key), Mapping):
      state = state[key]
  arrays = {name: getattr(tensor, "numpy", None) for name, tensor in state.items()}
  if wrong := [name for name, array in arrays.items() if array is None]:
    raise ValueError(f"{path}: {wrong[0]}: expected an array")
  return {name: tensor.detach().float().numpy() for name, tensor in state.items()}


_READERS = {
  ".safetensors": _read_safetensors,
  ".npz": _read_npz,
  ".pth": _read_torch,
  ".pt": _read_torch,
  ".bin": _read_torch,
}
