"""Square crops of photographs: the center, or around a box or landmarks."""

import math
import pathlib

import cv2
import numpy as np

# Added on each side of a face's box, as a share of the box's longer side.
MARGIN = 0.1

# Left, top and side of a square, in pixels.
Square = tuple[float, float, float]


def center(image: np.ndarray) -> Square:
  """The largest centered square."""
  height, width = image.shape[:2]
  side = min(height, width)
  return (width - side) / 2, (height - side) / 2, side


def around(left: float, top: float, right: float, bottom: float) -> Square:
  """The square around a box, with the margin."""
  side = (1 + 2 * MARGIN) * max(right - left, bottom - top)
  return (left + right - side) / 2, (top + bottom - side) / 2, side


def around_landmarks(file: pathlib.Path, image: np.ndarray) -> Square:
  """The square around the 68 points of a face, as CK+'s `Landmarks/` have them.

  Args:
    file: lines of x and y, in pixels.
    image: `(H, W, C)`, the face's.

  Returns:
    The square.

  Raises:
    FileNotFoundError: the file isn't there.
    ValueError: it does not hold 68 points, or they are those of another image.
  """
  if not file.is_file():
    raise FileNotFoundError(f"{file} is missing; unpack CK+'s Landmarks.zip there")
  try:
    numbers = [float(word) for word in file.read_bytes().split()]
    points = np.array(numbers).reshape(68, 2)
  except ValueError as error:
    raise ValueError(f"{file}: expected 68 lines of two numbers ({error})") from error

  (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
  height, width = image.shape[:2]
  # A chin may lie below the image, but most of a face is on it. NaN is refused too.
  if not (left < right and top < bottom) or not (
    0 < left + right < 2 * width and 0 < top + bottom < 2 * height
  ):
    raise ValueError(
      f"{file}: expected points on the {width}x{height} image, got x {left:g} to "
      f"{right:g} and y {top:g} to {bottom:g}"
    )

  return around(left, top, right, bottom)


def cut_turned(image: np.ndarray, square: Square, angle: float) -> np.ndarray:
  """Crops a square that is turned around its center, so that it comes out upright.

  Args:
    image: uint8 `(H, W, C)`.
    square: in pixels of the image, before it is turned.
    angle: in degrees clockwise.

  Returns:
    uint8 `(S, S, C)`, bilinear at the image's scale; outside of the image its border is
    repeated.
  """
  left, top, side = square
  size = max(1, round(side))
  cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
  # From pixels of the crop to those of the image.
  turn = np.array([[cosine, -sine], [sine, cosine]])
  middle = np.array([left + side / 2 - 0.5, top + side / 2 - 0.5])
  shift = middle - turn @ np.full(2, (size - 1) / 2)
  crop = cv2.warpAffine(
    image,
    np.column_stack([turn, shift]),
    (size, size),
    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_REPLICATE,
  )
  return crop.reshape(size, size, image.shape[-1])


def cut(image: np.ndarray, square: Square) -> np.ndarray:
  """Crops a square of `(H, W, C)`; outside of the image its border is repeated.

  A square of less than a pixel is one of a pixel.
  """
  left, top, side = (round(value) for value in square)
  side = max(1, side)
  height, width = image.shape[:2]
  rows = np.clip(np.arange(top, top + side), 0, height - 1)
  columns = np.clip(np.arange(left, left + side), 0, width - 1)
  return image[rows[:, None], columns]
