"""EmoSynthNet on CK+ (Lucey et al. 2010), ten folds by subject, MAM-SoftMax and SCE.

  python -m emosynth_jax.main --config=configs/ck_plus.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/ck_plus.py:small      # two CPU cores

Not run: CK+ is distributed to researchers on request.

The variants after the colon: emosynth_jax/config/recipes/__init__.py.

A run is one of ten folds, --config.data.options.fold=0 to 9, each with a separate
--workdir: the epoch is selected on one fold, another is reported, and no subject is in
two folds. The result on CK+ is the mean over the ten. The thesis starts from networks
trained on FER-2013 and RAF-DB: --config.init_from=WORKDIR of such a run with the same
variants. docs/guides/data.md describes the expected content of config.data.data_dir,
and the labels of frames.
"""

from emosynth_jax.config import recipes

get_config = recipes.ck_plus
