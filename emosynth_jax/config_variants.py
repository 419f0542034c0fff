"""Changes to a config by name: what may follow the colon of `--config=FILE:NAMES`."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from emosynth_jax import default_config

# Each network's changes in the `small` variants, for two CPU cores: widths at which a
# training image costs them 6 to 25 million multiply-adds. A dropout that suits millions
# of parameters keeps a narrow network from learning, and statistics that remember a
# thousand steps suit no run of a few thousand.
_SMALL_MODELS: dict[str, dict[str, Any]] = {
  "all_cnn": {"width": 0.25, "input_dropout_rate": 0.0, "dropout_rate": 0.1},
  "densenet121": {"width": 0.125},
  "efficientnet_b0": {
    "width": 0.25,
    "dropout_rate": 0.0,
    "drop_path_rate": 0.0,
    "norm_momentum": 0.9,
  },
  "emosynthnet": {"width": 0.125, "dense_features": (64, 64), "dropout_rate": 0.1},
  "fer_vgg": {"width": 0.25, "dense_features": (64,), "dropout_rate": 0.1},
  "mobilenet_v2": {"width": 0.25, "dropout_rate": 0.0, "norm_momentum": 0.9},
  "resnet18": {"width": 0.125},
  "resnet50": {"width": 0.125},
  "vgg19": {"width": 0.125},
}


def network_variants() -> dict[str, dict]:
  """Every network as a variant by its name, in the form for small images."""
  # EmoSynthNet is the default, with arguments that the default config names.
  return {
    name: {} if name == "emosynthnet" else {"model": {"name": name, "dtype": "float32"}}
    for name in _SMALL_MODELS
  }


def all_variants() -> dict[str, dict]:
  """The networks and losses that every config offers as variants."""
  return network_variants() | loss_variants()


def small_model(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """What the `small` variants change of the config's network."""
  return _SMALL_MODELS[config.model.name]


def loss_variants() -> dict[str, dict]:
  """The losses that every config offers as a variant, as changes to the config."""
  return {
    "ce": {"loss": {"name": "cross_entropy"}},
    "mse": {"loss": {"name": "mse"}},
    "sce": {"loss": {"name": "sce_loss"}},
    "mam": {"loss": {"name": "mam_softmax"}},
    "mam_sce": {"loss": {"name": "mam_softmax+sce_loss"}},
  }


def strong_variant(*, mirrored: bool = True, cutout_side: int) -> dict:
  """A recipe of today, under which a network is not undertrained.

  SGD with Nesterov's momentum, warm-up and a cosine over the epochs that the config
  has, decay of the kernels, smoothed labels, averaged weights, and random crops with a
  cutout instead of the thesis's zoom and shear.

  Args:
    mirrored: whether a mirrored image is of the same class.
    cutout_side: in pixels.

  Returns:
    The changes to a config.
  """
  return {
    "loss": {"name": "label_smoothing", "smoothing": 0.1},
    "class_weights": "none",
    "optimizer": {
      "name": "sgd",
      "learning_rate": 0.01,
      "momentum": 0.9,
      "weight_decay": 5e-4,
    },
    "schedule": {"name": "cosine", "warmup_epochs": 1.0, "final_scale": 0.0},
    "plateau": {"patience": 0},
    "early_stop_patience": 0,
    "ema_decay": 0.999,
    "input": {"second_scale_epoch": 0},
    "augment": {
      "zoom": 0.0,
      "shear": 0.0,
      "shift": 0.0,
      "rotation": 0.0,
      "flip": mirrored,
      "crop_padding": 4,
      "cutout_side": cutout_side,
    },
    "eval_augment": "flip" if mirrored else "none",
  }


def apply_variants(
  config: ml_collections.ConfigDict,
  variants: Mapping[str, Mapping],
  names: str | None,
) -> ml_collections.ConfigDict:
  """Applies the variants named after the colon of `--config=FILE:NAMES`.

  Args:
    config: the config to change.
    variants: the changes by name, nested as the config is; a function makes those of
      its part from the config.
    names: names joined by commas, applied in that order; None or "" for none.

  Returns:
    The config, locked but for the parts whose arguments depend on a name.

  Raises:
    ValueError: for an unknown name; it lists the known ones. Or for an order in which
      one variant would undo another.
  """
  chosen = [name for name in (names or "").split(",") if name]
  _check_order(chosen)
  for name in chosen:
    if name not in variants:
      raise ValueError(
        f"config variant: expected one of {sorted(variants)}, got {name!r}"
      )
    _update(config, variants[name])
  config.lock()
  for path in default_config.OPEN_PARTS:
    default_config.get(config, path).unlock()
  return config


def _check_order(names):
  """Refuses an order in which a variant would undo one before it."""
  networks, losses = network_variants(), loss_variants()
  kinds = [*networks, "small", "strong", *losses]

  def kind(name):
    return "network" if name in networks else "loss" if name in losses else name

  # A network is replaced whole, and so is a loss; small and strong have a rate each.
  undone = {("small", "network"), ("strong", "small"), ("loss", "strong")}
  for i, name in enumerate(names):
    for later in names[i + 1 :]:
      if (kind(name), kind(later)) in undone:
        right = sorted(
          names, key=lambda n: kinds.index(n) if n in kinds else kinds.index("strong")
        )
        raise ValueError(
          f"config variants: {','.join(names)} would undo part of its own changes; "
          f"write {','.join(right)} (the network first, then small, strong, the loss)"
        )


def _update(config, changes):
  for key, value in changes.items():
    if callable(value):
      value = value(config)
    if key == "loss" or (key == "model" and "name" in value):
      # Each has arguments of its own: replaced whole, never merged.
      config[key] = ml_collections.ConfigDict(value)
    elif isinstance(value, Mapping):
      _update(config[key], value)
    else:
      config[key] = value
