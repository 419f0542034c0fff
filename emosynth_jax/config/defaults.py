"""Default config: every setting of a run, from which the files in configs/ start."""

from collections.abc import Collection, Mapping
from typing import Any

import ml_collections

from emosynth_jax.config import renamed
from emosynth_jax.config.types import check_types

# These hold the arguments of what their name selects.
OPEN_PARTS = ("loss", "model", "data.options")

# Data sets whose labels are not invariant to mirroring.
_ONE_WAY_ROUND = ("mnist", "svhn")


def get_default_config() -> ml_collections.ConfigDict:
  """Returns the default settings, which config files override."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  # Workdir of a trained run whose best checkpoint initializes the parameters: the same
  # network, with the last layer's classes matched by name. "" starts from random
  # parameters.
  config.init_from = ""
  # Weights of torchvision or timm to start from, a .safetensors, .npz or .pth file (see
  # docs/models.md), and layers that keep their random initialization.
  config.pretrained = pretrained = ml_collections.ConfigDict()
  pretrained.file = ""
  pretrained.keep = ()

  config.data = data = ml_collections.ConfigDict()
  data.name = "synthetic_faces"
  # Folder (or file) of the data set. Relative paths start where the command runs.
  data.data_dir = "data"
  # Share of the training split held out, stratified by class, to select the epoch on;
  # without effect if the data set has its own validation split.
  data.validation_fraction = 0.1
  # Seed of the held-out share, of `limit` and of generated data: separate from the
  # training seed, so that runs of several seeds use the same splits.
  data.seed = 0
  # Maximum number of images of each split, stratified by class; 0 for all.
  data.limit = 0
  # Split that is reported and never used for selection; "" if there is none.
  data.test_split = "test"
  # Excludes training images that have a near-duplicate (exact, near or mirrored) in
  # validation or test. The search takes half a minute for 36,000 images, and its time
  # grows with the square of their number.
  data.drop_duplicates = False
  # Label noise, of training labels alone: the symmetric rate, or the shares of classes
  # that are confused, as "fear:surprise:0.2" (a list); and the seed of the images.
  data.label_noise = ml_collections.ConfigDict()
  data.label_noise.rate = 0.0
  data.label_noise.confusion = ()
  data.label_noise.seed = 0
  # Thresholds of a near-duplicate: bits of 64 in which perceptual hashes may differ,
  # and the minimum correlation of pixels. Chosen on faces; check them with an audit.
  data.near_duplicates = ml_collections.ConfigDict()
  data.near_duplicates.max_distance = 12
  data.near_duplicates.min_correlation = 0.9
  # Input pipeline: "resident" keeps images on the devices; "grain" keeps them on disk
  # or in host memory, from where Grain prefetches batches; "auto" is "resident" for a
  # split that takes at most `resident_gib` GiB of each device. The batches are the
  # same. See docs/scaling.md.
  data.pipeline = "auto"
  data.resident_gib = 4.0
  # Further arguments of the data set's loader.
  data.options = ml_collections.ConfigDict()

  config.model = model = ml_collections.ConfigDict()
  model.name = "emosynthnet"
  model.width = 1.0
  model.dense_features = (128, 64)
  model.dropout_rate = 0.25
  model.norm_order = "last"
  model.side_input = "block1"
  model.skip = "block3"
  model.synthesis = "elu"
  model.norm_momentum = 0.9
  model.dtype = "float32"

  # The loss and its own hyperparameters.
  config.loss = ml_collections.ConfigDict({"name": "cross_entropy"})
  # "balanced" weights each class by N / (K n_k), "none" all classes equally.
  config.class_weights = "none"

  config.optimizer = optimizer = ml_collections.ConfigDict()
  optimizer.name = "adam"  # or "adamw", or "sgd" with Nesterov's momentum
  optimizer.learning_rate = 1e-3
  optimizer.b1 = 0.9
  optimizer.b2 = 0.999
  optimizer.momentum = 0.9  # of "sgd"
  # Of kernels only, for "adamw" and "sgd" (where it is part of the gradient).
  optimizer.weight_decay = 0.0
  # Gradient clipping by global norm; 0 disables it.
  optimizer.gradient_clip = 0.0
  # Fan-in above which a kernel's updates shrink as base_fan_in / fan-in, so that one
  # learning rate suits layers and networks of all widths; 0 disables it.
  optimizer.base_fan_in = 0

  # Learning rate schedule: "constant", or "cosine" decay to `final_scale` at the end of
  # the last epoch; both after a linear warm-up, which takes at most half an epoch in a
  # run of one epoch.
  config.schedule = schedule = ml_collections.ConfigDict()
  schedule.name = "constant"
  schedule.warmup_epochs = 0.0
  schedule.final_scale = 0.0

  # The learning rate is also multiplied by `factor` after `patience` epochs without a
  # validation loss lower than the best by the share `min_improvement`. That loss is the
  # cross-entropy of the margin-free logits, whatever the training loss. A patience of 0
  # disables this.
  config.plateau = plateau = ml_collections.ConfigDict()
  plateau.factor = 0.1
  plateau.patience = 5
  plateau.min_improvement = 1e-4
  plateau.min_scale = 1e-4

  # Decay of the exponential moving averages of parameters and batch statistics, which
  # validation and report then use; 0 disables averaging.
  config.ema_decay = 0.0

  # Factor from pixels 0..255 to the network's input, and the factor that replaces it
  # from epoch `second_scale_epoch` on (0: never).
  config.input = inputs = ml_collections.ConfigDict()
  inputs.scale = 1 / 255
  inputs.second_scale = 1 / 512
  inputs.second_scale_epoch = 0
  # Normalization of each channel after scaling: the network's input is (x - mean) /
  # std, as pretrained weights expect (models.from_torch has ImageNet's). () disables
  # it.
  inputs.mean = ()
  inputs.std = ()
  # Histogram equalization of gray images, after crop and resize and before augmentation
  # and scale: "none"; "always", in training and evaluation; or "random", for a share of
  # each training batch and never in evaluation, which gives one network for both forms.
  inputs.equalize = "none"
  inputs.equalize_share = 0.5  # of "random"

  config.augment = augment = ml_collections.ConfigDict()
  augment.zoom = 0.0
  augment.shear = 0.0
  augment.shift = 0.0
  augment.rotation = 0.0
  augment.flip = False
  # Random crop: pixels of padding on each side, filled by "edge", the nearest pixel,
  # "reflect", the image mirrored, or "zero".
  augment.crop_padding = 0
  augment.crop_fill = "edge"
  augment.erasing_probability = 0.0
  # Side of the cutout square, in pixels.
  augment.cutout_side = 0
  # Parameter of mixup's Beta distribution; 0 for no mixup.
  config.mixup_alpha = 0.0

  # Number of devices over which the wide dense layer is sharded (model axis); the other
  # axis shards the batch.
  config.mesh = ml_collections.ConfigDict()
  config.mesh.model = 1
  # Parts of a batch that BatchNorm normalizes separately in training; 1: the whole
  # batch, on any number of devices. The number of devices: each device its own part.
  config.batch_norm_groups = 1

  config.batch_size = 64
  config.eval_batch_size = 256
  # Test-time augmentation, reported in addition: "none", "flip" (the image and its
  # mirror image) or "ten_crop". It is never used to select the epoch.
  config.eval_augment = "none"
  # Also reports the deduplicated evaluation, without images that have a near-duplicate
  # in the splits used for training and selection. Off by default, as the search takes
  # as long as for `data.drop_duplicates`; it can be enabled in --mode=eval.
  config.evaluate_deduplicated = False
  config.num_epochs = 100
  # Early stopping: epochs without improvement of `selection_metric`; 0 disables it.
  config.early_stop_patience = 15
  # Validation metric that chooses the best checkpoint: "accuracy",
  # "balanced_accuracy", "f1_macro" (the highest wins) or "loss" (the lowest).
  config.selection_metric = "accuracy"

  config.checkpoint = checkpoint = ml_collections.ConfigDict()
  # Number of latest checkpoints kept on disk, beside the best one.
  checkpoint.keep = 2
  # Interval in minutes for saving within an epoch.
  checkpoint.minutes = 10.0

  # Optimizer steps per compiled program, between the host's checks (for progress lines,
  # signals and non-finite losses). 0: a whole epoch on accelerators and 10 on a CPU,
  # where steps are slow. SIGTERM is handled after that many.
  config.steps_per_call = 0
  # TensorBoard event files beside metrics.jsonl, where TensorFlow is installed. Off by
  # default, since only this setting imports TensorFlow in training.
  config.tensorboard = False
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
  for key, least in (
    ("seed", 0),
    ("data.seed", 0),
    ("batch_size", 1),
    ("batch_norm_groups", 1),
    ("mesh.model", 1),
    ("eval_batch_size", 1),
    ("num_epochs", 1),
    ("early_stop_patience", 0),
    ("steps_per_call", 0),
    ("mixup_alpha", 0),
    ("optimizer.gradient_clip", 0),
    ("optimizer.base_fan_in", 0),
    ("optimizer.weight_decay", 0),
    ("schedule.warmup_epochs", 0),
    ("checkpoint.keep", 1),
    ("checkpoint.minutes", 0),
    ("plateau.patience", 0),
    ("input.second_scale_epoch", 0),
    ("data.limit", 0),
    ("data.label_noise.rate", 0),
    ("data.label_noise.seed", 0),
  ):
    value = get(config, key)
    if not value >= least:
      raise ValueError(f"config.{key}: expected at least {least}, got {value}")
  if config.batch_size % config.batch_norm_groups:
    raise ValueError(
      f"config.batch_norm_groups: expected a divisor of config.batch_size, "
      f"{config.batch_size}, got {config.batch_norm_groups}"
    )
  for key in (
    "optimizer.learning_rate",
    "input.scale",
    "input.second_scale",
    "data.resident_gib",
  ):
    if not get(config, key) > 0:
      raise ValueError(f"config.{key}: expected more than 0, got {get(config, key)}")
  if config.seed >= 2**32:  # Random keys would silently drop the higher bits.
    raise ValueError(f"config.seed: expected less than 2**32, got {config.seed}")
  for key in ("optimizer.b1", "optimizer.b2", "optimizer.momentum", "ema_decay"):
    if not 0 <= get(config, key) < 1:
      raise ValueError(
        f"config.{key}: expected at least 0 and less than 1, got {get(config, key)}"
      )
  for key in ("plateau.factor", "plateau.min_improvement", "plateau.min_scale"):
    if not 0 < get(config, key) < 1:
      raise ValueError(
        f"config.{key}: expected more than 0 and less than 1, got {get(config, key)}"
      )
  for key, choices in (
    ("class_weights", ("none", "balanced")),
    ("selection_metric", ("accuracy", "balanced_accuracy", "f1_macro", "loss")),
    ("model.dtype", ("float32", "bfloat16")),
    ("data.test_split", ("test", "")),
    ("data.pipeline", ("auto", "resident", "grain")),
    ("optimizer.name", ("adam", "adamw", "sgd")),
    ("schedule.name", ("constant", "cosine")),
    ("augment.crop_fill", ("edge", "reflect", "zero")),
    ("eval_augment", ("none", "flip", "ten_crop")),
    ("input.equalize", ("none", "always", "random")),
  ):
    if get(config, key) not in choices:
      raise ValueError(
        f"config.{key}: expected one of {choices}, got {get(config, key)!r}"
      )
  check_types("config.input", config.input, {"mean": (0.5,), "std": (0.5,)})
  if len(config.input.mean) != len(config.input.std):
    raise ValueError(
      "config.input.std: expected as many numbers as config.input.mean, got "
      f"{config.input.std} beside {config.input.mean}"
    )
  if not 0 < config.input.equalize_share < 1:
    raise ValueError(
      "config.input.equalize_share: expected more than 0 and less than 1, got "
      f"{config.input.equalize_share}"
    )
  if config.init_from and config.pretrained.file:
    raise ValueError(
      "config.pretrained.file: cannot be combined with config.init_from, which is "
      f"{config.init_from!r}; set one of them"
    )
  if not 0 <= config.schedule.final_scale <= 1:
    raise ValueError(
      "config.schedule.final_scale: expected a number from 0 to 1, got "
      f"{config.schedule.final_scale}"
    )
  if config.schedule.name == "cosine" and config.plateau.patience:
    raise ValueError(
      "config.plateau.patience: expected 0 (off) beside a cosine schedule, got "
      f"{config.plateau.patience}: the learning rate would be decayed twice"
    )
  if config.eval_augment != "none" and config.data.name in _ONE_WAY_ROUND:
    raise ValueError(
      f'config.eval_augment: expected "none" for {config.data.name}, got '
      f"{config.eval_augment!r}: labels of digits are not invariant to mirroring"
    )


def without_foreign_arguments(
  config: ml_collections.ConfigDict, overridden: Collection[str]
) -> ml_collections.ConfigDict:
  """Drops the arguments of a network or loss that another one has replaced.

  `--config.model.name=...` selects another network than the config file did, whose
  arguments are not the new one's.

  Args:
    config: a config after the command's overrides.
    overridden: paths of the settings that the command overrides, as "model.name".

  Returns:
    The config; where the command names a network, loss or data set, a copy in which
    its part has the name, a network's dtype, and the arguments of the command.
  """
  replaced = [part for part in ("loss", "model") if f"{part}.name" in overridden]
  if "data.name" in overridden:
    replaced.append("data.options")
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
  check_types(path, config, default)
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
