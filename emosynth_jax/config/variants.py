"""Named variants of a config, given after the colon of `--config=FILE:NAMES`."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from emosynth_jax.config import defaults
from emosynth_jax.utils.nearest import or_known

# Each network's changes in the `small` variants, for two CPU cores: widths with 6 to 25
# million multiply-adds per training image. Dropout rates for millions of parameters
# prevent a narrow network from learning, and running statistics with a memory of a
# thousand steps do not suit a run of a few thousand.
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
  "fer_resnet": {"width": 0.5, "dropout_rate": 0.1},
  "fer_vgg": {"width": 0.25, "dense_features": (64,), "dropout_rate": 0.1},
  "mobilenet_v2": {"width": 0.25, "dropout_rate": 0.0, "norm_momentum": 0.9},
  "resnet18": {"width": 0.125},
  "resnet50": {"width": 0.125},
  "vgg19": {"width": 0.125},
}


def network_variants() -> dict[str, dict]:
  """Variants that select a network by name, in the form for small images."""
  # EmoSynthNet is the default, with arguments that the default config names.
  return {
    name: {} if name == "emosynthnet" else {"model": {"name": name, "dtype": "float32"}}
    for name in _SMALL_MODELS
  }


def all_variants() -> dict[str, dict]:
  """The networks and losses that every config offers as variants."""
  return network_variants() | loss_variants()


def small_model(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Changes of the `small` variants to the config's network."""
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
    names: comma-separated names, applied in that order; None or "" for none.

  Returns:
    The config, locked except for the sections whose arguments depend on a name.

  Raises:
    ValueError: for an unknown name (the known ones are listed), or an order in which
      one variant would undo another.
  """
  chosen = [name for name in (names or "").split(",") if name]
  _check_order(chosen)
  for name in chosen:
    if name not in variants:
      raise ValueError(
        f"unknown config variant {name!r}{or_known(name, sorted(variants))}"
      )
    update(config, variants[name])

  config.lock()
  for path in defaults.OPEN_PARTS:
    defaults.get(config, path).unlock()
  return config


def _check_order(names):
  """Rejects an order in which a variant would undo an earlier one."""
  networks, losses = network_variants(), loss_variants()
  kinds = [*networks, "small", "strong", "thesis", *losses]

  def kind(name):
    return "network" if name in networks else "loss" if name in losses else name

  if {"strong", "thesis"} <= set(names):
    raise ValueError(
      f"config variants: {','.join(names)}: strong and thesis are alternative "
      "recipes; choose one"
    )

  # A network and a loss are replaced as a whole; thesis has its own number of epochs.
  undone = {
    ("small", "network"),
    ("strong", "small"),
    ("thesis", "small"),
    ("loss", "strong"),
    ("loss", "thesis"),
  }

  for i, name in enumerate(names):
    for later in names[i + 1 :]:
      if (kind(name), kind(later)) in undone:
        right = sorted(
          names, key=lambda n: kinds.index(n) if n in kinds else kinds.index("strong")
        )
        raise ValueError(
          f"config variants: {','.join(names)} would override part of its own "
          f"changes; use the order {','.join(right)} (the network first, then small, "
          "strong or thesis, the loss)"
        )


def update(config: ml_collections.ConfigDict, changes: Mapping[str, Any]) -> None:
  """Changes settings of a config in place.

  Args:
    config: the config.
    changes: nested as the config is; a function makes those of its part from the
      config. A loss, and a model that is named, are replaced whole.
  """
  for key, value in changes.items():
    if callable(value):
      value = value(config)
    if key == "loss" or (key == "model" and "name" in value):
      # Each has arguments of its own: replaced whole, never merged.
      config[key] = ml_collections.ConfigDict(value)
    elif isinstance(value, Mapping):
      update(config[key], value)
    else:
      config[key] = value
