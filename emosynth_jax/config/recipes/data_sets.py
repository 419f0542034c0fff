"""One function a data set, with the variants of its config file."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from emosynth_jax.config import defaults
from emosynth_jax.config import variants as config_variants
from emosynth_jax.config.recipes import training

# The thesis's loss on faces, MAM-SoftMax + SCE: of FER-2013, RAF-DB and CK+.
_FACES = {"loss": config_variants.loss_variants()["mam_sce"]["loss"]}


def cifar10(variants: str | None = None) -> ml_collections.ConfigDict:
  """Config of EmoSynthNet on CIFAR-10 (Krizhevsky 2009)."""
  data = {"name": "cifar10", "data_dir": "data/tfds"}
  return _make({"data": data}, variants, small_epochs=14, cutout_side=8)


def mnist(variants: str | None = None) -> ml_collections.ConfigDict:
  """Config of EmoSynthNet on MNIST (LeCun et al. 1998) at 32x32."""
  data = {"name": "mnist", "data_dir": "data/tfds"}
  return _make({"data": data}, variants, small_epochs=6, cutout_side=8, mirrored=False)


def svhn(variants: str | None = None) -> ml_collections.ConfigDict:
  """Config of EmoSynthNet on SVHN, cropped digits (Netzer et al. 2011)."""
  data = {"name": "svhn", "data_dir": "data/tfds"}
  # A fifth of the digits are 1, a sixteenth are 9.
  changes = {"data": data, "class_weights": "balanced"}
  return _make(
    changes, variants, small_epochs=8, cutout_side=8, mirrored=False, balanced=True
  )


def synthetic_faces(variants: str | None = None) -> ml_collections.ConfigDict:
  """Config of EmoSynthNet on synthetic faces, which need no data set."""
  changes = {"data": {"name": "synthetic_faces"}, "num_epochs": 20}
  return _make(changes, variants, small_epochs=6)


def fer2013(variants: str | None = None) -> ml_collections.ConfigDict:
  """Config of EmoSynthNet on FER-2013 (Goodfellow et al. 2013)."""
  changes = _FACES | {"data": {"name": "fer2013"}}
  return _make(changes, variants, small_epochs=12, balanced=True)


def fer_plus(variants: str | None = None) -> ml_collections.ConfigDict:
  """Config of EmoSynthNet on FER+ (Barsoum et al. 2016).

  Two more variants: "votes" trains on the raters' votes, "seven" leaves out contempt.
  """
  options = {"labels": "majority", "num_classes": 8}
  more: dict[str, Mapping[str, Any]] = {
    "votes": {"data": {"options": {"labels": "votes"}}},
    "seven": {"data": {"options": {"num_classes": 7}}},
  }
  changes = {"data": {"name": "fer_plus", "options": options}}
  return _make(changes, variants, small_epochs=12, balanced=True, more=more)


def raf_db(variants: str | None = None) -> ml_collections.ConfigDict:
  """Config of EmoSynthNet on RAF-DB, basic emotions (Li et al. 2017)."""
  # As FER-2013's images, so that a network of one can be used on the other.
  options = {"image_size": 48, "channels": 1}
  # The thesis crops at random (chapter 5), by a size that it does not state.
  changes = _FACES | {"data": {"name": "raf_db", "options": options}}
  config = _make(changes, variants, small_epochs=30, balanced=True)
  config.augment.crop_padding = 4  # whatever the variant
  return config


def ck_plus(variants: str | None = None) -> ml_collections.ConfigDict:
  """Config of EmoSynthNet on CK+ (Lucey et al. 2010), ten folds by subject."""
  changes = _FACES | {
    "data": {"name": "ck_plus", "options": {"fold": 0}},
    "batch_size": 32,  # 981 images in all.
  }
  return _make(changes, variants, small_epochs=60, balanced=True)


def _make(
  changes: Mapping[str, Any],
  variants: str | None,
  *,
  small_epochs: int,
  cutout_side: int = 12,
  mirrored: bool = True,
  balanced: bool = False,
  more: Mapping[str, Mapping] = {},
) -> ml_collections.ConfigDict:
  """Makes a data set's config: the recipe, its own changes, and the variants."""
  config = defaults.get_default_config()
  config_variants.update(config, training.recipe(mirrored=mirrored))
  config_variants.update(config, changes)
  own = {
    "small": {"model": config_variants.small_model, "num_epochs": small_epochs},
    "thesis": training.thesis(balanced=balanced),
    "strong": training.strong(mirrored=mirrored, cutout_side=cutout_side),
  }
  every = config_variants.all_variants() | own | dict(more)
  return config_variants.apply_variants(config, every, variants)
