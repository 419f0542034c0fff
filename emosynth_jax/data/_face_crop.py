"""Squares cut out of photographs: the centre, or the face."""

import pathlib
from collections.abc import Callable

import cv2
import numpy as np

# Added on each side of a face's box, as a share of the box's longer side.
MARGIN = 0.1

# Left, top and side of a square, in pixels.
Square = tuple[float, float, float]


def centre(image: np.ndarray) -> Square:
  """The largest centred square."""
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
    ValueError: it holds no 68 points, or those of another image.
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


def cut(image: np.ndarray, square: Square) -> np.ndarray:
  """Cuts a square out of `(H, W, C)`; beyond the image its border is repeated."""
  left, top, side = (round(value) for value in square)
  height, width = image.shape[:2]
  rows = np.clip(np.arange(top, top + side), 0, height - 1)
  columns = np.clip(np.arange(left, left + side), 0, width - 1)
  return image[rows[:, None], columns]


def build_detector(model: str | pathlib.Path) -> Callable[[np.ndarray, str], Square]:
  """OpenCV's face detector, YuNet.

  OpenCV's wheels have the program but no trained model, and since OpenCV 5 neither the
  older Haar cascades: the model is a file that the user downloads.

  Args:
    model: the ONNX file.

  Returns:
    `(image, source) -> square` around the surest face of a uint8 image `(H, W, C)`,
    C 1 or 3 (RGB); it raises ValueError with the source's name where it sees no face.

  Raises:
    FileNotFoundError: the model isn't there; the message says where to get it.
    ModuleNotFoundError: this OpenCV was built without the detector.
    ValueError: the file is no model.
  """
  if not pathlib.Path(model).is_file():
    raise FileNotFoundError(
      f"no face detector at {str(model)!r}: get face_detection_yunet_2023mar.onnx from "
      "github.com/opencv/opencv_zoo (models/face_detection_yunet, MIT licence) and "
      "name it with the option detector_model"
    )
  if not hasattr(cv2, "FaceDetectorYN"):
    raise ModuleNotFoundError(
      f"OpenCV {cv2.__version__} has no FaceDetectorYN; install opencv-python-headless "
      "4.12 or later"
    )
  try:
    detector = cv2.FaceDetectorYN.create(str(model), "", (320, 320), 0.6)
  except cv2.error as error:
    raise ValueError(
      f"{model}: OpenCV cannot read this model ({error.err or error})"
    ) from error

  def detect(image: np.ndarray, source: str) -> Square:
    code = cv2.COLOR_GRAY2BGR if image.shape[-1] == 1 else cv2.COLOR_RGB2BGR
    detector.setInputSize((image.shape[1], image.shape[0]))
    _, faces = detector.detect(cv2.cvtColor(image, code))
    if faces is None or not len(faces):
      raise ValueError(f"{source}: the face detector sees no face in this image")
    # A row is left, top, width, height, five landmarks' x and y, and the score.
    left, top, width, height = (float(x) for x in max(faces, key=lambda f: f[-1])[:4])
    return around(left, top, left + width, top + height)

  return detect
