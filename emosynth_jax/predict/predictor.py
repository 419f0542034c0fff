"""Face detection and expression classification."""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from emosynth_jax import bundle
from emosynth_jax.data.images import decoding, face_crop, face_detector
from emosynth_jax.data.images import files as image_files
from emosynth_jax.predict import media
from emosynth_jax.predict.timing import Timing
from emosynth_jax.utils import errors

FACES = ("detect", "none")
UNCERTAIN = "uncertain"

# Maximum size in bytes of the images that wait for a full batch of faces.
MAX_WAITING_BYTES = 256 * 2**20

Picture = np.ndarray | str | os.PathLike


class Prediction(NamedTuple):
  """Prediction for one face.

  Attributes:
    box: left, top, right and bottom in pixels of the image; None if the whole image was
      classified as a face.
    detection_score: score of the detector, or None.
    label: the most probable class, or "uncertain" below the minimum confidence.
    confidence: the calibrated probability of the most probable class.
    probabilities: of each class by name, calibrated; they sum to 1.
  """

  box: tuple[float, float, float, float] | None
  detection_score: float | None
  label: str
  confidence: float
  probabilities: dict[str, float]


class Predictor:
  """Detects and classifies faces, in batches of one size, compiled once."""

  def __init__(
    self,
    source: str | os.PathLike | None = None,
    *,
    faces: str = "detect",
    min_confidence: float = 0.5,
    min_face_score: float = 0.5,
    max_side: int = 640,
    max_scale: float = 2.0,
    batch_size: int = 8,
    data_dir: str | None = None,
  ):
    """Loads the network.

    Args:
      source: a run's workdir, or a bundle (`emosynth_jax.bundle`); None for the
        pretrained model that is included.
      faces: "detect" runs the detector; "none" treats each image as one cropped face.
      min_confidence: minimum confidence for a label, in [0, 1]; below it the label is
        "uncertain".
      min_face_score: minimum score of the detector, in (0, 1).
      max_side: images with a longer side of more pixels are shrunk to it before
        detection; see `face_detector.build_detector`.
      max_scale: smaller images are enlarged by up to this factor, to that side at most.
      batch_size: faces at a time.
      data_dir: data set directory of a workdir that is not calibrated yet, if it moved.

    Raises:
      FileNotFoundError: if there is no network.
      ModuleNotFoundError: if the detector's package isn't installed.
      ValueError: for an argument out of its range, a damaged file, or a network of
        images that aren't square.
    """
    errors.check_choice("faces", faces, FACES)
    if not 0 <= min_confidence <= 1:
      raise ValueError(f"min_confidence: expected [0, 1], got {min_confidence}")
    if batch_size < 1:
      raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    self._detect = None
    if faces == "detect":
      self._detect = face_detector.build_detector(
        min_score=min_face_score, max_side=max_side, max_scale=max_scale
      )
    self.network = bundle.read_network(source or bundle.PRETRAINED, data_dir=data_dir)
    height, width, _ = self.network.image_shape
    if height != width:
      raise ValueError(
        f"expected a network of square images, got {height}x{width}: faces are "
        "cropped as squares"
      )
    self._compute_logits = bundle.compile_logits(self.network, batch_size=batch_size)
    self._batch_size = batch_size
    self._min_confidence = min_confidence
    self._is_compiled = False
    self.timing = Timing()

  def __call__(self, picture: Picture) -> list[Prediction]:
    """Predicts the expressions in an image.

    Args:
      picture: a file's path, or uint8 `(H, W, 3)` in RGB, `(H, W, 1)` or `(H, W)`.

    Returns:
      A prediction for each face, by descending detection score; an empty list if there
      is none.

    Raises:
      TypeError: for an array that isn't uint8.
      ValueError: for an array of another shape, or a file that is no image.
      OSError: if the file can't be read.
    """
    return self.predict([picture])[0]

  def predict(
    self, pictures: Iterable[Picture], *, return_exceptions: bool = False
  ) -> list[Any]:
    """Predicts the expressions in several images, whose faces share batches.

    Args:
      pictures: as for `__call__`. Each is read when needed.
      return_exceptions: the error of an unreadable image is returned in the list
        instead of raised.

    Returns:
      For each image a list of `Prediction`s, or its error.

    Raises:
      TypeError, ValueError, OSError: as `__call__`, for the first such image, which a
        note identifies.
    """
    errors: dict[int, Exception] = {}

    def loaded() -> Iterator[tuple[int, np.ndarray | None]]:
      for i, picture in enumerate(pictures):
        try:
          yield i, media.load(picture)
        except (TypeError, ValueError, OSError) as error:
          if not return_exceptions:
            error.add_note(
              f"in images[{i}]; set return_exceptions=True to continue with the others"
            )
            raise
          errors[i] = error
          yield i, None

    answers = self.stream(loaded(), keep_pictures=False)
    return [errors.get(i, predictions) for i, _, predictions in answers]

  def stream(
    self,
    pictures: Iterable[tuple[Any, np.ndarray | None]],
    *,
    max_waiting: int | None = None,
    keep_pictures: bool = True,
  ) -> Iterator[tuple[Any, np.ndarray | None, list[Prediction]]]:
    """Yields predictions for a stream of images, in order.

    Args:
      pictures: pairs of any object, which is returned, and an image, uint8 `(H, W, C)`;
        None is passed through.
      max_waiting: maximum number of images that wait for a full batch; 1 processes each
        image before the next, as for a webcam. By default eight batches, or
        `MAX_WAITING_BYTES` of pixels.
      keep_pictures: False drops the pixels once the faces are cropped.

    Yields:
      The pair and its predictions; None in place of the image if it is not kept.
    """
    if max_waiting is None:
      max_waiting = 8 * self._batch_size
    waiting: deque[tuple[Any, np.ndarray | None, list]] = deque()
    crops: list[np.ndarray] = []
    held = 0
    for key, picture in pictures:
      found = [] if picture is None else self._find(picture)
      kept = picture if keep_pictures else None
      held += 0 if kept is None else kept.nbytes
      waiting.append((key, kept, [face for face, _ in found]))
      crops += [crop for _, crop in found]
      if (
        len(crops) >= self._batch_size
        or len(waiting) >= max_waiting
        or held >= MAX_WAITING_BYTES
      ):
        yield from self._answer(waiting, crops)
        crops, held = [], 0
    yield from self._answer(waiting, crops)

  def warm_up(self) -> float:
    """Compiles the network's program if necessary; returns the time in seconds."""
    if not self._is_compiled:
      began = time.monotonic()
      self._compute_logits(np.zeros((1, *self.network.image_shape), np.uint8))
      self.timing.compilation = time.monotonic() - began
      self._is_compiled = True
    return self.timing.compilation

  def probabilities(self, images: np.ndarray) -> np.ndarray:
    """Calibrated probabilities of images of the network's input size.

    Args:
      images: uint8 `(M, height, width, channels)`, of `network.image_shape`, not
        equalized: a network with `config.input.equalize` equalizes them itself.

    Returns:
      float64 `(M, K)`.

    Raises:
      TypeError: for another dtype.
      ValueError: for another shape.
    """
    if images.dtype != np.uint8:
      raise TypeError(f"images: expected uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[1:] != self.network.image_shape:
      raise ValueError(
        f"images: expected (M, {', '.join(map(str, self.network.image_shape))}), got "
        f"{images.shape}"
      )
    logits = self._compute_logits(images).astype(np.float64)
    return special.softmax(logits / self.network.temperature, axis=-1)

  def _find(self, picture: np.ndarray) -> list[tuple[Any, np.ndarray]]:
    """Faces with their crops, as the network takes them."""
    if self._detect is None:
      return [(None, self._prepare(picture))]
    began, before = time.monotonic(), self._detect.loading
    found = self._detect(picture)
    loading = self._detect.loading - before
    self.timing.loading += loading
    self.timing.detection += time.monotonic() - began - loading
    self.timing.pictures += 1
    squares = [face_detector.square_of(face) for face in found]
    crops = [self._prepare(face_crop.cut(picture, square)) for square in squares]
    return list(zip(found, crops, strict=True))

  def _prepare(self, picture: np.ndarray) -> np.ndarray:
    """Converts channels and size, as the data set loaders do."""
    side, _, channels = self.network.image_shape
    return image_files.resize(decoding.convert(picture, channels), side)

  def _answer(self, waiting, crops):
    """Empties the queue."""
    if crops:
      self.warm_up()
      began = time.monotonic()
      rows = iter(self.probabilities(np.stack(crops)))
      self.timing.classification += time.monotonic() - began
      self.timing.faces += len(crops)
      self.timing.batches += -(-len(crops) // self._batch_size)
    while waiting:
      key, picture, found = waiting.popleft()
      yield key, picture, [self._prediction(face, next(rows)) for face in found]

  def _prediction(self, face: Any, probabilities: np.ndarray) -> Prediction:
    names = self.network.class_names
    best = int(probabilities.argmax())
    confidence = float(probabilities[best])
    return Prediction(
      box=face and (face.left, face.top, face.right, face.bottom),
      detection_score=face and face.score,
      label=names[best] if confidence >= self._min_confidence else UNCERTAIN,
      confidence=confidence,
      probabilities=dict(zip(names, map(float, probabilities), strict=True)),
    )
