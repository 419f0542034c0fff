"""Argument checks of the networks."""

from typing import Any

import jax

from emosynth_jax.utils import errors

STEMS = ("small", "imagenet")


def check_network(
  network: Any, images: jax.Array, *fractions: str, least_side: int = 1
) -> None:
  """Checks a network's arguments and the images' shape.

  Args:
    network: the module; its `width` has to be above 0 and its `stem`, if it has one,
      one of `STEMS`.
    images: its input.
    *fractions: names of its arguments that have to be in [0, 1).
    least_side: the smallest side of an image.

  Raises:
    ValueError: naming the argument, what was expected and what was given.
  """
  if not network.width > 0:
    raise ValueError(f"width: expected more than 0, got {network.width}")
  for name in fractions:
    if not 0 <= getattr(network, name) < 1:
      raise ValueError(f"{name}: expected [0, 1), got {getattr(network, name)}")

  errors.check_choice("stem", getattr(network, "stem", "small"), STEMS)
  if images.ndim != 4 or min(images.shape[1:3]) < least_side:
    raise ValueError(
      "images: expected (N, height, width, channels) with sides of at least "
      f"{least_side}, got {images.shape}"
    )
