"""Input normalization in front of any network: fixed, or of each image by its own."""

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array

# Added to an image's variance: about that of noise of one gray level, in pixels / 255,
# which would otherwise fill an image of one color.
NOISE = 1e-5


class NormalizedInputs(nn.Module):
  """`network((images - mean) / std)`, with the network's variables.

  Attributes:
    network: any network of `build_model`.
    mean: of each channel, in the images' own scale.
    std: of each channel, more than 0.
  """

  network: nn.Module
  mean: tuple[float, ...]
  std: tuple[float, ...]

  def setup(self):
    """Keeps the parameters' paths the same as without this module."""
    nn.share_scope(self, self.network)

  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Applies the network to the normalized images.

    Args:
      images: `(N, m, m, C)`, floating.
      train: as for the network.

    Returns:
      The logits and the dictionary of the network.

    Raises:
      ValueError: if mean and std are not C numbers, or a std is not above 0.
    """
    channels = images.shape[-1]
    for name in ("mean", "std"):
      if len(getattr(self, name)) != channels:
        raise ValueError(
          f"input.{name}: expected {channels} numbers, one a channel, got "
          f"{getattr(self, name)}"
        )

    if not min(self.std) > 0:
      raise ValueError(f"input.std: expected numbers above 0, got {self.std}")
    mean, std = (
      jnp.asarray(x, images.dtype)[None, None, None] for x in (self.mean, self.std)
    )
    return self.network((images - mean) / std, train=train)


class StandardizedInputs(nn.Module):
  """`network` of images of mean 0 and variance 1, with the network's variables.

  Light and contrast of an image, as far as they multiply its pixels and add to them,
  then hardly change the answer.

  Attributes:
    network: any network of `build_model`.
  """

  network: nn.Module

  def setup(self):
    """Keeps the parameters' paths the same as without this module."""
    nn.share_scope(self, self.network)

  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Applies the network to the standardized images.

    Args:
      images: `(N, m, m, C)`, floating; each is standardized over its pixels and
        channels.
      train: as for the network.

    Returns:
      The logits and the dictionary of the network.
    """
    centered = images - images.mean((1, 2, 3), keepdims=True)
    # Again, since rounding of the mean is all that a constant image has.
    centered -= centered.mean((1, 2, 3), keepdims=True)
    variance = (centered * centered).mean((1, 2, 3), keepdims=True)
    return self.network(centered / jnp.sqrt(variance + NOISE), train=train)


# Modules around a network, which is their attribute `network`.
WRAPPERS = (NormalizedInputs, StandardizedInputs)
