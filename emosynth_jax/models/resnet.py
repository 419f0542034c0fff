"""ResNet18 and ResNet50 (He et al., 2016), also with squeeze-and-excitation."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from emosynth_jax.models._checks import check_network
from emosynth_jax.models.ops import layers
from emosynth_jax.models.ops.convolutions import layers_of
from emosynth_jax.models.ops.squeeze_excitation import SqueezeExcitation

Array = jax.Array

_FEATURES = (64, 128, 256, 512)


class ResidualBlock(nn.Module):
  """Residual block: two 3x3 convolutions, or 1x1, 3x3 and 1x1 to 4 times the channels.

  The shortcut is the identity, or a 1x1 convolution where the shape changes. The
  stride is in the 3x3 convolution, as in torchvision; the paper has it in the 1x1.

  Attributes:
    features: channels of the 3x3 convolutions.
    stride: of the block.
    bottleneck: whether it has the 1x1 convolutions.
    conv: makes a convolution.
    norm: makes a BatchNorm.
    se_reduction: that of `ResNet`; 0 for no squeeze-and-excitation.
  """

  features: int
  stride: int
  bottleneck: bool
  conv: Callable
  norm: Callable
  se_reduction: int = 0

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps `(N, H, W, C)` to `(N, H / stride, W / stride, features or 4 features)`."""
    features, stride = self.features, self.stride
    if self.bottleneck:
      units = [(features, 1, 1), (features, 3, stride), (4 * features, 1, 1)]
    else:
      units = [(features, 3, stride), (features, 3, 1)]

    y = x
    for i, unit in enumerate(units, start=1):
      y = self.norm(name=f"norm{i}")(self.conv(*unit, name=f"conv{i}")(y))
      if i < len(units):
        y = nn.relu(y)

    if self.se_reduction:
      squeezed = max(1, y.shape[-1] // self.se_reduction)
      y = SqueezeExcitation(squeezed, y.dtype, nn.relu, name="squeeze")(y)

    if stride > 1 or x.shape[-1] != y.shape[-1]:
      x = self.conv(y.shape[-1], 1, stride, name="shortcut_conv")(x)
      x = self.norm(name="shortcut_norm")(x)

    return nn.relu(x + y)


def residual_stages(
  x: Array, sizes: Sequence[int], features: Sequence[int], **arguments: Any
) -> tuple[Array, dict[str, Array]]:
  """Applies stages of residual blocks, within a network's compact `__call__`.

  The first block of every stage but the first has stride 2.

  Args:
    x: `(N, H, W, C)`.
    sizes: number of blocks of each stage.
    features: of the blocks of each stage.
    **arguments: further ones of `ResidualBlock`, the same for all blocks.

  Returns:
    The last stage's output, and those of all by name, "stage1" and so on.
  """
  out = {}
  for i, (num_blocks, width) in enumerate(zip(sizes, features, strict=True), start=1):
    for j in range(1, num_blocks + 1):
      stride = 2 if i > 1 and j == 1 else 1
      name = f"stage{i}_block{j}"
      x = ResidualBlock(width, stride=stride, name=name, **arguments)(x)
    out[f"stage{i}"] = x
  return x, out


class ResNet(nn.Module):
  """Residual network; `ResNet18` and `ResNet50` set the number of blocks.

  Attributes:
    num_classes: K.
    width: factor on the number of channels.
    stem: "small" for a 3x3 convolution, "imagenet" for one of 7x7 with stride 2 and
      3x3 max-pooling with stride 2.
    se_reduction: ratio of each block's output channels to those of its
      squeeze-and-excitation, which follows its last BatchNorm; 0 for none, 16 in the
      paper.
    norm_momentum: decay of BatchNorm's running statistics.
    norm_epsilon: added to BatchNorm's variance.
    dtype: type of the computation, float32 or bfloat16. Parameters, statistics and
      the last layer stay in float32.

  References:
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
    Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, figure 3 and table 1.
  """

  stage_sizes: ClassVar[tuple[int, ...]]
  bottleneck: ClassVar[bool]

  num_classes: int
  width: float = 1.0
  stem: str = "small"
  se_reduction: int = 0
  norm_momentum: float = 0.9
  norm_epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Computes the logits.

    Args:
      images: `(N, H, W, C)`, floating.
      train: whether BatchNorm uses and updates the batch's statistics (collection
        "batch_stats").

    Returns:
      The logits `(N, K)` in float32, and a dictionary: "stage1" to "stage4", the
      feature maps after each stage, and "pre_logits" `(N, D)`, the last layer's input.

    Raises:
      ValueError: if an argument is out of its range or the images' shape does not fit.
    """
    check_network(self, images, "norm_momentum")
    if self.se_reduction < 0:
      raise ValueError(f"se_reduction: expected 0 or more, got {self.se_reduction}")

    conv, norm = layers_of(self, train=train)
    features = [max(1, round(f * self.width)) for f in _FEATURES]
    x = jnp.asarray(images, self.dtype)
    size, stride = (3, 1) if self.stem == "small" else (7, 2)
    x = conv(features[0], size, stride, name="stem_conv")(x)
    x = nn.relu(norm(name="stem_norm")(x))
    if self.stem == "imagenet":
      x = layers.max_pool_3x3(x, stride=2)
    x, out = residual_stages(
      x,
      self.stage_sizes,
      features,
      bottleneck=self.bottleneck,
      conv=conv,
      norm=norm,
      se_reduction=self.se_reduction,
    )
    out["pre_logits"] = x = x.mean((1, 2))
    logits = nn.Dense(self.num_classes, dtype=jnp.float32, name="logits")(x)
    return logits, out


class ResNet18(ResNet):
  """Stages of two blocks of two 3x3 convolutions; see `ResNet`."""

  stage_sizes: ClassVar = (2, 2, 2, 2)
  bottleneck: ClassVar = False


class ResNet50(ResNet):
  """Stages of 3, 4, 6 and 3 bottleneck blocks; see `ResNet`."""

  stage_sizes: ClassVar = (3, 4, 6, 3)
  bottleneck: ClassVar = True
