"""EmoSynthNet on RAF-DB, basic emotions (Li et al. 2017), with MAM-SoftMax and SCE.

  python -m emosynth_jax.main --config=configs/raf_db.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/raf_db.py:small      # two CPU cores

Not run: RAF-DB is distributed to researchers on request.

The variants after the colon: emosynth_jax/config/recipes/__init__.py.

The epoch is selected on 10 % of the training split, held out by class; the test split
is only reported. The faces are converted to gray at FER-2013's 48x48, so that a network
trained on one of FER-2013, RAF-DB and CK+ can be used on the others; the aligned faces
are 100x100 in color, for which use --config.data.options.image_size=96 and .channels=3.
docs/guides/data.md describes the expected content of config.data.data_dir.
"""

from emosynth_jax.config import recipes

get_config = recipes.raf_db
