"""EmoSynthNet: VGG-like analysis, U-Net-like synthesis, Inception-like side branch."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from emosynth_jax.models._checks import check_network
from emosynth_jax.models.ops import layers
from emosynth_jax.models.ops.unit_stride import upsample_nearest
from emosynth_jax.utils import errors

Array = jax.Array

# Section 3.2.1 of the thesis: 32 channels in the first layer, then 64 to 512.
_BLOCKS = ((32, 64, 64, 64), (128,) * 4, (256,) * 4, (512,) * 3)
# The blocks with an identity shortcut around their last two convolutions.
_SHORTCUT_BLOCKS = (1, 3)

NORM_ORDERS = ("last", "first")
SIDE_INPUTS = ("block1", "image")
SKIPS = ("block3", "none")
SYNTHESES = ("norm", "elu", "linear")

_he_normal = nn.initializers.he_normal()


def _scaled(channels: int, width: float) -> int:
  return max(1, round(channels * width))


class Unit(nn.Module):
  """3x3 convolution, ELU and BatchNorm, in that order or norm first."""

  features: int
  norm_order: str
  norm_momentum: float
  dtype: Any
  transposed: bool = False
  upsampled: bool = False

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    """Maps `(N, H, W, C)` to `(N, H, W, features)`, or as the transposed `Conv`."""
    conv = layers.Conv(
      self.features,
      dtype=self.dtype,
      transposed=self.transposed,
      upsampled=self.upsampled,
      name="conv",
    )
    x = conv(x)
    norm = nn.BatchNorm(
      use_running_average=not train,
      momentum=self.norm_momentum,
      dtype=self.dtype,
      name="norm",
    )

    return norm(layers.elu(x)) if self.norm_order == "last" else layers.elu(norm(x))


class AnalysisBlock(nn.Module):
  """Units in series, then 2x2 average pooling (blocks 1 to 4 of figure 3.1)."""

  features: tuple[int, ...]
  shortcut: bool
  norm_order: str
  norm_momentum: float
  dtype: Any

  @nn.compact
  def __call__(self, x: Array, train: bool) -> Array:
    """Maps `(N, H, W, C)` to `(N, H / 2, W / 2, features[-1])`."""
    last = len(self.features) - 1
    for i, features in enumerate(self.features):
      if i == last - 1:
        before_last_pair = x
      unit = Unit(
        features, self.norm_order, self.norm_momentum, self.dtype, name=f"unit{i + 1}"
      )
      x = unit(x, train)
    if self.shortcut:
      x = x + before_last_pair
    return layers.average_pool(x, 2, 2)


class AuxiliaryModule(nn.Module):
  """Figure 3.2, right: three sub-branches, 640 channels in total at width 1."""

  width: float
  dtype: Any

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps `(N, H, W, C)` to `(N, H, W, 640 width)`."""

    def conv(x: Array, features: int, size: int, name: str) -> Array:
      features = _scaled(features, self.width)
      layer: nn.Module
      if size == 1:
        # A 1x1 convolution is a product over the channels: on CPU it is several times
        # faster if written as one.
        layer = nn.Dense(features, kernel_init=_he_normal, dtype=self.dtype, name=name)
      else:
        layer = layers.Conv(features, size, dtype=self.dtype, name=name)
      return nn.relu(layer(x))

    a2 = conv(conv(x, 64, 1, "a1"), 96, 5, "a2")
    a3 = conv(a2, 96, 5, "a3")
    b = conv(layers.max_pool_3x3(x), 64, 1, "b")
    c2 = conv(conv(x, 128, 1, "c1"), 192, 3, "c2")
    c3 = conv(c2, 192, 3, "c3")
    return jnp.concatenate([a3, b, c3, a2, c2], axis=-1)


