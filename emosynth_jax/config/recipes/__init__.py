"""The config of each data set; the files in configs/ call these functions.

Variants, joined by commas in this order: a network by its name (resnet18, vgg19, ...;
EmoSynthNet without one); small, for two CPU cores; strong, a modern training recipe, or
thesis, the recipe as printed in the thesis; the loss (ce, mse, sce, mam, mam_sce).
"""

from emosynth_jax.config.recipes.data_sets import (
  cifar10,
  ck_plus,
  fer2013,
  mnist,
  raf_db,
  svhn,
  synthetic_faces,
)

__all__ = [
  "cifar10",
  "ck_plus",
  "fer2013",
  "mnist",
  "raf_db",
  "svhn",
  "synthetic_faces",
]
