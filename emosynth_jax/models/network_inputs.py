"""Preprocessing of uint8 images to a network's input: equalization, then scaling."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from emosynth_jax.utils import errors

Array = jax.Array

# Values of `config.input.equalize`.
EQUALIZE = ("none", "always", "random")
_LEVELS = 256
# Folded into a step's augmentation key: none of the four that `augment` splits it into.
_RANDOM = 256


def network_inputs(
  images: Array,
  input_scale: Array,
  *,
  preprocess: Callable[[Array], Array] | None = None,
) -> Array:
  """The input of a network: the preprocessed images, scaled.

  All evaluation and explanation code calls this on the images after reading, cropping
  and resizing.

  Args:
    images: `(N, H, W, C)`, uint8, or floating where they are preprocessed already.
    input_scale: factor from pixels to the network's input.
    preprocess: uint8 images to uint8 images, `Experiment.preprocess`; None for none.

  Returns:
    float32 `(N, H, W, C)`.
  """
  if preprocess is not None:
    images = preprocess(images)
  return images.astype(jnp.float32) * input_scale


@jax.jit
def equalize_histogram(images: Array) -> Array:
  r"""Histogram equalization of each image, equal to OpenCV's `equalizeHist`.

  Level v becomes :math:`\mathrm{round}(255 (c_v - c_0) / (P - c_0))`, rounded half to
  even, where :math:`c_v` is how many of the image's P pixels are at most v, and
  :math:`c_0` how many have its lowest level. A constant image is unchanged.

  Args:
    images: uint8 `(N, H, W, 1)`.

  Returns:
    uint8 `(N, H, W, 1)`.

  Raises:
    TypeError: for images that aren't uint8.
    ValueError: for images of another shape.

  References:
    `cv::equalizeHist
    <https://docs.opencv.org/4.x/d6/dc7/group__imgproc__hist.html>`_
  """
  if images.dtype != jnp.uint8:
    raise TypeError(f"images: expected uint8, got {images.dtype}")
  if images.ndim != 4 or images.shape[-1] != 1:
    raise ValueError(f"images: expected (N, H, W, 1), got {images.shape}")
  pixels = images.reshape(images.shape[0], -1)
  return jax.vmap(_equalize)(pixels).reshape(images.shape)


def _equalize(pixels: Array) -> Array:
  """`equalize_histogram` of the pixels of one image, uint8 `(P,)`."""
  total, levels = pixels.size, pixels.astype(jnp.int32)
  # On a CPU a scatter takes 1/10 of the time of a sort or of one-hot products.
  counts = jnp.zeros(_LEVELS, jnp.int32).at[levels].add(1)
  at_most = jnp.cumsum(counts)
  least = at_most[jnp.min(levels)]

  # The quotients as constants: a GPU's own division is not rounded correctly.
  rest = np.maximum(total - np.arange(total + 1), 1).astype(np.float32)
  scale = jnp.asarray(np.float32(_LEVELS - 1) / rest)[least]
  above = jnp.maximum(at_most - least, 0).astype(jnp.float32)
  table = lax.round(above * scale, lax.RoundingMethod.TO_NEAREST_EVEN)

  unchanged = jnp.arange(_LEVELS, dtype=jnp.uint8)
  table = jnp.where(least == total, unchanged, table.astype(jnp.uint8))
  return table[levels]


def equalize_at_random(key: Array, images: Array, *, share: float) -> Array:
  """`equalize_histogram` of a random share of the images.

  Args:
    key: a random key.
    images: uint8 `(N, H, W, 1)`.
    share: the probability of each image, in [0, 1]; 0 is none, 1 all of them.

  Returns:
    uint8 `(N, H, W, 1)`.

  Raises:
    TypeError, ValueError: as `equalize_histogram`.
  """
  chosen = jax.random.bernoulli(key, share, (images.shape[0], 1, 1, 1))
  return jnp.where(chosen, equalize_histogram(images), images)


def build_preprocess(
  equalize: str, *, num_channels: int
) -> Callable[[Array], Array] | None:
  """Selects the preprocessing of images in evaluation, before scaling.

  Args:
    equalize: one of `EQUALIZE`; "random" applies to training only.
    num_channels: of the images.

  Returns:
    A function of uint8 images to uint8 images, or None for no preprocessing.

  Raises:
    ValueError: for an unknown value, or equalization of color images.
  """
  errors.check_choice("config.input.equalize", equalize, EQUALIZE)
  if equalize != "none" and num_channels != 1:
    raise ValueError(
      f'config.input.equalize: expected "none" for images of {num_channels} channels, '
      f"got {equalize!r}: only gray images are equalized"
    )

  return equalize_histogram if equalize == "always" else None


def build_augment(
  augment: Callable[[Array, Array], Array], equalize: str, *, share: float
) -> Callable[[Array, Array], Array]:
  """Prepends the training's equalization to an augmentation.

  Args:
    augment: `(key, uint8 images) -> float32 images`.
    equalize: one of `EQUALIZE`.
    share: of the images that "random" equalizes, in [0, 1].

  Returns:
    The same kind of function, with the same random numbers; "none" is `augment` itself.
  """
  if equalize == "none":
    return augment
  if equalize == "always":
    return lambda key, images: augment(key, equalize_histogram(images))
  return lambda key, images: augment(
    key, equalize_at_random(jax.random.fold_in(key, _RANDOM), images, share=share)
  )
