"""Input normalization in front of any network, as pretrained weights expect."""

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


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
