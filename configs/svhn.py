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

get_config = recipes.svhn
