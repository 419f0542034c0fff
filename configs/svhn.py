"""EmoSynthNet on SVHN, cropped digits (Netzer et al. 2011).

  python -m emosynth_jax.main --config=configs/svhn.py          # full width, GPU
  python -m emosynth_jax.main --config=configs/svhn.py:small    # two CPU cores

The variants after the colon: emosynth_jax/config/recipes/__init__.py.

The epoch is selected on 10 % of the training split, held out by class; the test split
is only reported. The data set is read from TFDS's array_record files under
config.data.data_dir; `python -m emosynth_jax.data.prepare svhn` creates them.
"""

from emosynth_jax.config import recipes

get_config = recipes.svhn
