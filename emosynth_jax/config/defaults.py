"""Default config, from which the files in configs/ start, and checks of a config."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from emosynth_jax.config import renamed
from emosynth_jax.config.settings import OPEN_PARTS, SETTINGS


def get_default_config() -> ml_collections.ConfigDict:
  """Returns the default settings, see `SETTINGS`, which config files override."""
  config = ml_collections.ConfigDict({"data": {"options": {}}})
  for path, setting in SETTINGS.items():
    section, _, key = path.rpartition(".")
    holder = config
    for name in filter(None, section.split(".")):
      if name not in holder:
        holder[name] = ml_collections.ConfigDict()
      holder = holder[name]
    holder[key] = setting.default
  return config


def check_config(config: ml_collections.ConfigDict) -> None:
  """Checks a config for unknown settings and invalid values.

  Names of data sets, networks and losses and their arguments are checked where they
  are looked up.

  Args:
    config: as a config file returns it.

  Raises:
    ValueError: naming the setting, what was expected and what was given.
  """
  _check_keys(config, get_default_config(), "config")
  for part, needed in (("model", ("name", "dtype")), ("loss", ("name",))):
    if missing := [key for key in needed if key not in config[part]]:
      raise ValueError(f"config.{part}: settings {missing} are missing")
  for path, setting in SETTINGS.items():
    section, _, key = path.rpartition(".")
    # Another network does not have the default one's arguments.
    if section in OPEN_PARTS and key not in get(config, section):
      continue
    value = get(config, path)
    if not setting.check.accepts(value):
      raise ValueError(
        f"config.{path}: expected {setting.check.describe()}, got {value!r}"
      )

  _check_together(config)


def _check_together(config: ml_collections.ConfigDict) -> None:
  """Checks settings that do not suit each other."""
  if config.batch_size % config.batch_norm_groups:
    raise ValueError(
      f"config.batch_norm_groups: expected a divisor of config.batch_size, "
      f"{config.batch_size}, got {config.batch_norm_groups}"
    )

  if len(config.input.mean) != len(config.input.std):
    raise ValueError(
      "config.input.std: expected as many numbers as config.input.mean, got "
      f"{config.input.std} beside {config.input.mean}"
    )

  if config.input.standardize and config.input.mean:
    raise ValueError(
      "config.input.standardize: expected False beside config.input.mean, which is "
      f"{config.input.mean}: images are normalized by their own mean or by this one"
    )

  if config.init_from and config.pretrained.file:
    raise ValueError(
      "config.pretrained.file: cannot be combined with config.init_from, which is "
      f"{config.init_from!r}; set one of them"
    )

  if config.data.label_noise.rate and config.data.label_noise.confusion:
    raise ValueError(
      "config.data.label_noise: expected rate (symmetric noise) or confusion, got both"
    )

  if config.optimizer.name == "adam" and config.optimizer.weight_decay:
    raise ValueError(
      'config.optimizer.weight_decay: expected 0 for "adam", got '
      f'{config.optimizer.weight_decay}; use "adamw"'
    )

  # Of a single epoch, at most half is warm-up.
  if 1 < config.num_epochs <= config.schedule.warmup_epochs:
    raise ValueError(
      f"config.schedule.warmup_epochs: expected fewer than config.num_epochs, "
      f"{config.num_epochs}, got {config.schedule.warmup_epochs}"
    )

  if config.progressive_resizing.epochs >= config.num_epochs:
    raise ValueError(
      "config.progressive_resizing.epochs: expected fewer than config.num_epochs, "
      f"{config.num_epochs}, got {config.progressive_resizing.epochs}: the last epochs "
      "are of the size that is evaluated"
    )

  if config.sam.radius and config.sam.first_epoch > config.num_epochs:
    raise ValueError(
      f"config.sam.first_epoch: expected at most config.num_epochs, "
      f"{config.num_epochs}, got {config.sam.first_epoch}"
    )

  if config.sam.first_epoch > 1 and not config.sam.radius:
    raise ValueError(
      "config.sam.first_epoch: without effect, as config.sam.radius is 0; set a radius"
    )

  if config.schedule.name == "cosine" and config.plateau.patience:
    raise ValueError(
      "config.plateau.patience: expected 0 (off) beside a cosine schedule, got "
      f"{config.plateau.patience}: the learning rate would be decayed twice"
    )


def without_foreign_arguments(
  config: ml_collections.ConfigDict, overridden: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """Drops the arguments of a network, loss or data set that another one has replaced.

  `--config.model.name=...` selects another network than the config file did, whose
  arguments are not the new one's.

  Args:
    config: a config after the command's overrides.
    overridden: the settings that were overridden, by their path, as "model.name", with
      the values that they had before.

  Returns:
    The config; where another network, loss or data set was named, a copy in which its
    part has the name, a network's dtype, and the arguments that were overridden.
  """
  arguments = {"loss.name": "loss", "model.name": "model", "data.name": "data.options"}
  replaced = [
    part
    for name, part in arguments.items()
    if name in overridden and overridden[name] != get(config, name)
  ]
  if not replaced:
    return config

  config = config.copy_and_resolve_references()
  with config.unlocked():
    for part in replaced:
      holder = get(config, part)
      for key in list(holder):
        if key not in ("name", "dtype") and f"{part}.{key}" not in overridden:
          del holder[key]

  return config


def get(config: ml_collections.ConfigDict, dotted: str) -> Any:
  """Looks up the setting or section of a path like "optimizer.learning_rate"."""
  for key in dotted.split("."):
    config = config[key]
  return config


def _check_keys(config, default, path):
  if path.removeprefix("config.") in OPEN_PARTS:
    return
  if unknown := sorted(set(config) - set(default)):
    known = [
      f"{old} is now {path}.{renamed.KEYS[old]}"
      for old in unknown
      if old in renamed.KEYS
    ]
    raise ValueError(
      f"{path}: unknown settings {unknown}; "
      + ("; ".join(known) or f"the known ones are {sorted(default)}")
    )
  if missing := sorted(set(default) - set(config)):
    raise ValueError(f"{path}: settings {missing} are missing")

  for key in default:
    if isinstance(default[key], ml_collections.ConfigDict):
      _check_keys(config[key], default[key], f"{path}.{key}")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Flattens nested settings to paths, as {"optimizer.name": "adam"}.

  Args:
    tree: of `ConfigDict.to_dict`, or of a report.
    prefix: prefix of every path.

  Returns:
    Path to setting.
  """
  flat: dict[str, Any] = {}
  for key, value in tree.items():
    if isinstance(value, Mapping):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[prefix + key] = value
  return flat
