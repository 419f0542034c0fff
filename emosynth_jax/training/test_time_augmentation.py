"""Test-time augmentation: averages predictions over several views of an image.

Its result is not comparable with the plain one: it costs one evaluation per view, and
is reported separately.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array

# Side of a crop relative to that of the image.
_CROP_SHARE = 0.9


def flip(images: Array) -> Array:
  """Views: the images and their mirror images.

  Args:
    images: `(N, H, W, C)`.

  Returns:
    `(2, N, H, W, C)`.
  """
  return jnp.stack([images, images[:, :, ::-1]])


def ten_crop(images: Array) -> Array:
  """Views: four corner crops and a center crop, and their mirror images.

  A crop has 0.9 of the image's height and width, in whole pixels, and is resized to the
  training size by bilinear interpolation: some networks accept no other size, and the
  size of a face stays within 10 % of that in training.

  Args:
    images: floating `(N, H, W, C)`.

  Returns:
    `(10, N, H, W, C)`.

  References:
    Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks,
    2012, section 4.1, which crops 224 of 256 pixels and trains on such crops
  """
  _, height, width, _ = images.shape
  h, w = crop_size(height, width)
  places = [(0, 0), (0, width - w), (height - h, 0), (height - h, width - w)]
  places.append(((height - h) // 2, (width - w) // 2))
  crops = jnp.stack([images[:, y : y + h, x : x + w] for y, x in places])
  crops = jax.image.resize(crops, (5, *images.shape), "bilinear")
  return jnp.concatenate([crops, crops[:, :, :, ::-1]])


def crop_size(height: int, width: int) -> tuple[int, int]:
  """The height and width of a crop of `ten_crop`, in pixels."""
  return round(_CROP_SHARE * height), round(_CROP_SHARE * width)


VIEWS: dict[str, Callable[[Array], Array]] = {"flip": flip, "ten_crop": ten_crop}


def describe(name: str, height: int, width: int) -> str:
  """Describes the views of one of `VIEWS`, for a report on images of this size."""
  if name == "flip":
    return "mean probability over the image and its mirror image"
  h, w = crop_size(height, width)
  return (
    f"mean probability over ten crops, {h}x{w} of {height}x{width} pixels, scaled back"
  )


def mean_logits(answer: Callable[[Array], Array], views: Array) -> Array:
  """Logarithms of the mean probabilities over the views, used as logits.

  Args:
    answer: `(N, H, W, C)` to logits `(N, K)`.
    views: `(V, N, H, W, C)`; they are evaluated one after the other, to limit memory.

  Returns:
    `(N, K)`.
  """
  log_probabilities = jax.lax.map(lambda x: jax.nn.log_softmax(answer(x)), views)
  return jax.nn.logsumexp(log_probabilities, axis=0) - jnp.log(views.shape[0])
