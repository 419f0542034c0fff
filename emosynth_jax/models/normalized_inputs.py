"""Any network behind a normalization of its input, as pretrained weights want it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


class NormalizedInputs(nn.Module):
  """`network((images - mean) / std)`, with the network's own variables.

  Attributes:
    network: any network of `build_model`.
    mean: of each channel, in the images' own scale.
    std: of each channel, more than 0.
  """

  network: nn.Module
  mean: tuple[float, ...]
  std: tuple[float, ...]

  def setup(self):
    """Gives the parameters the paths that they have without this module."""
    nn.share_scope(self, self.network)

  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """What the network returns for the normalized images.

    Args:
      images: `(N, m, m, C)`, floating.
      train: as the network takes it.

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
