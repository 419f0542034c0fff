"""EmoSynthNet on SVHN, cropped digits (Netzer et al. 2011).

  python -m emosynth_jax.main --config=configs/svhn.py          # full width, GPU
  python -m emosynth_jax.main --config=configs/svhn.py:small    # two CPU cores

The variants after the colon: emosynth_jax/config/recipes/__init__.py.

The epoch is selected on 10 % of the training split, held out by class; the test split
is only reported. config.data.data_dir holds the .mat files of the data set's
authors, or TFDS's array_record files, which `python -m emosynth_jax.data.prepare
svhn` creates.
The loss is weighted by class. --config.data.options.with_extra=True also trains on the
531,131 easier images of the split extra.
"""

from emosynth_jax.config import recipes

<<<<<<< HEAD

def get_config(variants=None):
  config = defaults.get_default_config()
  config.data.name = "svhn"
  config.data.data_dir = "data/tfds"
  config_variants.update(config, config_variants.recipe(mirrored=False))
  config.class_weights = "balanced"  # A fifth of the digits are 1, a sixteenth are 9.
  small = {"model": config_variants.small_model, "num_epochs": 8}
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "thesis": config_variants.thesis_variant(mirrored=False, balanced=True),
    "strong": config_variants.strong_variant(mirrored=False, cutout_side=8),
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
=======
get_config = recipes.svhn
>>>>>>> main
