"""Cutout and random erasing."""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from emosynth_jax.data.augmentation import checks


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
  images = checks.as_images(images)
  n, height, width, _ = images.shape
  checks.check_integer("side", side, 0, max(height, width))
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
  images = checks.as_images(images)
  n, height, width, _ = images.shape
  checks.check_number("probability", probability, 0, 1)
  checks.check_interval("area", area, 1)
  checks.check_interval("aspect", aspect)
  if value is not None:
    checks.check_number("value", value)

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
