"""The recipe of `experiments.fer2013_record`: its networks, settings, and their time.

Nothing here was tuned. Learning rate, weight decay, mixup and augmentation are those
that recipes for CIFAR and FER-2013 have in common; the radius is that of Foret et al.
(2021) for CIFAR-10.
"""

from typing import Any, NamedTuple

import ml_collections

from emosynth_jax.config import defaults, recipes, variants
from emosynth_jax.data.datasets import fer2013
from emosynth_jax.models import build_model, cost
from emosynth_jax.utils import text_table

# Number of folds and teachers.
FOLDS = 3
# Of the teachers beside the label, and by which their logits are divided.
WEIGHT, TEMPERATURE = 0.7, 1.0
TEACHER = "teachers"
# The views among which each student's are chosen, see `config.eval_augment`.
VIEWS = ("none", "flip", "ten_crop")
# Share of the width, and numbers of epochs, in a rehearsal.
_REHEARSED_WIDTH = 1 / 8
_REHEARSED_EPOCHS = {"teacher": 2, "student": 3}
# A student's last epochs, as a share, that take the sharpness-aware gradient.
_SHARP_SHARE = 0.2


class Network(NamedTuple):
  """A network of the recipe.

  Attributes:
    model: `config.model`, without the dtype.
    epochs: of its training.
    group: the students of a group are alternatives, of which one is chosen on the
      validation split and reads the test split; "" for the teachers.
    utilization: assumed share of the device's peak that its training steps reach.
      Measured was 0.31, of EmoSynthNet (docs/notes/performance_diary.md).
  """

  model: dict[str, Any]
  epochs: int
  group: str
  utilization: float


_RESNET = {"name": "resnet18", "se_reduction": 16, "width": 1.0}
NETWORKS = {
  TEACHER: Network(_RESNET, 30, "", 0.25),
  "resnet18_se": Network(_RESNET, 300, "record", 0.25),
  # At most a million parameters: 4 MB in float32.
  "fer_resnet": Network(
    {"name": "fer_resnet", "width": 0.6, "dropout_rate": 0.1}, 120, "4 MB", 0.05
  ),
  "fer_vgg": Network(
    {
      "name": "fer_vgg",
      "width": 0.45,
      "head": "mean",
      "dense_features": (),
      "dropout_rate": 0.1,
    },
    120,
    "4 MB",
    0.05,
  ),
}
STUDENTS = tuple(name for name in NETWORKS if name != TEACHER)

_SETTINGS: dict[str, Any] = {
  "class_weights": "none",
  "loss": {"name": "cross_entropy"},
  "optimizer": {
    "name": "sgd",
    "learning_rate": 0.2,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "base_fan_in": 0,
  },
  "schedule": {"name": "cosine", "warmup_epochs": 5.0, "final_scale": 0.0},
  "ema_decay": 0.999,
  "mixup_alpha": 0.2,
  "augment": {
    "zoom": 0.15,
    "rotation": 12.0,
    "shift": 0.06,
    "shear": 0.0,
    "flip": True,
    "erasing_probability": 0.5,
  },
  "batch_size": 256,
  "eval_batch_size": 1024,
  "evaluate_every": 5,
  "selection_metric": "accuracy",
  "data": {"test_split": ""},
}


def build_config(
  name: str, *, data_dir: str | None, is_rehearsal: bool = False
) -> ml_collections.ConfigDict:
  """Builds the config of the teachers or of a student.

  The test split is none of it: the student that is chosen reads it at the end.

  Args:
    name: one of `NETWORKS`.
    data_dir: FER-2013; None for synthetic faces, in a rehearsal.
    is_rehearsal: whether at an eighth of the width, on few images and epochs.

  Returns:
    A checked config, without the soft labels.

  Raises:
    ValueError: if there is no data and it is no rehearsal.
  """
  if data_dir is None and not is_rehearsal:
    raise ValueError("--data_dir: expected FER-2013's file or folder")
  network = NETWORKS[name]
  config = recipes.synthetic_faces() if data_dir is None else recipes.fer2013()
  if data_dir is not None:
    config.data.data_dir = data_dir

  is_teacher = name == TEACHER
  changes = {"model": {"dtype": "bfloat16", **network.model}}
  variants.update(config, _SETTINGS | changes)
  config.num_epochs = network.epochs
  if is_teacher:
    # The students' labels are soft by the teachers.
    config.loss = ml_collections.ConfigDict(
      {"name": "label_smoothing", "smoothing": 0.1}
    )
  if is_rehearsal:
    _shrink(config, "teacher" if is_teacher else "student")
  if not is_teacher:
    sharp = max(1, round(_SHARP_SHARE * config.num_epochs))
    config.sam.radius = 0.05
    config.sam.first_epoch = config.num_epochs - sharp + 1
  defaults.check_config(config)
  return config


