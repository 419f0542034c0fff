"""EmoSynthNet on CK+ (Lucey et al. 2010), ten folds by subject, MAM-SoftMax and SCE.

  python -m emosynth_jax.main --config=configs/ck_plus.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/ck_plus.py:small      # two CPU cores

Not run: CK+ is distributed to researchers on request.

Variants, joined by commas, in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small; strong, a modern training recipe, or thesis, the recipe
as printed in the thesis; the loss (ce, mse, sce, mam, mam_sce) instead of MAM-SoftMax
under SCE.

A run is one of ten folds, --config.data.options.fold=0 to 9, each with a separate
--workdir: the epoch is selected on one fold, another is reported, and no subject is in
two folds. The result on CK+ is the mean over the ten. The thesis starts from networks
trained on FER-2013 and RAF-DB: --config.init_from=WORKDIR of such a run with the same
variants. docs/guides/data.md describes the expected content of config.data.data_dir,
and the labels of frames.
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
