"""Random augmentation of training images, as pure functions of an explicit key.

They run inside the jitted training program, on the device that holds the images.
Ranges are plain numbers, so a program is compiled once for them and serves every
step; each image draws its own parameters.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from emosynth_jax.data.augmentation.affine import (
  AffineParameters,
  affine,
  affine_matrices,
  as_images,
  resample,
  sample_affine,
)
from emosynth_jax.utils import arguments, errors

__all__ = [
  "AffineParameters",
  "affine",
  "affine_matrices",
  "augment",
  "cutout",
  "mixup",
  "random_crop",
  "random_erasing",
  "resample",
  "sample_affine",
]


def augment(
  key: ArrayLike,
  images: ArrayLike,
  *,
  zoom: float = 0.0,
  shear: float = 0.0,
  shift: float = 0.0,
  rotation: float = 0.0,
  flip: bool = False,
  crop_padding: int = 0,
  crop_fill: str = "edge",
  cutout_side: int = 0,
  erasing_probability: float = 0.0,
  erasing_area: tuple[float, float] = (0.02, 0.33),
  erasing_aspect: tuple[float, float] = (0.3, 3.3),
  erasing_value: float | None = None,
) -> Array:
  """Affine resampling, random crop, cutout, random erasing; the identity by default.

  Args:
    key: a random key.
    images: uint8 `(N, H, W, C)`.
    zoom, shear, shift, rotation, flip: ranges; `sample_affine` has their units.
    crop_padding, crop_fill: see `random_crop`.
    cutout_side: see `cutout`; 0 for none.
    erasing_probability, erasing_area, erasing_aspect, erasing_value: see
      `random_erasing`.

  Returns:
    float32 `(N, H, W, C)` in pixels, 0 to 255. Exactly `images` where every range
    is 0.

  Raises:
    TypeError: for images that aren't uint8, or an argument of the wrong type.
    ValueError: for the wrong rank, an empty axis, or an argument out of its range.
  """
  images = jnp.asarray(images)
  if images.dtype != jnp.uint8:
    raise TypeError(f"images: expected uint8 pixels, got {images.dtype}")

  affine_key, erasing_key, crop_key, cutout_key = jax.random.split(key, 4)
  images = affine(
    affine_key,
    images.astype(jnp.float32),
    zoom=zoom,
    shear=shear,
    shift=shift,
    rotation=rotation,
    flip=flip,
  )
  images = random_crop(crop_key, images, padding=crop_padding, fill=crop_fill)
  images = cutout(cutout_key, images, side=cutout_side)

  return random_erasing(
    erasing_key,
    images,
    probability=erasing_probability,
    area=erasing_area,
    aspect=erasing_aspect,
    value=erasing_value,
  )


def random_crop(
  key: ArrayLike, images: ArrayLike, *, padding: int, fill: str = "edge"
) -> Array:
  """Random crop of the padded image: shifts each image by whole pixels.

  Nothing is interpolated. The window's place is uniform among the
  `(2 padding + 1)^2`, independent for each image.

  Args:
    key: a random key.
    images: floating `(N, H, W, C)`.
    padding: pixels added on each side, fewer than the image has.
    fill: their content: "edge", the nearest pixel, "reflect", the image mirrored in its
      border pixels, or "zero".

  Returns:
    The images, of the same shape and dtype. Exactly the same ones where `padding`
    is 0.

  Raises:
    TypeError: for images that aren't floating, or a padding that is no integer.
    ValueError: for the wrong rank, an empty axis, a padding out of range, or an
      unknown fill.
  """
  images = as_images(images)
  n, height, width, channels = images.shape
  arguments.as_integer("padding", padding, 0, min(height, width) - 1)
  modes = {"edge": "edge", "reflect": "reflect", "zero": "constant"}
  errors.check_choice("fill", fill, modes)
  if not padding:
    return images

  padded = jnp.pad(
    images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), modes[fill]
  )
  corners = jax.random.randint(key, (n, 2), 0, 2 * padding + 1)
  window = (height, width, channels)
  return jax.vmap(lambda x, yx: lax.dynamic_slice(x, (yx[0], yx[1], 0), window))(
    padded, corners
  )


def cutout(key: ArrayLike, images: ArrayLike, *, side: int) -> Array:
  """Cutout: sets a random square of each image to gray.

  The square's center is uniform over the pixels, so that part of the square may lie
  outside of the image: the paper found this to matter. It is filled with the image's
  mean per channel, which corresponds to the 0 that the paper writes into normalized
  images.

  Args:
    key: a random key.
    images: floating `(N, H, W, C)`.
    side: of the square, in pixels; 0 for none.

  Returns:
    The images, of the same shape and dtype. Exactly the same ones where `side` is 0.

  Raises:
    TypeError: for images that aren't floating, or a side that is no integer.
    ValueError: for the wrong rank, an empty axis, or a side that is negative or
      longer than the image's longer one.

  References:
    DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with
    Cutout, 2017, https://arxiv.org/abs/1708.04552
  """
  images = as_images(images)
  n, height, width, _ = images.shape
  arguments.as_integer("side", side, 0, max(height, width))
  if not side:
    return images

  def inside(key, size):
    first = jax.random.randint(key, (n, 1), 0, size) - side // 2
    place = jnp.arange(size)[None]
    return (first <= place) & (place < first + side)

  row_key, column_key = jax.random.split(key)
  rows = inside(row_key, height)[:, :, None, None]
  columns = inside(column_key, width)[:, None, :, None]
  wide = images.astype(jnp.promote_types(images.dtype, jnp.float32))
  mean = jnp.mean(wide, axis=(1, 2), keepdims=True).astype(images.dtype)
  return jnp.where(rows & columns, mean, images)


def random_erasing(
  key: ArrayLike,
  images: ArrayLike,
  *,
  probability: float,
  area: tuple[float, float] = (0.02, 0.33),
  aspect: tuple[float, float] = (0.3, 3.3),
  value: float | None = None,
) -> Array:
  """Random erasing: overwrites one random rectangle in some of the images.

  The rectangle's share of the image is uniform in `area`; its height over its width
  is log-uniform in the part of `aspect` with which it fits, so that tall and wide
  ones are as likely (the paper draws the aspect uniformly, and again until it fits);
  its sides are rounded to whole pixels; its place is uniform.

  Args:
    key: a random key.
    images: floating `(N, H, W, C)`.
    probability: with which an image is changed.
    area: least and greatest share of the image, in `(0, 1]`.
    aspect: least and greatest height over width, in pixels.
    value: the fill value, in the unit of `images`; None for a random integer from 0 to
      255 in each pixel and channel, the best choice in the paper.

  Returns:
    The images, of the same shape and dtype. Exactly the same ones where
    `probability` is 0.

  Raises:
    TypeError: for images that aren't floating, or an argument of the wrong type.
    ValueError: for the wrong rank, an empty axis, an argument out of its interval,
      or an area that no rectangle of the aspects covers.

  References:
    Zhong et al., Random Erasing Data Augmentation, 2017,
    https://arxiv.org/abs/1708.04896
  """
  images = as_images(images)
  n, height, width, _ = images.shape
  arguments.check_number("probability", probability, 0, 1, is_static=True)
  arguments.check_interval("area", area, 1)
  arguments.check_interval("aspect", aspect)
  if value is not None:
    arguments.check_number("value", value, is_static=True)

  # With the share s and the aspect a the sides are sqrt(s H W a) and sqrt(s H W / a);
  # they fit where s H / W <= a <= H / (W s).
  shape = height / width
  if not (area[1] * shape <= aspect[1] and aspect[0] <= shape / area[1]):
    raise ValueError(
      f"area: no rectangle with an aspect in {aspect} covers {area[1]} of an image of "
      f"{height} x {width} pixels; lower it or widen the aspects"
    )
  if not probability:
    return images

  place_key, fill_key = jax.random.split(key)
  u = jax.random.uniform(place_key, (5, n))
  share = area[0] + (area[1] - area[0]) * u[0]
  low = jnp.log(jnp.maximum(aspect[0], share * shape))
  high = jnp.log(jnp.minimum(aspect[1], shape / share))
  ratio = jnp.exp(low + (high - low) * u[1])
  pixels = share * (height * width)

  def inside(side, size, u):
    side = jnp.clip(jnp.round(side), 1, size)
    first = jnp.floor(u * (size - side + 1))[:, None]
    place = jnp.arange(size, dtype=first.dtype)[None]
    return (first <= place) & (place < first + side[:, None])

  rows = inside(jnp.sqrt(pixels * ratio), height, u[2])[:, :, None, None]
  columns = inside(jnp.sqrt(pixels / ratio), width, u[3])[:, None, :, None]
  chosen = (u[4] < probability)[:, None, None, None]
  if value is None:
    # Four pixels from one draw of 32 bits: drawing 8 bits costs as much.
    bits = jax.random.bits(fill_key, (math.ceil(images.size / 4),), jnp.uint32)
    noise = lax.bitcast_convert_type(bits, jnp.uint8).reshape(-1)[: images.size]
    fill = noise.reshape(images.shape).astype(images.dtype)
  else:
    fill = jnp.full_like(images, value)

  return jnp.where(chosen & rows & columns, fill, images)


def mixup(
  key: ArrayLike, images: ArrayLike, labels_onehot: ArrayLike, *, alpha: float
) -> tuple[Array, Array]:
  """Blends each example with another one of its batch, pixels and targets alike.

    x_i' = lambda_i x_i + (1 - lambda_i) x_j,  y_i' = lambda_i y_i + (1 - lambda_i) y_j

  with `lambda_i` from `Beta(alpha, alpha)`, independent for each i, and j from a
  random permutation. (The paper's formula; its experiments draw one lambda a batch.)

  Args:
    key: a random key.
    images: floating `(N, H, W, C)`.
    labels_onehot: class probabilities, floating `(N, K)`.
    alpha: above 0; 1 blends uniformly, smaller values leave most examples almost
      unchanged.

  Returns:
    The images and the probabilities, of the same shapes and dtypes.

  Raises:
    TypeError: for arrays that aren't floating, or an alpha that is no number.
    ValueError: for a wrong shape, an empty axis, or an alpha of 0 or less.

  References:
    Zhang et al., mixup: Beyond Empirical Risk Minimization, 2017,
    https://arxiv.org/abs/1710.09412
  """
  images, labels = as_images(images), jnp.asarray(labels_onehot)
  n = images.shape[0]
  if not jnp.issubdtype(labels.dtype, jnp.floating):
    raise TypeError(
      "labels_onehot: expected floating class probabilities (see jax.nn.one_hot), got "
      f"{labels.dtype}"
    )
  if labels.ndim != 2 or labels.shape[0] != n or not labels.size:
    raise ValueError(f"labels_onehot: expected shape ({n}, K), got {labels.shape}")

  arguments.check_number("alpha", alpha, 0, above=True, is_static=True)
  partner_key, weight_key = jax.random.split(key)
  partner = jax.random.permutation(partner_key, n)
  weight = jax.random.beta(weight_key, alpha, alpha, (n,), jnp.float32)

  def blend(array):
    w = weight.reshape(n, *[1] * (array.ndim - 1))
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    return (w * wide + (1 - w) * wide[partner]).astype(array.dtype)

  return blend(images), blend(labels)
