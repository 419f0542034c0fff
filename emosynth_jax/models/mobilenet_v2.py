"""MobileNetV2, and the inverted residual block that EfficientNet uses too."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from emosynth_jax.models._checks import check_network
from emosynth_jax.models.ops.convolutions import he_depthwise, layers_of
from emosynth_jax.models.ops.squeeze_excitation import SqueezeExcitation

Array = jax.Array


class Stage(NamedTuple):
  """A row of the papers' tables."""

  expansion: int
  kernel_size: int
  features: int
  num_blocks: int
  stride: int


# Table 2 of the paper. The small stem takes the first convolution and the first
# downsampling stage with stride 1, so that sides of 32 end at 4.
STAGES = (
  Stage(1, 3, 16, 1, 1),
  Stage(6, 3, 24, 2, 2),
  Stage(6, 3, 32, 3, 2),
  Stage(6, 3, 64, 4, 2),
  Stage(6, 3, 96, 3, 1),
  Stage(6, 3, 160, 3, 2),
  Stage(6, 3, 320, 1, 1),
)
_STEM_FEATURES = 32
_LAST_FEATURES = 1280


def rounded(features: float) -> int:
  """The nearest multiple of 8 that is at least 8 and at least 90 % of `features`."""
  nearest = max(8, int(features + 4) // 8 * 8)
  return nearest if nearest >= 0.9 * features else nearest + 8


class InvertedResidual(nn.Module):
  """1x1 expansion, depthwise convolution, 1x1 projection without an activation.

  Attributes:
    features: number of output channels.
    stage: its expansion (1: no first convolution) and kernel size.
    stride: of the depthwise convolution.
    activation: after the first two convolutions' BatchNorms.
    conv: makes a convolution.
    norm: makes a BatchNorm.
    squeeze: channels of a squeeze-excitation before the projection; 0 for none.
    drop_path_rate: probability that an example skips the block, where the shape allows
      it (stochastic depth).
    deterministic: disables stochastic depth.
  """

  features: int
  stage: Stage
  stride: int
  activation: Callable
  conv: Callable
  norm: Callable
  squeeze: int = 0
  drop_path_rate: float = 0.0
  deterministic: bool = True

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps `(N, H, W, C)` to `(N, H / stride, W / stride, features)`."""
    channels = x.shape[-1] * self.stage.expansion
    y = x
    if self.stage.expansion > 1:
      y = self.conv(channels, 1, name="expand_conv")(y)
      y = self.activation(self.norm(name="expand_norm")(y))

    depthwise = self.conv(
      channels,
      self.stage.kernel_size,
      self.stride,
      depthwise=True,
      kernel_init=he_depthwise,
      name="depthwise_conv",
    )
    y = self.activation(self.norm(name="depthwise_norm")(depthwise(y)))
    if self.squeeze:
      y = SqueezeExcitation(self.squeeze, y.dtype, name="squeeze")(y)
    y = self.conv(self.features, 1, name="project_conv")(y)
    y = self.norm(name="project_norm")(y)
    if self.stride > 1 or x.shape[-1] != self.features:
      return y

    # One draw per example: its whole branch is dropped.
    drop_path = nn.Dropout(self.drop_path_rate, broadcast_dims=(1, 2, 3))
    return x + drop_path(y, deterministic=self.deterministic)


def compute_logits(
  network: Any,
  images: Array,
  *,
  train: bool,
  stages: Sequence[Stage],
  activation: Callable,
  last_features: int,
  kernel_init: Callable,
  squeeze_ratio: int = 0,
  drop_path_rate: float = 0.0,
) -> tuple[Array, dict[str, Array]]:
  """Applies all layers of a network of inverted residuals.

  Args:
    network: the module, with the attributes of `MobileNetV2`.
    images: `(N, H, W, C)`, floating.
    train: as the network takes it.
    stages: the rows of the paper's table.
    activation: after the convolutions.
    last_features: channels of the last convolution.
    kernel_init: of the last layer.
    squeeze_ratio: ratio of a block's input channels to those of its
      squeeze-excitation; 0 for none.
    drop_path_rate: grows linearly to this from 0 at the first block.

  Returns:
    The logits, and the dictionary of the network.
  """
  conv, norm = layers_of(network, train=train)
  width, early_stride = network.width, 1 if network.stem == "small" else 2
  x = jnp.asarray(images, network.dtype)
  x = conv(rounded(_STEM_FEATURES * width), 3, early_stride, name="stem_conv")(x)
  x = activation(norm(name="stem_norm")(x))
  out = {}
  total, done = sum(stage.num_blocks for stage in stages), 0
  for i, stage in enumerate(stages, start=1):
    for j in range(1, stage.num_blocks + 1):
      stride = early_stride if i == 2 else stage.stride
      block = InvertedResidual(
        rounded(stage.features * width),
        stage,
        stride if j == 1 else 1,
        activation,
        conv,
        norm,
        squeeze=x.shape[-1] // squeeze_ratio if squeeze_ratio else 0,
        drop_path_rate=drop_path_rate * done / total,
        deterministic=not train,
        name=f"stage{i}_block{j}",
      )
      x = block(x)
      done += 1
    out[f"stage{i}"] = x

  x = conv(last_features, 1, name="last_conv")(x)
  x = activation(norm(name="last_norm")(x)).mean((1, 2))
  x = nn.Dropout(network.dropout_rate, deterministic=not train)(x)
  out["pre_logits"] = x
  head = nn.Dense(
    network.num_classes, kernel_init=kernel_init, dtype=jnp.float32, name="logits"
  )
  return head(x), out


class MobileNetV2(nn.Module):
  """Seventeen inverted residuals between a 3x3 convolution and one of 1x1.

  Attributes:
    num_classes: K.
    width: factor on the number of channels, which are then rounded to multiples of 8;
      the last 1280 are widened but never narrowed, as in the paper.
    stem: "small" has stride 1 in the first convolution and in the second stage,
      "imagenet" has 2.
    dropout_rate: rate before the last layer.
    norm_momentum: decay of BatchNorm's running statistics. The default is that of the
      authors' code; a run of few steps needs less, such as 0.9 (torchvision's).
    norm_epsilon: added to BatchNorm's variance. The default is torchvision's, with
      which its weights were trained; the authors' code has 1e-3.
    dtype: type of the computation, float32 or bfloat16. Parameters, statistics and
      the last layer stay in float32.

  References:
    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
  """

  num_classes: int
  width: float = 1.0
  stem: str = "small"
  dropout_rate: float = 0.2
  norm_momentum: float = 0.997
  norm_epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Computes the logits.

    Args:
      images: `(N, H, W, C)`, floating.
      train: whether BatchNorm uses and updates the batch's statistics (collection
        "batch_stats") and dropout is on (random stream "dropout").

    Returns:
      The logits `(N, K)` in float32, and a dictionary: "stage1" to "stage7", the
      feature maps after each row of the paper's table 2, and "pre_logits" `(N, D)`, the
      last layer's input.

    Raises:
      ValueError: if an argument is out of its range or the images' shape does not fit.
    """
    check_network(self, images, "dropout_rate", "norm_momentum")
    return compute_logits(
      self,
      images,
      train=train,
      stages=STAGES,
      activation=nn.relu6,
      last_features=rounded(_LAST_FEATURES * max(1.0, self.width)),
      kernel_init=nn.initializers.normal(0.01),
    )
