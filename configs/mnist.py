"""EmoSynthNet on MNIST (LeCun et al. 1998) at 32x32.

  python -m emosynth_jax.main --config=configs/mnist.py          # full width, GPU
  python -m emosynth_jax.main --config=configs/mnist.py:small    # two CPU cores

With the recipe of commit ed3d4d7 the small run reached 99.27 % on the test split (mean
of seeds 0, 1, 2); at full width `:strong` reached 99.62 %
(docs/notes/performance_diary.md).
The current recipe was not run to completion.

The variants after the colon: emosynth_jax/config/recipes/__init__.py.

The epoch is selected on 10 % of the training split, held out by class; the test split
is only reported. config.data.data_dir holds the four IDX files of the data set's
authors, or TFDS's array_record files, which `python -m emosynth_jax.data.prepare
mnist` creates.
"""

from emosynth_jax.config import recipes

get_config = recipes.mnist
