"""EmoSynthNet on CIFAR-10 (Krizhevsky 2009).

  python -m emosynth_jax.main --config=configs/cifar10.py          # full width, GPU
  python -m emosynth_jax.main --config=configs/cifar10.py:small    # two CPU cores

The variants after the colon: emosynth_jax/config/recipes/__init__.py.

The epoch is selected on 10 % of the training split, held out by class; the test split
is only reported. config.data.data_dir holds the Python version of its authors, or
TFDS's array_record files, which `python -m emosynth_jax.data.prepare cifar10` creates.
"""

from emosynth_jax.config import recipes

get_config = recipes.cifar10
