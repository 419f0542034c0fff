"""All-CNN-C (Springenberg et al., 2015)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from emosynth_jax.models._checks import check_network
from emosynth_jax.models.ops.convolutions import Convolution

Array = jax.Array

# Channels, kernel size and stride of all but the last of the nine convolutions.
_LAYERS = (
  (96, 3, 1),
  (96, 3, 1),
  (96, 3, 2),
  (192, 3, 1),
  (192, 3, 1),
  (192, 3, 2),
  (192, 3, 1),
  (192, 1, 1),
)
# The convolution without padding: sides of 8 become the 6 that the paper averages.
_UNPADDED = 7


class AllCNN(nn.Module):
  """Nine convolutions with ReLU, of which two replace pooling by their stride.

  The paper ends with a 1x1 convolution to one channel per class, averaged over the
  pixels. Since the mean commutes with a linear map, here the mean comes first and a
  dense layer last: the same function of the same weights, with an embedding. The
  paper's table also has a ReLU after that convolution. It is omitted, as is usual: with
  it no logit could be negative, and a class whose channel is negative everywhere would
  get no gradient.

  Attributes:
    num_classes: K.
    width: factor on the number of channels.
    input_dropout_rate: rate on the images.
    dropout_rate: rate after each of the convolutions with stride 2.
    dtype: type of the computation, float32 or bfloat16. Parameters and the last layer
      stay in float32.

  References:
    Springenberg et al., "Striving for Simplicity: The All Convolutional Net", ICLR
    workshop 2015, table 1 (model C) and section 3.
  """

  num_classes: int
  width: float = 1.0
  input_dropout_rate: float = 0.2
  dropout_rate: float = 0.5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Computes the logits.

    Args:
      images: `(N, H, W, C)`, floating, sides of at least 9.
      train: whether dropout is on (random stream "dropout").

    Returns:
      The logits `(N, K)` in float32, and a dictionary: "conv1" to "conv8", the feature
      maps after each convolution's ReLU, and "pre_logits" `(N, D)`, the last layer's
      input.

    Raises:
      ValueError: if an argument is out of its range or the images' shape does not fit.
    """
    check_network(self, images, "input_dropout_rate", "dropout_rate", least_side=9)
    x = jnp.asarray(images, self.dtype)
    x = nn.Dropout(self.input_dropout_rate, deterministic=not train)(x)
    out = {}

    for i, (features, size, stride) in enumerate(_LAYERS, start=1):
      conv = Convolution(
        max(1, round(features * self.width)),
        size,
        stride,
        use_bias=True,
        kernel_init=nn.initializers.he_normal(),
        dtype=self.dtype,
        name=f"conv{i}",
      )
      x = conv(x)
      if i == _UNPADDED:
        x = x[:, 1:-1, 1:-1]
      x = out[f"conv{i}"] = nn.relu(x)
      if stride > 1:
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)

    out["pre_logits"] = x = x.mean((1, 2))
    logits = nn.Dense(
      self.num_classes,
      kernel_init=nn.initializers.he_normal(),
      dtype=jnp.float32,
      name="logits",
    )
    return logits(x), out
