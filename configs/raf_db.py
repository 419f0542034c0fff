"""EmoSynthNet on RAF-DB, basic emotions (Li et al. 2017), with MAM-SoftMax and SCE.

  python -m emosynth_jax.main --config=configs/raf_db.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/raf_db.py:small      # two CPU cores

Not run: RAF-DB is distributed to researchers on request.

The variants after the colon: emosynth_jax/config/recipes/__init__.py.

The epoch is selected on 10 % of the training split, held out by class; the test split
is only reported. The faces are converted to gray at FER-2013's 48x48, so that a network
trained on one of FER-2013, RAF-DB and CK+ can be used on the others; the aligned faces
are 100x100 in color, for which use --config.data.options.image_size=96 and .channels=3.
docs/data.md describes the expected content of config.data.data_dir.
"""

from emosynth_jax.config import recipes

<<<<<<< HEAD

def get_config(variants=None):
  config = defaults.get_default_config()
  thesis = config_variants.thesis_variant(balanced=True)
  config.data.name = "raf_db"
  config.data.options.image_size = 48
  config.data.options.channels = 1
  config_variants.update(config, config_variants.recipe())
  # The thesis crops RAF-DB's images at random (chapter 5); the size is not stated.
  config.augment.crop_padding = thesis["augment"]["crop_padding"] = 4
  config_variants.update(config, config_variants.loss_variants()["mam_sce"])
  small = {"model": config_variants.small_model, "num_epochs": 30}
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "thesis": thesis,
    "strong": config_variants.strong_variant(cutout_side=12),
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
=======
get_config = recipes.raf_db
>>>>>>> main
