"""DenseNet121 (Huang et al., 2017)."""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from emosynth_jax.models._checks import check_network
from emosynth_jax.models.ops import layers
from emosynth_jax.models.ops.convolutions import layers_of

Array = jax.Array

_GROWTH = 32


class DenseLayer(nn.Module):
  """BatchNorm, ReLU, 1x1 convolution, the same with 3x3; output joins the input."""

  growth: int
  drop_rate: float
  deterministic: bool
  conv: Callable
  norm: Callable

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps `(N, H, W, C)` to `(N, H, W, C + growth)`."""
    y = self.conv(4 * self.growth, 1, name="conv1")(nn.relu(self.norm(name="norm1")(x)))
    y = self.conv(self.growth, 3, name="conv2")(nn.relu(self.norm(name="norm2")(y)))
    y = nn.Dropout(self.drop_rate, deterministic=self.deterministic)(y)
    return jnp.concatenate([x, y], axis=-1)


class DenseNet121(nn.Module):
  """Four blocks of 6, 12, 24 and 16 dense layers of 32 channels each.

  Between the blocks a 1x1 convolution halves the channels and 2x2 average pooling the
  sides (compression 0.5, bottleneck layers: "BC").

  Attributes:
    num_classes: K.
    width: factor on the growth rate, the channels that a layer adds (32 at width 1).
    stem: "small" for a 3x3 convolution, "imagenet" for one of 7x7 with stride 2 and
      3x3 max-pooling with stride 2.
    drop_rate: dropout after every dense layer's last convolution. The paper has 0.2
      where there is no augmentation, and none otherwise.
    norm_momentum: decay of BatchNorm's running statistics.
    norm_epsilon: added to BatchNorm's variance.
    dtype: type of the computation, float32 or bfloat16. Parameters, statistics and
      the last layer stay in float32.

  References:
    Huang et al., "Densely Connected Convolutional Networks", CVPR 2017, table 1.
  """

  block_sizes: ClassVar[tuple[int, ...]] = (6, 12, 24, 16)

  num_classes: int
  width: float = 1.0
  stem: str = "small"
  drop_rate: float = 0.0
  norm_momentum: float = 0.9
  norm_epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Computes the logits.

    Args:
      images: `(N, H, W, C)`, floating, sides of at least 8, or 29 with "imagenet".
      train: whether BatchNorm uses and updates the batch's statistics (collection
        "batch_stats") and dropout is on (random stream "dropout").

    Returns:
      The logits `(N, K)` in float32, and a dictionary: "stage1" to "stage4", the
      feature maps after each dense block, and "pre_logits" `(N, D)`, the last layer's
      input.

    Raises:
      ValueError: if an argument is out of its range or the images' shape does not fit.
    """
    least_side = 8 if self.stem == "small" else 29
    check_network(self, images, "drop_rate", "norm_momentum", least_side=least_side)
    conv, norm = layers_of(self, train=train)
    growth = max(1, round(_GROWTH * self.width))
    x = jnp.asarray(images, self.dtype)
    size, stride = (3, 1) if self.stem == "small" else (7, 2)
    x = conv(2 * growth, size, stride, name="stem_conv")(x)
    x = nn.relu(norm(name="stem_norm")(x))
    if self.stem == "imagenet":
      x = layers.max_pool_3x3(x, stride=2)
    out = {}

    for i, num_layers in enumerate(self.block_sizes, start=1):
      if i > 1:
        x = nn.relu(norm(name=f"transition{i - 1}_norm")(x))
        x = conv(x.shape[-1] // 2, 1, name=f"transition{i - 1}_conv")(x)
        x = layers.average_pool(x, 2, 2)
      for j in range(1, num_layers + 1):
        layer = DenseLayer(
          growth, self.drop_rate, not train, conv, norm, name=f"block{i}_layer{j}"
        )
        x = layer(x)
      out[f"stage{i}"] = x

    x = nn.relu(norm(name="last_norm")(x))
    out["pre_logits"] = x = x.mean((1, 2))
    logits = nn.Dense(self.num_classes, dtype=jnp.float32, name="logits")(x)
    return logits, out
