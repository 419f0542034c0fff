"""EmoSynthNet on MNIST (LeCun et al. 1998) at 32x32.

  python -m emosynth_jax.main --config=configs/mnist.py          # full width, GPU
  python -m emosynth_jax.main --config=configs/mnist.py:small    # two CPU cores

docs/results/main.md has its results.

The variants after the colon: emosynth_jax/config/recipes/__init__.py.

The epoch is selected on 10 % of the training split, held out by class; the test split
is only reported. config.data.data_dir holds the four IDX files of the data set's
authors, or TFDS's array_record files, which `python -m emosynth_jax.data.prepare
mnist` creates.
"""

from emosynth_jax.config import recipes

get_config = recipes.mnist
