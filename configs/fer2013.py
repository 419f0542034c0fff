"""EmoSynthNet on FER-2013 (Goodfellow et al. 2013), with MAM-SoftMax and SCE.

  python -m emosynth_jax.main --config=configs/fer2013.py            # full width, GPU
  python -m emosynth_jax.main --config=configs/fer2013.py:small      # two CPU cores

docs/results/recipe.md has the results of this recipe at 1/8 width. At full width only
`:strong` was run, on Kaggle's equalized images, with 68.0 % accuracy on PrivateTest
(docs/notes/performance_diary.md). Results on those and on the original pixels of
`fer2013.csv`, which the literature uses, cannot be compared.

The variants after the colon: emosynth_jax/config/recipes/__init__.py.

The epoch is selected on PublicTest and PrivateTest is reported. The data set is the
Kaggle zip, its folder or one of the two CSV files, in config.data.data_dir.
"""

from emosynth_jax.config import recipes

get_config = recipes.fer2013
