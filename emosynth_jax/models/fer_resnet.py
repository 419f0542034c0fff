"""Residual network for small faces whose stem halves the image."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from emosynth_jax.models._checks import check_network
from emosynth_jax.models.ops.convolutions import layers_of
from emosynth_jax.models.resnet import residual_stages

Array = jax.Array

_FEATURES = (64, 128, 256)


class FerResNet(nn.Module):
  """Stem of 5x5 with stride 2, then three stages of residual blocks.

  No convolution runs over the whole image, and all but the stem have enough channels
  for a CPU's fast forms: more of a CPU's time goes into multiply-adds than in `FerVGG`.

  Attributes:
    num_classes: K.
    width: factor on the number of channels of every convolution, 64, 128 and 256.
    blocks: number of residual blocks of two 3x3 convolutions in each stage; the first
      block of the second and of the third has stride 2.
    dropout_rate: rate of the embedding.
    norm_momentum: decay of BatchNorm's running statistics.
    norm_epsilon: added to BatchNorm's variance.
    dtype: type of the computation, float32 or bfloat16. Parameters, statistics and
      the last layer stay in float32.

  References:
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2,
    for the blocks. The stem is this project's.
  """

  num_classes: int
  width: float = 1.0
  blocks: tuple[int, ...] = (1, 2, 2)
  dropout_rate: float = 0.2
  norm_momentum: float = 0.9
  norm_epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Computes the logits.

    Args:
      images: `(N, m, m, C)`, floating, m at least 8.
      train: whether BatchNorm uses and updates the batch's statistics (collection
        "batch_stats") and dropout is on (random stream "dropout").

    Returns:
      The logits `(N, K)` in float32, and a dictionary: "stage1" to "stage3"
      `(N, m/2^i, m/2^i, .)`, and "pre_logits" `(N, D)`, the last layer's input.

    Raises:
      ValueError: if an argument is out of its range or the images' shape does not fit.
    """
    check_network(self, images, "dropout_rate", "norm_momentum", least_side=8)
    if len(self.blocks) != len(_FEATURES) or min(self.blocks) < 1:
      raise ValueError(
        f"blocks: expected {len(_FEATURES)} numbers of at least 1, got {self.blocks}"
      )

    conv, norm = layers_of(self, train=train)
    features = [max(1, round(f * self.width)) for f in _FEATURES]
    x = jnp.asarray(images, self.dtype)
    x = nn.relu(norm(name="stem_norm")(conv(features[0], 5, 2, name="stem_conv")(x)))
    x, out = residual_stages(
      x, self.blocks, features, bottleneck=False, conv=conv, norm=norm
    )

    x = nn.Dropout(self.dropout_rate, deterministic=not train)(x.mean((1, 2)))
    out["pre_logits"] = x
    logits = nn.Dense(self.num_classes, dtype=jnp.float32, name="logits")(x)
    return logits, out
