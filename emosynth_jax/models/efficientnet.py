"""EfficientNet-B0."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from emosynth_jax.models._checks import check_network
from emosynth_jax.models.mobilenet_v2 import Stage, compute_logits, rounded

Array = jax.Array

# Table 1 of the paper. The small stem takes the first convolution and the first
# downsampling stage with stride 1, so that sides of 32 end at 4.
STAGES = (
  Stage(1, 3, 16, 1, 1),
  Stage(6, 3, 24, 2, 2),
  Stage(6, 5, 40, 2, 2),
  Stage(6, 3, 80, 3, 2),
  Stage(6, 5, 112, 3, 1),
  Stage(6, 5, 192, 4, 2),
  Stage(6, 3, 320, 1, 1),
)
# The last convolution's channels, as a multiple of those of the last stage.
_LAST_FACTOR = 4
# Ratio of squeeze-excitation channels to a block's input channels.
_SQUEEZE_RATIO = 4


def _uniform_by_outputs(key, shape, dtype=jnp.float32):
  limit = shape[-1] ** -0.5
  return jax.random.uniform(key, shape, dtype, -limit, limit)


class EfficientNetB0(nn.Module):
  """Sixteen inverted residuals with squeeze-excitation and swish.

  Attributes:
    num_classes: K.
    width: factor on the number of channels, which are then rounded to multiples of 8.
    stem: "small" has stride 1 in the first convolution and in the second stage,
      "imagenet" has 2.
    dropout_rate: rate before the last layer.
    drop_path_rate: the last block's probability of being skipped by an example; it
      grows linearly from 0 at the first (stochastic depth).
    norm_momentum: decay of BatchNorm's running statistics. The default is the paper's;
      a run of few steps needs less, such as 0.9 (torchvision's).
    norm_epsilon: added to BatchNorm's variance. The default is torchvision's, with
      which its weights were trained; the authors' code has 1e-3.
    dtype: type of the computation, float32 or bfloat16. Parameters, statistics and
      the last layer stay in float32.

  References:
    Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
    Networks", ICML 2019.
    Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.
  """

  num_classes: int
  width: float = 1.0
  stem: str = "small"
  dropout_rate: float = 0.2
  drop_path_rate: float = 0.2
  norm_momentum: float = 0.99
  norm_epsilon: float = 1e-5
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Computes the logits.

    Args:
      images: `(N, H, W, C)`, floating.
      train: whether BatchNorm uses and updates the batch's statistics (collection
        "batch_stats"), and dropout and stochastic depth are on (random stream
        "dropout").

    Returns:
      The logits `(N, K)` in float32, and a dictionary: "stage1" to "stage7", the
      feature maps after each row of blocks in the paper's table 1, and "pre_logits"
      `(N, D)`, the last layer's input.

    Raises:
      ValueError: if an argument is out of its range or the images' shape does not fit.
    """
    check_network(self, images, "dropout_rate", "drop_path_rate", "norm_momentum")
    return compute_logits(
      self,
      images,
      train=train,
      stages=STAGES,
      activation=nn.swish,
      last_features=_LAST_FACTOR * rounded(STAGES[-1].features * self.width),
      kernel_init=_uniform_by_outputs,
      squeeze_ratio=_SQUEEZE_RATIO,
      drop_path_rate=self.drop_path_rate,
    )
