"""EmoSynthNet on drawn faces: needs no data set, so it is what `make demo` runs.

  python -m emosynth_jax.main --config=configs/synthetic_faces.py:small

Variants, joined by commas, in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small (two CPU cores); strong, a recipe of today; the loss
(ce, mse, sce, mam, mam_sce), which replaces strong's smoothed cross-entropy.
"""

from emosynth_jax import config_variants, default_config


def get_config(variants=None):
  config = default_config.get_default_config()
  config.data.name = "synthetic_faces"
  config.num_epochs = 20
  config.augment.flip = True
  small = {
    "model": config_variants.small_model,
    "optimizer": {"learning_rate": 4e-4},
    "plateau": {"factor": 0.3, "patience": 2},
    "num_epochs": 6,
  }
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "strong": config_variants.strong_variant(cutout_side=12),
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
