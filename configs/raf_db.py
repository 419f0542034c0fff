"""EmoSynthNet on RAF-DB, basic emotions (Li et al. 2017), with MAM-SoftMax and SCE.

  python -m emosynth_jax.main --config=configs/raf_db.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/raf_db.py:small      # two CPU cores

Not run: RAF-DB is distributed to researchers on request.

Variants, joined by commas, in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small; strong, a modern training recipe, or thesis, the recipe
as printed in the thesis; the loss (ce, mse, sce, mam, mam_sce) instead of MAM-SoftMax
under SCE.

The epoch is selected on 10 % of the training split, held out by class; the test split
is only reported. The faces are converted to gray at FER-2013's 48x48, so that a network
trained on one of FER-2013, RAF-DB and CK+ can be used on the others; the aligned faces
are 100x100 in color, for which use --config.data.options.image_size=96 and .channels=3.
docs/guides/data.md describes the expected content of config.data.data_dir.
"""

from emosynth_jax.config import defaults
from emosynth_jax.config import variants as config_variants


def get_config(variants=None):
  config = defaults.get_default_config()
  config.data.name = "raf_db"
  config.data.options.image_size = 48
  config.data.options.channels = 1
  config_variants.update(config, config_variants.recipe())
  config_variants.update(config, config_variants.loss_variants()["mam_sce"])
  small = {"model": config_variants.small_model, "num_epochs": 30}
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "thesis": config_variants.thesis_variant(balanced=True),
    "strong": config_variants.strong_variant(cutout_side=12),
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
