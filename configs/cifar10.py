"""EmoSynthNet on CIFAR-10 (Krizhevsky 2009), by the thesis's recipe.

  python -m emosynth_jax.main --config=configs/cifar10.py          # full width, GPU
  python -m emosynth_jax.main --config=configs/cifar10.py:small    # two CPU cores

Variants, joined by commas, in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small; strong, a recipe of today; the loss (ce, mse, sce, mam,
mam_sce), which replaces strong's smoothed cross-entropy.

The epoch is chosen on a tenth of the training split, held out by class; the test
split is only reported. The data set is read as TFDS leaves it in array_record files
under config.data.data_dir; `python -m emosynth_jax.data.prepare cifar10` makes them.
"""

from emosynth_jax import config_variants, default_config


def get_config(variants=None):
  config = default_config.get_default_config()
  config.data.name = "cifar10"
  config.data.data_dir = "data/tfds"
  config.augment.zoom = 0.2
  config.augment.shear = 0.2
  config.augment.flip = True
  config.input.second_scale_epoch = 75
  small = {
    "model": config_variants.small_model,
    "augment": {"zoom": 0.05, "shear": 0.0, "shift": 0.05, "rotation": 5.0},
    # The first dense layer has 12,800 inputs: Adam's 1e-3 throws its sums about.
    "optimizer": {"learning_rate": 4e-4},
    "plateau": {"factor": 0.3, "patience": 2},
    "input": {"second_scale_epoch": 0},
    "num_epochs": 14,
  }
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "strong": config_variants.strong_variant(cutout_side=8),
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
