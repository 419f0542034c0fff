"""Random changes to training images, as pure functions of an explicit key.

They run inside the jitted training program, on the device that holds the images.
Ranges are plain numbers, so a program is compiled once for them and serves every
step; each image draws its own parameters.
"""

import math
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike


class AffineParameters(NamedTuple):
  """What `affine` does to each of N images; `affine_matrices` says how it is meant."""

  zoom: Array  # (N, 2): vertical, horizontal factor of the sampled window's side
  shear: Array  # (N,): pixels to the side for each pixel down
  shift: Array  # (N, 2): down, right, as fractions of the height and the width
  rotation: Array  # (N,): degrees counter-clockwise
  flip: Array  # (N,): bool, left and right exchanged


def augment(
  key: ArrayLike,
  images: ArrayLike,
  *,
  zoom: float = 0.0,
  shear: float = 0.0,
  shift: float = 0.0,
  rotation: float = 0.0,
  flip: bool = False,
  erasing_probability: float = 0.0,
  erasing_area: tuple[float, float] = (0.02, 0.33),
  erasing_aspect: tuple[float, float] = (0.3, 3.3),
  erasing_value: float | None = None,
) -> Array:
  """An affine resampling, then random erasing; the identity by default.

  Args:
    key: a random key.
    images: uint8 `(N, H, W, C)`.
    zoom, shear, shift, rotation, flip: see `affine`.
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
  affine_key, erasing_key = jax.random.split(key)
  images = affine(
    affine_key,
    images.astype(jnp.float32),
    zoom=zoom,
    shear=shear,
    shift=shift,
    rotation=rotation,
    flip=flip,
  )
  return random_erasing(
    erasing_key,
    images,
    probability=erasing_probability,
    area=erasing_area,
    aspect=erasing_aspect,
    value=erasing_value,
  )


def affine(
  key: ArrayLike,
  images: ArrayLike,
  *,
  zoom: float = 0.0,
  shear: float = 0.0,
  shift: float = 0.0,
  rotation: float = 0.0,
  flip: bool = False,
) -> Array:
  """Zooms, shears, rotates, shifts and flips each image at random, resampling once.

  The parameters are drawn by `sample_affine`, composed by `affine_matrices` and
  applied by `resample`.

  Args:
    key: a random key.
    images: floating `(N, H, W, C)`.
    zoom, shear, shift, rotation, flip: see `sample_affine`.

  Returns:
    The images, of the same shape and dtype. Exactly the same ones where every range
    is 0.

  Raises:
    TypeError: for images that aren't floating, or an argument of the wrong type.
    ValueError: for the wrong rank, an empty axis, or an argument out of its range.
  """
  images = _as_images(images)
  n, height, width, _ = images.shape
  parameters = sample_affine(
    key, n, zoom=zoom, shear=shear, shift=shift, rotation=rotation, flip=flip
  )
  if not (zoom or shear or shift or rotation or flip):
    return images
  return resample(images, affine_matrices(parameters, height, width))


def sample_affine(
  key: ArrayLike,
  n: int,
  *,
  zoom: float = 0.0,
  shear: float = 0.0,
  shift: float = 0.0,
  rotation: float = 0.0,
  flip: bool = False,
) -> AffineParameters:
  """Draws the parameters of n images, each uniform and independent of the others.

  `zoom`, `shift` and `flip` mean what `zoom_range`, `width_shift_range` =
  `height_shift_range` and `horizontal_flip` mean to Keras's ImageDataGenerator, and
  `rotation` its `rotation_range`. `shear` doesn't mean its `shear_range`, which is in
  degrees (once in radians): there, .2 moves the border of a 48-pixel image by a
  twelfth of a pixel. Here, .2 is the tangent of 11.3 degrees.

  Args:
    key: a random key.
    n: number of images.
    zoom: the sampled window's height and width are the image's times two independent
      draws from `[1 - zoom, 1 + zoom]`: below 1 magnifies. In `[0, 1)`.
    shear: pixels to the side for each pixel down, from `[-shear, shear]`.
    shift: fractions of the height and of the width, two independent draws from
      `[-shift, shift]`. In `[0, 1]`.
    rotation: degrees, from `[-rotation, rotation]`. In `[0, 180]`.
    flip: whether half of the images, by chance, exchange left and right.

  Returns:
    The parameters.

  Raises:
    TypeError: for a range that is no number, or a `flip` that is no bool.
    ValueError: for a range out of its interval.
  """
  _check_number("zoom", zoom, 0, 1, open_above=True)
  _check_number("shear", shear, 0)
  _check_number("shift", shift, 0, 1)
  _check_number("rotation", rotation, 0, 180)
  if not isinstance(flip, (bool, np.bool_)):
    raise TypeError(f"flip: expected True or False, got {flip!r}")
  keys = jax.random.split(key, 5)

  def draw(key, shape, bound):
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

  return AffineParameters(
    zoom=1 + draw(keys[0], (n, 2), zoom),
    shear=draw(keys[1], (n,), shear),
    shift=draw(keys[2], (n, 2), shift),
    rotation=draw(keys[3], (n,), rotation),
    flip=jax.random.bernoulli(keys[4], 0.5 if flip else 0.0, (n,)),
  )


def affine_matrices(parameters: AffineParameters, height: int, width: int) -> Array:
  """Composes parameters into one matrix an image.

  With pixels `p = (y, x)` relative to the image's centre, the value at `p` of the
  result is taken from

    R(rotation) S(shear) Z(zoom) F(flip) (p - shift)

  of the image: what it shows is rotated, sheared, zoomed, flipped and at last shifted.

  Args:
    parameters: of N images.
    height: of the images, in pixels.
    width: likewise.

  Returns:
    float32 `(N, 2, 3)`: `[A | b]` with `A (y, x) + b` the place in the image, in
    pixels from its first one, that pixel `(y, x)` of the result is taken from.
  """
  angle = jnp.deg2rad(parameters.rotation)
  sine, cosine, shear = jnp.sin(angle), jnp.cos(angle), parameters.shear
  zoom_y, zoom_x = parameters.zoom[:, 0], parameters.zoom[:, 1]
  zoom_x = jnp.where(parameters.flip, -zoom_x, zoom_x)
  # Written out: a matrix product would run in TF32 on a GPU, 1e-3 of a side off.
  yy, yx = (cosine + shear * sine) * zoom_y, sine * zoom_x
  xy, xx = (shear * cosine - sine) * zoom_y, cosine * zoom_x
  centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
  from_y = centre_y + height * parameters.shift[:, 0]
  from_x = centre_x + width * parameters.shift[:, 1]
  y = jnp.stack([yy, yx, centre_y - (yy * from_y + yx * from_x)], axis=-1)
  x = jnp.stack([xy, xx, centre_x - (xy * from_y + xx * from_x)], axis=-1)
  return jnp.stack([y, x], axis=1)


def resample(images: ArrayLike, matrices: ArrayLike) -> Array:
  """Bilinear interpolation of each image at affinely transformed pixels.

  What lies outside of an image has the value of the nearest pixel on its edge.

  Args:
    images: floating `(N, H, W, C)`.
    matrices: floating `(N, 2, 3)`, see `affine_matrices`.

  Returns:
    The images, of the same shape and dtype, interpolated in float32 at least.

  Raises:
    TypeError: for images or matrices that aren't floating.
    ValueError: for the wrong shape, or an empty axis.
  """
  images, matrices = _as_images(images), jnp.asarray(matrices)
  n, height, width, channels = images.shape
  if not jnp.issubdtype(matrices.dtype, jnp.floating):
    raise TypeError(f"matrices: expected a floating dtype, got {matrices.dtype}")
  if matrices.shape != (n, 2, 3):
    raise ValueError(f"matrices: expected shape {(n, 2, 3)}, got {matrices.shape}")
  y = jnp.arange(height, dtype=matrices.dtype)[None, :, None]
  x = jnp.arange(width, dtype=matrices.dtype)[None, None, :]

  def corner_and_fraction(row, size):
    place = row[:, 0, None, None] * y + row[:, 1, None, None] * x
    place = jnp.clip(place + row[:, 2, None, None], 0, size - 1)
    corner = jnp.floor(place)
    return corner.astype(jnp.int32), (place - corner)[..., None]

  top, down = corner_and_fraction(matrices[:, 0], height)
  left, right = corner_and_fraction(matrices[:, 1], width)
  # Four gathers from the batch as one list of pixels; measured against a vmapped
  # map_coordinates, one gather of 2x2 neighbourhoods, and products with matrices of
  # weights, this is the fastest on a CPU but for map_coordinates on one channel.
  pixels = images.reshape(n * height * width, channels)
  pixels = pixels.astype(jnp.promote_types(images.dtype, jnp.float32))
  first = jnp.arange(n, dtype=jnp.int32)[:, None, None] * (height * width)
  upper = first + top * width
  lower = upper + jnp.where(top < height - 1, width, 0)
  next_left = left + jnp.where(left < width - 1, 1, 0)

  def blend_sideways(row):
    start = pixels.at[row + left].get(mode="promise_in_bounds")
    end = pixels.at[row + next_left].get(mode="promise_in_bounds")
    return start + right * (end - start)

  above, below = blend_sideways(upper), blend_sideways(lower)
  return (above + down * (below - above)).astype(images.dtype)


def random_erasing(
  key: ArrayLike,
  images: ArrayLike,
  *,
  probability: float,
  area: tuple[float, float] = (0.02, 0.33),
  aspect: tuple[float, float] = (0.3, 3.3),
  value: float | None = None,
) -> Array:
  """Overwrites one random rectangle in some of the images.

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
    value: what is written, in the unit of `images`; None for a random integer from 0
      to 255 in each pixel and channel, which served best in the paper.

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
  images = _as_images(images)
  n, height, width, _ = images.shape
  _check_number("probability", probability, 0, 1)
  area = _check_interval("area", area, 1)
  aspect = _check_interval("aspect", aspect, math.inf)
  if value is not None:
    _check_number("value", value)
  # A rectangle of share s and aspect a has the sides sqrt(s H W a) and sqrt(s H W / a).
  if area[1] * height / width > aspect[1] or aspect[0] > height / width / area[1]:
    raise ValueError(
      f"area: no rectangle with an aspect in {aspect} covers {area[1]} of an image of "
      f"{height} x {width} pixels; lower it or widen the aspects"
    )
  if not probability:
    return images
  keys = jax.random.split(key, 6)
  share = jax.random.uniform(keys[0], (n,), jnp.float32, *area)
  low = jnp.log(jnp.maximum(aspect[0], share * (height / width)))
  high = jnp.log(jnp.minimum(aspect[1], (height / width) / share))
  ratio = jnp.exp(low + jax.random.uniform(keys[1], (n,)) * (high - low))
  pixels = share * (height * width)

  def first_and_end(key, side, size):
    side = jnp.clip(jnp.round(side), 1, size).astype(jnp.int32)
    first = jax.random.randint(key, (n,), 0, size - side + 1)
    return first, first + side

  def inside(key, side, size):
    first, end = first_and_end(key, side, size)
    place = jnp.arange(size)[None]
    return (first[:, None] <= place) & (place < end[:, None])

  rows = inside(keys[2], jnp.sqrt(pixels * ratio), height)[:, :, None, None]
  columns = inside(keys[3], jnp.sqrt(pixels / ratio), width)[:, None, :, None]
  chosen = jax.random.bernoulli(keys[4], probability, (n, 1, 1, 1))
  if value is None:
    fill = jax.random.bits(keys[5], images.shape, jnp.uint8).astype(images.dtype)
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
    alpha: above 0; 1 blends uniformly, less leaves most examples almost as they are.

  Returns:
    The images and the probabilities, of the same shapes and dtypes.

  Raises:
    TypeError: for arrays that aren't floating, or an alpha that is no number.
    ValueError: for a wrong shape, an empty axis, or an alpha of 0 or less.

  References:
    Zhang et al., mixup: Beyond Empirical Risk Minimization, 2017,
    https://arxiv.org/abs/1710.09412
  """
  images, labels = _as_images(images), jnp.asarray(labels_onehot)
  n = images.shape[0]
  if not jnp.issubdtype(labels.dtype, jnp.floating):
    raise TypeError(
      "labels_onehot: expected floating class probabilities (jax.nn.one_hot makes "
      f"them), got {labels.dtype}"
    )
  if labels.ndim != 2 or labels.shape[0] != n:
    raise ValueError(f"labels_onehot: expected shape ({n}, K), got {labels.shape}")
  _check_number("alpha", alpha, 0, open_below=True)
  partner_key, weight_key = jax.random.split(key)
  partner = jax.random.permutation(partner_key, n)
  weight = jax.random.beta(weight_key, alpha, alpha, (n,), jnp.float32)

  def blend(array):
    w = weight.reshape(n, *[1] * (array.ndim - 1))
    wide = array.astype(jnp.promote_types(array.dtype, jnp.float32))
    return (w * wide + (1 - w) * wide[partner]).astype(array.dtype)

  return blend(images), blend(labels)


def _as_images(images: ArrayLike) -> Array:
  images = jnp.asarray(images)
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise TypeError(
      f"images: expected a floating dtype (astype makes it one), got {images.dtype}"
    )
  if images.ndim != 4 or 0 in images.shape:
    raise ValueError(
      f"images: expected shape (N, H, W, C) without a zero, got {images.shape}"
    )
  return images


def _check_number(
  name: str,
  value: Any,
  low: float = -math.inf,
  high: float = math.inf,
  *,
  open_below: bool = False,
  open_above: bool = False,
) -> None:
  # A traced value would be a new program's constant or a silent recompilation.
  if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
    raise TypeError(f"{name}: expected a number, got {value!r}")
  fits = low < value if open_below else low <= value
  fits = fits and (value < high if open_above else value <= high)
  if not fits or math.isinf(value):
    interval = f"{'(' if open_below else '['}{low}, {high}{')' if open_above else ']'}"
    raise ValueError(f"{name}: expected a number in {interval}, got {value}")


def _check_interval(name: str, interval: Any, high: float) -> tuple[float, float]:
  if not isinstance(interval, (tuple, list)) or len(interval) != 2:
    raise TypeError(
      f"{name}: expected two numbers, (least, greatest), got {interval!r}"
    )
  for value in interval:
    _check_number(name, value, 0, high, open_below=True)
  if interval[0] > interval[1]:
    raise ValueError(f"{name}: expected (least, greatest), got {interval}")
  return interval[0], interval[1]
