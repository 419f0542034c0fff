"""Every setting of a run, with its default: what a file in configs/ starts from."""

from collections.abc import Mapping
from typing import Any

import ml_collections

# These hold the arguments of whatever their name looks up.
OPEN_PARTS = ("loss", "model", "data.options")

# Data sets whose images say something else when they are mirrored.
_ONE_WAY_ROUND = ("mnist", "svhn")


def get_default_config() -> ml_collections.ConfigDict:
  """The settings that all runs share; a config file changes what is its own."""
  config = ml_collections.ConfigDict()
  config.seed = 0
  # Workdir of a trained run, to start from its best checkpoint: the same network, the
  # last layer's classes matched by name. "" starts from random parameters.
  config.init_from = ""
  # Weights of torchvision or timm to start from, a .safetensors, .npz or .pth file (see
  # docs/models.md), and layers that keep their random initialization nevertheless.
  config.pretrained = pretrained = ml_collections.ConfigDict()
  pretrained.file = ""
  pretrained.keep = ()

  config.data = data = ml_collections.ConfigDict()
  data.name = "synthetic_faces"
  # Folder (or file) of the data set. Relative paths start where the command runs.
  data.data_dir = "data"
  # Share of the training split held out, stratified by class, to choose the epoch on;
  # of no effect where the data set has a validation split of its own.
  data.validation_fraction = 0.1
  # Seed of the held-out share, of `limit` and of generated data: not that of training,
  # so that runs of several seeds see the same splits.
  data.seed = 0
  # At most so many images of each split, stratified by class; 0 for all of them.
  data.limit = 0
  # Split that is reported and never chosen on; "" where there is none.
  data.test_split = "test"
  # Trains without the images whose twin (an exact, near or mirrored duplicate) is in
  # validation or test. The search takes half a minute for 36,000 images, and four
  # times as long for twice as many.
  data.drop_duplicates = False
  # What counts as a near twin: bits of 64 in which perceptual hashes may differ, and
  # the least correlation of pixels. Chosen on faces; look at what an audit finds.
  data.twins = ml_collections.ConfigDict()
  data.twins.max_distance = 12
  data.twins.min_correlation = 0.9
  # Where images wait for their step: "resident" on the devices, "grain" on disk or in
  # the host's memory, from where Grain reads batches ahead; "auto" is "resident" for a
  # split that takes at most `resident_gib` GiB of each device. The batches are the
  # same. See docs/scaling.md.
  data.pipeline = "auto"
  data.resident_gib = 4.0
  # Further arguments of the data set's own loader.
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
  # "balanced" weighs each class by N / (K n_k), "none" all classes alike.
  config.class_weights = "none"

  config.optimizer = optimizer = ml_collections.ConfigDict()
  optimizer.name = "adam"  # or "adamw", or "sgd" with Nesterov's momentum
  optimizer.learning_rate = 1e-3
  optimizer.b1 = 0.9
  optimizer.b2 = 0.999
  optimizer.momentum = 0.9  # of "sgd"
  # Of kernels alone; of "adamw" and "sgd", where it is part of the gradient.
  optimizer.weight_decay = 0.0
  # Largest global norm of a step's gradient; 0 leaves gradients as they are.
  optimizer.gradient_clip = 0.0
  # Fan-in above which a kernel's updates shrink as base_fan_in / fan-in, so that one
  # learning rate serves layers and networks of all widths; 0: no such scaling.
  optimizer.base_fan_in = 0

  # What multiplies the learning rate of each step: "constant", or half a "cosine" down
  # to `final_scale` at the end of the last epoch; either after a linear warm-up, which
  # takes half an epoch at most in a run of one epoch.
  config.schedule = schedule = ml_collections.ConfigDict()
  schedule.name = "constant"
  schedule.warmup_epochs = 0.0
  schedule.final_scale = 0.0

  # The learning rate is also multiplied by `factor` after `patience` epochs without a
  # validation loss lower than the best by the share `min_improvement`. That loss is
  # the cross-entropy of the margin-free logits, whatever the training loss is. A
  # patience of 0 is none of this.
  config.plateau = plateau = ml_collections.ConfigDict()
  plateau.factor = 0.1
  plateau.patience = 5
  plateau.min_improvement = 1e-4
  plateau.min_scale = 1e-4

  # Decay of the moving averages of parameters and batch statistics by which the network
  # is then judged, by validation and report alike; 0: it is judged as it is.
  config.ema_decay = 0.0

  # Factor from pixels 0..255 to the network's input, and the one that replaces it
  # from epoch `second_scale_epoch` on (0: never).
  config.input = inputs = ml_collections.ConfigDict()
  inputs.scale = 1 / 255
  inputs.second_scale = 1 / 512
  inputs.second_scale_epoch = 0
  # Of each channel, after that scale: the network sees (x - mean) / std, as pretrained
  # weights expect it (models.from_torch has ImageNet's). () leaves the input alone.
  inputs.mean = ()
  inputs.std = ()
  # Histogram equalization of gray images, after crop and resize and before augmentation
  # and scale: "none", "always", in training and evaluation alike, or "random", of a
  # share of each training batch and never in evaluation: one network for both forms.
  inputs.equalize = "none"
  inputs.equalize_share = 0.5  # of "random"

  config.augment = augment = ml_collections.ConfigDict()
  augment.zoom = 0.0
  augment.shear = 0.0
  augment.shift = 0.0
  augment.rotation = 0.0
  augment.flip = False
  # Pixels added on each side, of which a random window is cut; what they show is
  # "edge", the nearest pixel, "reflect", the image mirrored, or "zero".
  augment.crop_padding = 0
  augment.crop_fill = "edge"
  augment.erasing_probability = 0.0
  # Side, in pixels, of a square that is grayed in each image.
  augment.cutout_side = 0
  # Parameter of mixup's Beta distribution; 0 for no mixup.
  config.mixup_alpha = 0.0

  # Devices that share the wide dense layer; the others share out the batch.
  config.mesh = ml_collections.ConfigDict()
  config.mesh.model = 1
  # Parts of a batch that BatchNorm normalizes apart in training; 1: the whole batch,
  # however many devices it lies on. As many as devices: each device its own part.
  config.batch_norm_groups = 1

  config.batch_size = 64
  config.eval_batch_size = 256
  # Reports the mean over views of each image as well: "flip" (the image and its mirror
  # image) or "ten_crop"; "none" does not. The epoch is never chosen by it.
  config.eval_augment = "none"
  # Evaluates a second time without the images that have a twin in the splits trained
  # and chosen on. Off by default, as the search takes as long as for
  # `data.drop_duplicates`; it may be turned on in --mode=eval.
  config.evaluate_without_twins = False
  config.num_epochs = 100
  # Epochs without a better value of `selection_metric` before training ends; 0: never.
  config.early_stop_patience = 15
  # Validation metric that chooses the best checkpoint: "accuracy",
  # "balanced_accuracy", "f1_macro" (the highest wins) or "loss" (the lowest).
  config.selection_metric = "accuracy"

  config.checkpoint = checkpoint = ml_collections.ConfigDict()
  # How many of the last checkpoints stay on disk, beside the best one.
  checkpoint.keep = 2
  # Saves within an epoch when the last save is so many minutes old.
  checkpoint.minutes = 10.0

  # Optimizer steps that run as one compiled program before the host looks (for
  # progress lines, signals and non-finite losses). 0: a whole epoch on accelerators
  # and 10 on a CPU, where a step takes long. SIGTERM is answered after as many.
  config.steps_per_call = 0
  # TensorBoard event files beside metrics.jsonl, where TensorFlow is installed. Off by
  # default, since it is the one setting that imports TensorFlow into a training.
  config.tensorboard = False
  return config