def _shrink(config: ml_collections.ConfigDict, kind: str) -> None:
  """Changes a config to that of a rehearsal."""
  config.model.width *= _REHEARSED_WIDTH
  config.model.dtype = "float32"
  config.num_epochs = _REHEARSED_EPOCHS[kind]
  config.schedule.warmup_epochs = 0.5
  config.optimizer.learning_rate = 0.05
  config.ema_decay = 0.5
  config.batch_size = 16
  config.evaluate_every = 1
  config.data.limit = 112


_NUM_IMAGES, _IMAGE_SHAPE = fer2013.COUNTS["Training"], (48, 48, 1)
# What an estimate assumes of one NVIDIA H200: the data sheet's FLOP/s in bfloat16,
# without sparsity, and seconds, after those of docs/notes/performance_diary.md.
_PEAK = 989e12
_ASSUMED_SECONDS = {
  "start": 20.0,  # JAX, and decoding the images
  "near-duplicates": 30.0,  # of 28,709 images
  "training program": 45.0,  # to compile; 44 were measured
  "forward program": 5.0,
  "validation": 0.3,  # and a gigabyte of a checkpoint:
  "gigabyte": 1.6,
  "report": 10.0,
}


def estimate() -> list[tuple[str, float, float]]:
  """Estimates the seconds of the command on one H200, part by part.

  A training image takes 6 FLOP a multiply-add of the forward pass, twice that where the
  gradient is sharpness-aware.

  Returns:
    For each part its name, the seconds of its training steps, and those of compilation,
    validation and files.
  """
  seconds = _ASSUMED_SECONDS
  start = seconds["start"] + seconds["near-duplicates"]
  found = [("data and near-duplicates", 0.0, start)]
  for name, network in NETWORKS.items():
    config = build_config(name, data_dir="data")
    arguments = {k: v for k, v in network.model.items() if k != "name"}
    model = build_model(network.model["name"], num_classes=7, **arguments)
    counts = cost.count(model, _IMAGE_SHAPE)

    passes = float(config.num_epochs)
    if config.sam.radius:
      passes += config.num_epochs - config.sam.first_epoch + 1
    if name == TEACHER:
      passes *= FOLDS - 1  # Each of the teachers sees all folds but one.
    flop = 6 * counts.multiply_adds * _NUM_IMAGES * passes

    rest = seconds["training program"]
    # Parameters, momentum and averages in float32.
    gigabytes = 3 * 4e-9 * counts.parameters
    if name == TEACHER:
      rest += seconds["forward program"] + FOLDS * gigabytes * seconds["gigabyte"]
    else:
      rest += seconds["forward program"] * (1 + len(VIEWS))
      validations = config.num_epochs / config.evaluate_every
      rest += validations * (seconds["validation"] + gigabytes * seconds["gigabyte"])
    found.append((name, flop / (network.utilization * _PEAK), rest))

  groups = {NETWORKS[name].group for name in STUDENTS}
  last = len(groups) * (3 * seconds["forward program"] + seconds["report"])
  return [*found, ("chosen students on both splits", 0.0, last)]


def describe_estimate() -> str:
  """The estimate as a table, with what it assumes."""
  parts = estimate()
  rows = [["", "steps, s", "rest, s"]]
  rows += [[name, f"{steps:.0f}", f"{rest:.0f}"] for name, steps, rest in parts]
  total = sum(steps + rest for _, steps, rest in parts)
  utilizations = ", ".join(
    f"{100 * network.utilization:.0f} % ({name})" for name, network in NETWORKS.items()
  )
  seconds = ", ".join(f"{name} {value:g}" for name, value in _ASSUMED_SECONDS.items())
  return "\n".join(
    [
      "Estimate for one NVIDIA H200; not measured.",
      "",
      *text_table.align(rows),
      "",
      f"{total / 60:.1f} minutes in all.",
      f"Assumed: {_PEAK / 1e12:.0f} TFLOP/s in bfloat16, of which the training steps "
      f"reach {utilizations};",
      f"seconds: {seconds}.",
    ]
  )
