"""EmoSynthNet on synthetic faces, which need no data set; run by `make demo`.

  python -m emosynth_jax.main --config=configs/synthetic_faces.py:small

Variants, joined by commas, in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small; strong, a modern training recipe, or thesis, the recipe
as printed in the thesis; the loss (ce, mse, sce, mam, mam_sce), which replaces
cross-entropy.
"""

from emosynth_jax.config import defaults
from emosynth_jax.config import variants as config_variants


def get_config(variants=None):
  config = defaults.get_default_config()
  config.data.name = "synthetic_faces"
  config_variants.update(config, config_variants.recipe())
  config.num_epochs = 20
  small = {"model": config_variants.small_model, "num_epochs": 6}
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "thesis": config_variants.thesis_variant(),
    "strong": config_variants.strong_variant(cutout_side=12),
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
