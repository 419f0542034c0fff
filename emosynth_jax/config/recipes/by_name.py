"""The config file of a recipe's name: `--config=fer2013:small` needs no file."""

import ml_collections

from emosynth_jax.config import recipes


def get_config(name_and_variants: str) -> ml_collections.ConfigDict:
  """Makes the config of "NAME:VARIANTS"."""
  name, _, variants = name_and_variants.partition(":")
  return getattr(recipes, name)(variants or None)
