"""Argument checks of the comparison networks."""

from collections.abc import Mapping

import jax

from emosynth_jax.utils import errors

STEMS = ("small", "imagenet")


def check_network(
  images: jax.Array,
  *,
  width: float,
  fractions: Mapping[str, float],
  stem: str = "small",
  least_side: int = 1,
) -> None:
  """Checks the arguments and the images' shape.

  Args:
    images: the network's input.
    width: factor on the number of channels.
    fractions: arguments that have to be in [0, 1), by name.
    stem: one of `STEMS`.
    least_side: the smallest side of an image.

  Raises:
    ValueError: naming the argument, what was expected and what was given.
  """
  if not width > 0:
    raise ValueError(f"width: expected more than 0, got {width}")
  for name, value in fractions.items():
    if not 0 <= value < 1:
      raise ValueError(f"{name}: expected [0, 1), got {value}")

  errors.check_choice("stem", stem, STEMS)
  if images.ndim != 4 or min(images.shape[1:3]) < least_side:
    raise ValueError(
      "images: expected (N, height, width, channels) with sides of at least "
      f"{least_side}, got {images.shape}"
    )
