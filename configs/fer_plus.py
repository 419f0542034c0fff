"""EmoSynthNet on FER+ (Barsoum et al. 2016): FER-2013's images, ten raters' votes.

  python -m emosynth_jax.main --config=configs/fer_plus.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/fer_plus.py:small      # two CPU cores
  python -m emosynth_jax.main --config=configs/fer_plus.py:small,votes

Not run; docs/results/fer_plus.md has the commands. Results on FER+ and on FER-2013's
own labels cannot be compared: the two agree on 67 % of the PrivateTest images.

Variants, joined by commas, in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small; strong, a modern training recipe, or thesis, the recipe
as printed in the thesis; the loss (ce, mse, sce, mam, mam_sce), which replaces
cross-entropy; and, anywhere, votes, which trains on the votes as class probabilities
instead of the majority, and seven, for FER-2013's classes, without contempt.

The epoch is selected on PublicTest and PrivateTest is reported, both by majority, as
Barsoum et al. do. config.data.data_dir holds fer2013new.csv beside fer2013.csv, or the
folders that FER+'s script writes; docs/data.md has the protocol.
"""

from emosynth_jax.config import defaults
from emosynth_jax.config import variants as config_variants


def get_config(variants=None):
  config = defaults.get_default_config()
  config.data.name = "fer_plus"
  config.data.options.labels = "majority"
  config.data.options.num_classes = 8
  config_variants.update(config, config_variants.recipe())
  small = {"model": config_variants.small_model, "num_epochs": 12}
  variants_by_name = config_variants.all_variants() | {
    "small": small,
    "thesis": config_variants.thesis_variant(balanced=True),
    "strong": config_variants.strong_variant(cutout_side=12),
    "votes": {"data": {"options": {"labels": "votes"}}},
    "seven": {"data": {"options": {"num_classes": 7}}},
  }
  return config_variants.apply_variants(config, variants_by_name, variants)
