"""EmoSynthNet on CK+ (Lucey et al. 2010), ten folds by subject, by MAM-SoftMax and SCE.

  python -m emosynth_jax.main --config=configs/ck_plus.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/ck_plus.py:small      # two CPU cores

Neither has been run: CK+ is given out to researchers who apply for it.

Variants, joined by commas, in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small; strong, a modern recipe, or thesis, the recipe as the
thesis prints it; the loss (ce, mse, sce, mam, mam_sce) instead of MAM-SoftMax under
SCE.

A run is one of ten turns, --config.data.options.fold=0 to 9, with a --workdir of its
own: the epoch is chosen on one fold, another is reported, and nobody is in two. The
figure of CK+ is the mean over the ten. The thesis starts from networks trained on
FER-2013 and RAF-DB: --config.init_from=WORKDIR of such a run with the same variants.
docs/data.md says what is looked for in config.data.data_dir, and how frames become
labels.
"""

from emosynth_jax.config import defaults
from emosynth_jax.config import variants as config_variants


def get_config(variants=None):
  config = defaults.get_default_config()
  config.data.name = "ck_plus"
  config.data.options.fold = 0
  config.batch_size = 32  # 981 images in all.
  config_variants.update(config, config_variants.recipe())
  config_variants.update(config, config_variants.loss_variants()["mam_sce"])
  small = {"model": config_variants.small_model, "num_epochs": 60}
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "thesis": config_variants.thesis_variant(balanced=True),
    "strong": config_variants.strong_variant(cutout_side=12),
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
