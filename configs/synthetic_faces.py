"""EmoSynthNet on drawn faces: needs no data set, so it is what `make demo` runs.

  python -m emosynth_jax.main --config=configs/synthetic_faces.py:small

Variants, joined by commas: ce, mse, sce, mam (the loss), small (two CPU cores).
"""

from emosynth_jax import default_config


def get_config(variants=None):
  config = default_config.get_default_config()
  config.data.name = "synthetic_faces"
  config.num_epochs = 20
  config.augment.flip = True
  small = {
    "model": default_config.SMALL_MODEL,
    "optimizer": {"learning_rate": 4e-4},
    "plateau": {"factor": 0.3, "patience": 2},
    "num_epochs": 6,
  }
  return default_config.apply_variants(
    config, default_config.loss_variants() | {"small": small}, variants
  )
