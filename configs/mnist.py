"""EmoSynthNet on MNIST (LeCun et al. 1998) at 32x32, by the thesis's recipe.

  python -m emosynth_jax.main --config=configs/mnist.py          # full width, GPU
  python -m emosynth_jax.main --config=configs/mnist.py:small    # two CPU cores

The small run took 14 to 24 minutes on two busy cores and reached 99.27 % on the test
split (mean of seeds 0, 1, 2). At full width `:strong` was run, to 99.62 %
(docs/performance.md), not the thesis's recipe.

Variants, joined by commas, in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small; strong, a recipe of today; the loss (ce, mse, sce, mam,
mam_sce), which replaces strong's smoothed cross-entropy.

The epoch is chosen on a tenth of the training split, held out by class; the test
split is only reported. The data set is read as TFDS leaves it in array_record files
under config.data.data_dir; `python -m emosynth_jax.data.prepare mnist` makes them.
"""

from emosynth_jax import config_variants, default_config


def get_config(variants=None):
  config = default_config.get_default_config()
  config.data.name = "mnist"
  config.data.data_dir = "data/tfds"
  config.augment.zoom = 0.2
  config.augment.shear = 0.2
  config.augment.flip = False  # A mirrored digit is another sign.
  config.input.second_scale_epoch = 75
  small = {
    "model": config_variants.small_model,
    "augment": {"zoom": 0.05, "shear": 0.0, "shift": 0.05, "rotation": 5.0},
    # The first dense layer has 12,800 inputs: Adam's 1e-3 throws its sums about.
    "optimizer": {"learning_rate": 2e-4},
    "plateau": {"factor": 0.2, "patience": 1},
    "input": {"second_scale_epoch": 0},
    "num_epochs": 6,
  }
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "strong": config_variants.strong_variant(mirrored=False, cutout_side=8),
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
