"""EmoSynthNet on FER-2013 (Goodfellow et al. 2013), with MAM-SoftMax and SCE.

  python -m emosynth_jax.main --config=configs/fer2013.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/fer2013.py:small      # two CPU cores

docs/results/recipe.md has the results of this recipe at 1/8 width. At full width only
`:strong` was run, on Kaggle's equalized images, with 68.0 % accuracy on PrivateTest
(docs/notes/performance.md). Results on those and on the original pixels of
`fer2013.csv`, which the literature uses, cannot be compared.

Variants, joined by commas, in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small; strong, a modern training recipe, or thesis, the recipe
as printed in the thesis; the loss (ce, mse, sce, mam, mam_sce) instead of MAM-SoftMax
under SCE.

The epoch is selected on PublicTest and PrivateTest is reported. The data set is the
Kaggle zip, its folder or one of the two CSV files, in config.data.data_dir.
"""

from emosynth_jax.config import defaults
from emosynth_jax.config import variants as config_variants


def get_config(variants=None):
  config = defaults.get_default_config()
  config.data.name = "fer2013"
  config_variants.update(config, config_variants.recipe())
  config_variants.update(config, config_variants.loss_variants()["mam_sce"])
  small = {"model": config_variants.small_model, "num_epochs": 12}
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "thesis": config_variants.thesis_variant(balanced=True),
    "strong": config_variants.strong_variant(cutout_side=12),
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
