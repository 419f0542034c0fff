"""Changes to a config by name: what may follow the colon of `--config=FILE:NAMES`."""

from collections.abc import Callable, Mapping

import ml_collections

from emosynth_jax import default_config

# The network of the `small` variants, for two CPU cores.
SMALL_MODEL = {"width": 0.125, "dense_features": (64, 64), "dropout_rate": 0.1}


def loss_variants() -> dict[str, dict]:
  """The losses that every config offers as a variant, as changes to the config."""
  return {
    "ce": {"loss": {"name": "cross_entropy"}},
    "mse": {"loss": {"name": "mse"}},
    "sce": {"loss": {"name": "sce_loss"}},
    "mam": {"loss": {"name": "mam_softmax"}},
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
  variants: Mapping[str, Mapping | Callable],
  names: str | None,
) -> ml_collections.ConfigDict:
  """Applies the variants named after the colon of `--config=FILE:NAMES`.

  Args:
    config: the config to change.
    variants: the changes by name, nested as the config is.
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
  """`strong` has a loss and an optimiser, and so has to follow and precede others."""
  if "strong" not in names:
    return
  place = names.index("strong")
  before, after = names[:place], names[place + 1 :]
  losses = loss_variants()
  if "small" in after or any(name in losses for name in before):
    others = [name for name in names if name not in ("small", "strong", *losses)]
    right = [
      *(["small"] if "small" in names else []),
      "strong",
      *others,
      *(name for name in names if name in losses),
    ]
    raise ValueError(
      f"config variants: {','.join(names)} would undo part of its own changes; write "
      f"{','.join(right)} (small first, then strong, then the loss)"
    )


def _update(config, changes):
  for key, value in changes.items():
    if key == "loss":
      # Each loss has hyperparameters of its own: replaced whole, never merged.
      config.loss = ml_collections.ConfigDict(value)
    elif isinstance(value, Mapping):
      _update(config[key], value)
    else:
      config[key] = value