def check_config(config: ml_collections.ConfigDict) -> None:
  """Refuses settings that no part of the project knows, and impossible values.

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
  if config.seed >= 2**32:  # Random keys would drop the higher bits in silence.
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
      "config.pretrained.file: a run starts from one place, and config.init_from is "
      f"{config.init_from!r} already"
    )
  if not 0 <= config.schedule.final_scale <= 1:
    raise ValueError(
      "config.schedule.final_scale: expected a number from 0 to 1, got "
      f"{config.schedule.final_scale}"
    )
  if config.schedule.name == "cosine" and config.plateau.patience:
    raise ValueError(
      "config.plateau.patience: expected 0 (off) beside a cosine schedule, got "
      f"{config.plateau.patience}: the learning rate would fall twice"
    )
  if config.eval_augment != "none" and config.data.name in _ONE_WAY_ROUND:
    raise ValueError(
      f'config.eval_augment: expected "none" for {config.data.name}, got '
      f"{config.eval_augment!r}: a mirrored digit is another sign"
    )


def get(config: ml_collections.ConfigDict, dotted: str) -> Any:
  """The setting, or the part, of a path like "optimizer.learning_rate"."""
  for key in dotted.split("."):
    config = config[key]
  return config


def _check_keys(config, default, path):
  if path.removeprefix("config.") in OPEN_PARTS:
    return
  if unknown := sorted(set(config) - set(default)):
    raise ValueError(
      f"{path}: unknown settings {unknown}; the known ones are {sorted(default)}"
    )
  if missing := sorted(set(default) - set(config)):
    raise ValueError(f"{path}: settings {missing} are missing")
  for key in default:
    if isinstance(default[key], ml_collections.ConfigDict):
      _check_keys(config[key], default[key], f"{path}.{key}")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Nested settings by their paths, as {"optimizer.name": "adam"}.

  Args:
    tree: of `ConfigDict.to_dict`, or of a report.
    prefix: of every path.

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