class EmoSynthNet(nn.Module):
  """The network of chapter 3 of the thesis.

  The thesis's text, its table 3.2 and its captions disagree in places; the defaults
  are the reading that is consistent with most of them, and every argument marked
  "reading" offers the alternatives, so that each can be evaluated.

  Main branch: four analysis blocks of 3x3 convolutions (32, 64, 64, 64; 4 x 128;
  4 x 256; 3 x 512), each pooled to half its side. Side branch: two auxiliary modules,
  then 7x7 average pooling to side m/16 + 2. Synthesis: a transposed convolution
  (512 channels, side m/16 + 2), concatenation with the side branch (640) and block 3's
  pooled output (256) to 1408 channels, upsampling to m/8 + 4, a transposed convolution
  (256 channels, m/8 + 6), upsampling to m/4 + 12. Head: dense 128, 64, K.

  Attributes:
    num_classes: K.
    width: factor on the number of channels of every convolution.
    dense_features: sizes of the dense layers before the last one; the last of them is
      the embedding. `width` does not scale them, since an embedding of size 64 width
      would be too narrow for ten classes.
    dropout_rate: rate after each of the dense layers but the last.
    norm_order: reading; "last" is convolution, ELU, BatchNorm (section 3.2.3), "first"
      convolution, BatchNorm, ELU (section 3.2.1 says both).
    side_input: reading; the side branch starts from "block1" (its pooled output,
      1.06 G multiply-adds at 32x32x3) or from the "image" (2.57 G).
    skip: reading; "block3" concatenates that block's pooled output for the 1408
      channels of the text, "none" leaves 1152.
    synthesis: reading; what follows the transposed convolutions: "elu", "linear" for
      nothing, as section 3.2.3 names nothing (block 5 and the first dense layer are
      then one linear map), or "norm" for ELU and BatchNorm in `norm_order`, as section
      3.2.1 has BatchNorm "after each convolution".
    norm_momentum: decay of BatchNorm's running statistics.
    dtype: type of the computation, float32 or bfloat16. Parameters, statistics and
      the last layer stay in float32.
    merge_upsampling: whether a layer that follows an upsampling is computed from the
      feature maps before it, which on a CPU saves up to 5/6 of its multiply-adds. The
      function is the same, but the logits are then not computed from "upsample1" and
      "block5", and have no gradient with respect to them.
  """

  num_classes: int
  width: float = 1.0
  dense_features: tuple[int, ...] = (128, 64)
  dropout_rate: float = 0.0
  norm_order: str = "last"
  side_input: str = "block1"
  skip: str = "block3"
  synthesis: str = "elu"
  norm_momentum: float = 0.9
  dtype: Any = jnp.float32
  merge_upsampling: bool = True

  @nn.compact
  def __call__(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
    """Computes the logits.

    Args:
      images: `(N, m, m, C)`, floating, scaled as the training was; m is a multiple of
        16 and at least 32.
      train: whether BatchNorm uses and updates the batch's statistics (collection
        "batch_stats") and dropout is on (random stream "dropout").

    Returns:
      The logits `(N, K)` in float32, and a dictionary of the inner arrays:
      "block1" to "block4" `(N, m/2^i, m/2^i, .)`, "side", "upsample1", "block5", and
      "pre_logits", the embedding and the last layer's input `(N, dense_features[-1])`.

    Raises:
      ValueError: if a reading's name is unknown, a number is out of its range or the
        images' shape does not fit.
    """
    _check_images(images)
    check_network(self, images, "dropout_rate", "norm_momentum")
    if not self.dense_features or min(self.dense_features) < 1:
      raise ValueError(
        f"dense_features: expected sizes of at least 1, got {self.dense_features}"
      )

    errors.check_choice("norm_order", self.norm_order, NORM_ORDERS)
    errors.check_choice("side_input", self.side_input, SIDE_INPUTS)
    errors.check_choice("skip", self.skip, SKIPS)
    errors.check_choice("synthesis", self.synthesis, SYNTHESES)
    images = jnp.asarray(images, self.dtype)
    side_length = images.shape[1] // 16 + 2
    out = {}

    x = images
    for i, features in enumerate(_BLOCKS, start=1):
      block = AnalysisBlock(
        tuple(_scaled(f, self.width) for f in features),
        shortcut=i in _SHORTCUT_BLOCKS,
        norm_order=self.norm_order,
        norm_momentum=self.norm_momentum,
        dtype=self.dtype,
        name=f"block{i}",
      )
      x = out[f"block{i}"] = block(x, train)

    side = images if self.side_input == "image" else out["block1"]
    side = AuxiliaryModule(self.width, self.dtype, name="side1")(side)
    side = AuxiliaryModule(self.width, self.dtype, name="side2")(side)
    stride = (side.shape[1] - 7) // (side_length - 1)
    out["side"] = _crop(layers.average_pool(side, 7, stride), side_length)

    merge = self.merge_upsampling

    def transposed(x: Array, features: int, name: str, upsampled: bool) -> Array:
      features = _scaled(features, self.width)
      if self.synthesis == "norm":
        unit = Unit(
          features,
          self.norm_order,
          self.norm_momentum,
          self.dtype,
          transposed=True,
          upsampled=upsampled,
          name=name,
        )
        return unit(x, train)

      layer = layers.Conv(
        features, dtype=self.dtype, transposed=True, upsampled=upsampled, name=name
      )
      return layers.elu(layer(x)) if self.synthesis == "elu" else layer(x)

    parts = [transposed(x, 512, "transposed1", False), out["side"]]
    if self.skip == "block3":
      parts.append(_crop(out["block3"], side_length))
    x = jnp.concatenate(parts, axis=-1)
    out["upsample1"] = upsample_nearest(x)
    x = transposed(x if merge else out["upsample1"], 256, "transposed2", merge)
    out["block5"] = upsample_nearest(x)

    if not merge:
      x = out["block5"].reshape(x.shape[0], -1)
    for i, size in enumerate(self.dense_features, start=1):
      kind = layers.DenseOfUpsampled if merge and i == 1 else nn.Dense
      dense = kind(size, kernel_init=_he_normal, dtype=self.dtype, name=f"dense{i}")
      x = nn.Dropout(self.dropout_rate, deterministic=not train)(layers.elu(dense(x)))

    out["pre_logits"] = x
    logits = nn.Dense(self.num_classes, dtype=jnp.float32, name="logits")(x)
    return logits, out


def _crop(x: Array, side: int) -> Array:
  """The central `side` x `side` pixels of `(N, H, W, C)`."""
  top, left = ((length - side) // 2 for length in x.shape[1:3])
  return x[:, top : top + side, left : left + side]


def _check_images(images: Array) -> None:
  shape = images.shape
  if len(shape) != 4 or shape[1] != shape[2] or shape[1] % 16 or shape[1] < 32:
    raise ValueError(
      "images: expected (N, m, m, channels) with m a multiple of 16 and at least 32, "
      f"got {shape}; resize or pad the images in the data layer"
    )
