"""EmoSynthNet on FER+ (Barsoum et al. 2016): FER-2013's images, ten raters' votes.

  python -m emosynth_jax.main --config=configs/fer_plus.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/fer_plus.py:small      # two CPU cores
  python -m emosynth_jax.main --config=configs/fer_plus.py:small,votes

EmoSynthNet was not run; docs/results/fer_plus.md has the results of a small FerVGG.
Results on FER+ and on FER-2013's own labels cannot be compared: the two agree on 67 %
of the PrivateTest images.

The variants after the colon: emosynth_jax/config/recipes/__init__.py; and anywhere
votes, which trains on the votes as class probabilities instead of the majority, and
seven, for FER-2013's classes, without contempt.

The epoch is selected on PublicTest and PrivateTest is reported, both by majority, as
Barsoum et al. do. config.data.data_dir holds fer2013new.csv beside fer2013.csv, or the
folders that FER+'s script writes; docs/guides/data.md has the protocol.
"""

from emosynth_jax.config import recipes

get_config = recipes.fer_plus
