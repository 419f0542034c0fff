"""VGG19 (Simonyan and Zisserman, 2015), plain or with BatchNorm."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emosynth_jax.models._checks import check_network
from emosynth_jax.models.ops import layers
from emosynth_jax.models.ops.convolutions import layers_of

Array = jax.Array

# Channels and number of 3x3 convolutions of each stage (configuration E).
STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
# Side of the feature maps that the dense layers of the ImageNet head take.
HEAD_SIDE = 7

_small_normal = nn.initializers.normal(0.01)


class VGG19(nn.Module):
  """Sixteen 3x3 convolutions in five stages, each ending in 2x2 max-pooling.

  With stem="small" the mean over the pixels and the last layer follow directly, as is
  usual for small images. With stem="imagenet", average pooling to 7x7 and two dense
  layers with dropout follow, as in torchvision; the first convolution is the same.
  Convolutions keep their bias under BatchNorm, as in torchvision.

  The paper draws all weights from a normal of deviation 0.01, with which a plain
  network of this depth trains only if initialized from a shallower one; therefore the
  convolutions use He's initialization, as in torchvision, and the dense layers the
  paper's.

  Attributes:
    num_classes: K.
    width: factor on the number of channels of every convolution.
    stem: "small" or "imagenet".
    norm: whether BatchNorm follows every convolution; the paper has none.
    dense_features: sizes of the dense layers before the last one, with "imagenet".
    dropout_rate: rate after each of those dense layers.
    norm_momentum: decay of BatchNorm's running statistics.
    norm_epsilon: added to BatchNorm's variance.
    dtype: type of the computation, float32 or bfloat16. Parameters, statistics and
      the last layer stay in float32.

  References:
    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
    Recognition", ICLR 2015, table 1.
  """

  num_classes: int
  width: float = 1.0
  stem: str = "small"
  norm: bool = True
  dense_features: tuple[int, ...] = (4096, 4096)
  dropout_rate: float = 0.5
  norm_momentum: float = 0.9
  norm_epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Computes the logits.

    Args:
      images: `(N, H, W, C)`, floating, sides of at least 32.
      train: whether BatchNorm uses and updates the batch's statistics (collection
        "batch_stats") and dropout is on (random stream "dropout").

    Returns:
      The logits `(N, K)` in float32, and a dictionary: "stage1" to "stage5", the
      feature maps after each stage, and "pre_logits" `(N, D)`, the last layer's input.

    Raises:
      ValueError: if an argument is out of its range or the images' shape does not fit.
    """
    check_network(self, images, "dropout_rate", "norm_momentum", least_side=32)
    conv, norm = layers_of(self, train=train)
    x = jnp.asarray(images, self.dtype)
    out = {}

    for i, (features, num_convs) in enumerate(STAGES, start=1):
      features = max(1, round(features * self.width))
      for j in range(1, num_convs + 1):
        x = conv(features, use_bias=True, name=f"conv{i}_{j}")(x)
        x = nn.relu(norm(name=f"norm{i}_{j}")(x) if self.norm else x)
      x = out[f"stage{i}"] = layers.max_pool_2x2(x)

    if self.stem == "small":
      x = x.mean((1, 2))
    else:
      x = adaptive_average_pool(x, HEAD_SIDE).reshape(x.shape[0], -1)
      for i, size in enumerate(self.dense_features, start=1):
        dense = nn.Dense(
          size, kernel_init=_small_normal, dtype=self.dtype, name=f"dense{i}"
        )
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(nn.relu(dense(x)))

    out["pre_logits"] = x
    head = nn.Dense(
      self.num_classes, kernel_init=_small_normal, dtype=jnp.float32, name="logits"
    )
    return head(x), out


def adaptive_average_pool(inputs: Array, side: int) -> Array:
  """Averages inputs of any size to `side` x `side`, as torch's AdaptiveAvgPool2d does.

  Pixel i is the mean of the rows from floor(i H / side) to ceil((i + 1) H / side), the
  last one excluded, and of the columns likewise: windows overlap, or repeat if the
  input is smaller than `side`.

  Args:
    inputs: `(N, H, W, C)`, floating.
    side: the side of the result.

  Returns:
    `(N, side, side, C)`.
  """
  if inputs.shape[1:3] == (side, side):
    return inputs

  def weights(length):
    means = np.zeros((side, length), np.float32)
    for i in range(side):
      start, stop = i * length // side, -(-(i + 1) * length // side)
      means[i, start:stop] = 1 / (stop - start)
    return jnp.asarray(means, inputs.dtype)

  return jnp.einsum(
    "ih,jw,nhwc->nijc", weights(inputs.shape[1]), weights(inputs.shape[2]), inputs
  )
