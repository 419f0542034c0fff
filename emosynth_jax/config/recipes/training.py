"""Training recipes, as changes to the default config."""

import math
from typing import Any


def recipe(*, mirrored: bool = True) -> dict[str, Any]:
  """The training recipe of every config, for EmoSynthNet of all widths.

  AdamW with warm-up and cosine decay over the config's epochs, updates scaled by a
  kernel's fan-in, averaged weights, and mild affine augmentation.
  docs/results/recipe.md has the comparison.

  Args:
    mirrored: whether mirroring preserves the class.

  Returns:
    The changes to the default config.
  """
  return {
    "class_weights": "none",
    "optimizer": {
      "name": "adamw",
      "learning_rate": 2e-3,
      "weight_decay": 0.02,
      "base_fan_in": 256,
    },
    "schedule": {"name": "cosine", "warmup_epochs": 1.0, "final_scale": 0.0},
    "plateau": {"patience": 0},
    "early_stop_patience": 0,
    "ema_decay": 0.999,
    "augment": {
      "zoom": 0.1,
      "shear": 0.0,
      "shift": 0.05,
      "rotation": 8.0,
      "flip": mirrored,
    },
    "num_epochs": 40,
  }


def thesis(*, balanced: bool = False) -> dict[str, Any]:
  """The training recipe as printed in the thesis (section 3.3.2).

  Adam at 1e-3, multiplied by 0.1 after 5 epochs without a lower validation loss, 100
  epochs without early stopping, the second input scale, 1/512, for the last quarter,
  and "zoom, shear and flip of 0.2" as Keras's ImageDataGenerator means them: its shear
  is in degrees, this project's a tangent.

  Args:
    balanced: whether the loss is weighted by class.

  Returns:
    The changes to a config of `recipe`.
  """
  return {
    "class_weights": "balanced" if balanced else "none",
    "optimizer": {
      "name": "adam",
      "learning_rate": 1e-3,
      "weight_decay": 0.0,
      "base_fan_in": 0,
    },
    "schedule": {"name": "constant", "warmup_epochs": 0.0},
    "plateau": {"factor": 0.1, "patience": 5},
    "ema_decay": 0.0,
    "input": {"scale": 1 / 255, "second_scale": 1 / 512, "second_scale_epoch": 75},
    "augment": {
      "zoom": 0.2,
      "shear": math.tan(math.radians(0.2)),
      "shift": 0.0,
      "rotation": 0.0,
    },
    "num_epochs": 100,
  }


def strong(*, cutout_side: int, mirrored: bool = True) -> dict[str, Any]:
  """Modern training recipe, under which a network is not undertrained.

  SGD with Nesterov momentum, weight decay on kernels, label smoothing, and random crops
  with cutout instead of zoom and rotation. Learning rate schedule and averaged weights
  are those of `recipe`.

  Args:
    cutout_side: in pixels.
    mirrored: whether mirroring preserves the class.

  Returns:
    The changes to a config of `recipe`.
  """
  return {
    "loss": {"name": "label_smoothing", "smoothing": 0.1},
    "optimizer": {
      "name": "sgd",
      "learning_rate": 0.01,
      "weight_decay": 5e-4,
      "base_fan_in": 0,
    },
    "augment": {
      "zoom": 0.0,
      "shift": 0.0,
      "rotation": 0.0,
      "crop_padding": 4,
      "cutout_side": cutout_side,
    },
    "eval_augment": "flip" if mirrored else "none",
  }
