"""EmoSynthNet on RAF-DB, basic emotions (Li et al. 2017), by the thesis's recipe.

  python -m emosynth_jax.main --config=configs/raf_db.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/raf_db.py:small      # two CPU cores

Neither has been run: RAF-DB is given out to researchers who apply for it.

Variants, joined by commas, in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small; strong, a recipe of today; the loss (ce, mse, sce, mam,
mam_sce), which replaces strong's smoothed cross-entropy.

The epoch is chosen on a tenth of the training split, held out by class; the test split
is only reported. The faces are read grey and at FER-2013's 48x48, so that a network
trained on one of FER-2013, RAF-DB and CK+ fits the others; the aligned faces have
100x100 in colour, as --config.data.options.image_size=96 and .channels=3 have them.
docs/data.md says what is looked for in config.data.data_dir.
"""

from emosynth_jax import config_variants, default_config


def get_config(variants=None):
  config = default_config.get_default_config()
  config.data.name = "raf_db"
  config.data.options.image_size = 48
  config.data.options.channels = 1
  config.class_weights = "balanced"
  config.augment.zoom = 0.2
  config.augment.shear = 0.2
  config.augment.flip = True
  config.input.second_scale_epoch = 75
  # As FER-2013's, which has faces of the same size and twice as many.
  small = {
    "model": config_variants.small_model,
    "augment": {"zoom": 0.05, "shear": 0.0, "shift": 0.04, "rotation": 5.0},
    "class_weights": "none",
    "optimizer": {"learning_rate": 4e-4},
    "plateau": {"factor": 0.3, "patience": 2},
    "input": {"second_scale_epoch": 0},
    "num_epochs": 30,
  }
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "strong": config_variants.strong_variant(cutout_side=12),
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
