"""VGG-like network for small faces (Khaireddin and Chen, 2021)."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from emosynth_jax.models._checks import check_network
from emosynth_jax.models.ops import layers
from emosynth_jax.utils import errors

Array = jax.Array

_STAGES = (64, 128, 256, 512)
HEADS = ("flatten", "mean")


class FerVGG(nn.Module):
  """Four stages of two 3x3 convolutions, each with BatchNorm and ReLU.

  Reproductions from scratch reach about 72 % with it on FER-2013's original pixels
  (docs/guides/evaluation.md). Every stage ends in 2x2 max-pooling; dense layers with
  dropout follow.

  The dense layers of the paper have no BatchNorm. At a learning rate of 0.1 all units
  of a narrow one became zero in one run, and every image got the same answer
  (docs/results/pilots.md); a mean over positions without dense layers trained at it.

  References:
    Khaireddin and Chen, "Facial Emotion Recognition: State of the Art Performance on
    FER2013", 2021, figure 2.

  Attributes:
    num_classes: K.
    width: factor on the number of channels of every convolution.
    head: how the last maps become a vector, one of `HEADS`: "flatten", as in the paper,
      or "mean", over positions.
    dense_features: sizes of the dense layers between that vector and the last layer.
      The last of them is the embedding; without any, the vector is.
    dropout_rate: rate after each of those dense layers, or of the vector without any.
    norm_momentum: decay of BatchNorm's running statistics.
    dtype: type of the computation, float32 or bfloat16. Parameters, statistics and
      the last layer stay in float32.
  """

  num_classes: int
  width: float = 1.0
  head: str = "flatten"
  dense_features: tuple[int, ...] = (4096, 4096)
  dropout_rate: float = 0.5
  norm_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Computes the logits.

    Args:
      images: `(N, m, m, C)`, floating, m at least 16.
      train: whether BatchNorm uses and updates the batch's statistics (collection
        "batch_stats") and dropout is on (random stream "dropout").

    Returns:
      The logits `(N, K)` in float32, and a dictionary of the inner arrays: "stage1" to
      "stage4" `(N, m/2^i, m/2^i, .)`, and "pre_logits", the embedding and the last
      layer's input `(N, D)`.

    Raises:
      ValueError: if a number is out of its range or the images' shape does not fit.
    """
    check_network(self, images, "dropout_rate", "norm_momentum", least_side=16)
    errors.check_choice("head", self.head, HEADS)
    if self.dense_features and min(self.dense_features) < 1:
      raise ValueError(
        f"dense_features: expected sizes of at least 1, got {self.dense_features}"
      )

    x = jnp.asarray(images, self.dtype)
    out = {}
    for i, features in enumerate(_STAGES, start=1):
      features = max(1, round(features * self.width))
      for j in (1, 2):
        x = layers.Conv(features, dtype=self.dtype, name=f"conv{i}_{j}")(x)
        norm = nn.BatchNorm(
          use_running_average=not train,
          momentum=self.norm_momentum,
          dtype=self.dtype,
          name=f"norm{i}_{j}",
        )
        x = nn.relu(norm(x))
      x = out[f"stage{i}"] = layers.max_pool_2x2(x)

    dropout = functools.partial(nn.Dropout, self.dropout_rate, deterministic=not train)
    x = x.mean((1, 2)) if self.head == "mean" else x.reshape(x.shape[0], -1)
    for i, size in enumerate(self.dense_features, start=1):
      dense = nn.Dense(
        size,
        kernel_init=nn.initializers.he_normal(),
        dtype=self.dtype,
        name=f"dense{i}",
      )
      x = dropout()(nn.relu(dense(x)))
    if not self.dense_features:
      x = dropout()(x)

    out["pre_logits"] = x
    logits = nn.Dense(self.num_classes, dtype=jnp.float32, name="logits")(x)
    return logits, out
