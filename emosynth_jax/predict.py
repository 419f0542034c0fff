"""Expressions of the faces in pictures.

  from emosynth_jax.predict import Predictor

  predictor = Predictor()  # or of a run's workdir, or a bundle
  print(predictor("photograph.jpg"))

and as a command, for image files, folders, videos and a webcam:

  python -m emosynth_jax.predict PATH... --annotate=DIR

Read docs/predict.md first, for what a label can't tell of a person.
"""

import os
import pathlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

FACES = ("detect", "none")
UNCERTAIN = "uncertain"
# The network that comes with the package, for those who have trained none.
PRETRAINED = pathlib.Path(__file__).parent / "pretrained" / "fer2013_small.safetensors"

Picture = np.ndarray | str | os.PathLike


class Prediction(NamedTuple):
  """The expression of a face.

  Attributes:
    box: left, top, right and bottom in pixels of the picture; None where the picture
      was taken for a face as it is.
    detection_score: the detector's, or None.
    label: the likeliest class, or "uncertain" below the least confidence.
    confidence: the calibrated probability of the likeliest class.
    probabilities: of each class by name, calibrated; they sum to 1.
  """

  box: tuple[float, float, float, float] | None
  detection_score: float | None
  label: str
  confidence: float
  probabilities: dict[str, float]


class Timing:
  """What the parts took, in seconds; compilation is in none but its own.

  Attributes:
    pictures: how many were searched for faces, and `detection` how long it took.
    faces: how many were classified, and `classification` how long it took.
    compilation: of the network's program, with its first call.
  """

  def __init__(self):
    self.pictures = self.faces = 0
    self.detection = self.classification = self.compilation = 0.0


class Predictor:
  """Finds faces and classifies them, in batches of one size, compiled once."""

  def __init__(
    self,
    source: str | os.PathLike | None = None,
    *,
    faces: str = "detect",
    min_confidence: float = 0.5,
    min_face_score: float = 0.5,
    max_side: int = 640,
    batch_size: int = 8,
    data_dir: str | None = None,
  ):
    """Reads the network.

    Args:
      source: a run's workdir, or a bundle (`emosynth_jax.bundle`); None for the
        network that comes with the package.
      faces: "detect" looks for them; "none" takes each picture for one cropped face.
      min_confidence: least confidence for a label, in [0, 1]; below it is "uncertain".
      min_face_score: the detector's least score, in (0, 1).
      max_side: see `faces.build_detector`.
      batch_size: faces at a time.
      data_dir: for a workdir that was never calibrated: where its data set is now.

    Raises:
      FileNotFoundError: if there is no network.
      ModuleNotFoundError: if the detector's package isn't installed.
      ValueError: for an argument out of its range, or a damaged file.
    """
    from emosynth_jax import bundle
    from emosynth_jax import faces as detection

    if faces not in FACES:
      raise ValueError(f"faces: expected one of {', '.join(FACES)}; got {faces!r}")
    if not 0 <= min_confidence <= 1:
      raise ValueError(f"min_confidence: expected [0, 1], got {min_confidence}")
    if batch_size < 1:
      raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    self._detect = None
    if faces == "detect":
      self._detect = detection.build_detector(
        min_score=min_face_score, max_side=max_side
      )
    self.network = bundle.read_network(source or PRETRAINED, data_dir=data_dir)
    self._compute_logits = bundle.compile_logits(self.network, batch_size=batch_size)
    self._batch_size = batch_size
    self._min_confidence = min_confidence
    self._is_compiled = False
    self.timing = Timing()

  def __call__(self, picture: Picture) -> list[Prediction]:
    """The expressions in a picture.

    Args:
      picture: a file's path, or uint8 `(H, W, 3)` in RGB, `(H, W, 1)` or `(H, W)`.

    Returns:
      A prediction for each face, the surest face first; an empty list where none is
      seen.

    Raises:
      TypeError: for an array that isn't uint8.
      ValueError: for an array of another shape, or a file that is no image.
      OSError: if the file can't be read.
    """
    return self.predict([picture])[0]

  def predict(self, pictures: Sequence[Picture]) -> list[list[Prediction]]:
    """The expressions in several pictures; faces of all of them share batches.

    Args:
      pictures: as `__call__` takes one.

    Returns:
      A list for each picture.
    """
    loaded = ((None, load(picture)) for picture in pictures)
    return [predictions for _, _, predictions in self.stream(loaded)]

  def stream(
    self,
    pictures: Iterable[tuple[Any, np.ndarray | None]],
    *,
    max_waiting: int | None = None,
  ) -> Iterator[tuple[Any, np.ndarray | None, list[Prediction]]]:
    """Predictions while the pictures come, in their order.

    Args:
      pictures: pairs of anything, which comes back, and a picture, uint8 `(H, W, C)`;
        None passes through.
      max_waiting: at most so many pictures wait for a batch to be full; 1 answers each
        picture before the next, as a webcam wants it. By default eight batches.

    Yields:
      The pair and its predictions.
    """
    if max_waiting is None:
      max_waiting = 8 * self._batch_size
    waiting: deque[tuple[Any, np.ndarray | None, list]] = deque()
    crops: list[np.ndarray] = []
    for key, picture in pictures:
      found = [] if picture is None else self._find(picture)
      waiting.append((key, picture, [face for face, _ in found]))
      crops += [crop for _, crop in found]
      if len(crops) >= self._batch_size or len(waiting) >= max_waiting:
        yield from self._answer(waiting, crops)
        crops = []
    yield from self._answer(waiting, crops)

  def warm_up(self) -> float:
    """Compiles the network's program, if that isn't done; seconds that it has taken."""
    if not self._is_compiled:
      began = time.monotonic()
      self._compute_logits(np.zeros((1, *self.network.image_shape), np.uint8))
      self.timing.compilation = time.monotonic() - began
      self._is_compiled = True
    return self.timing.compilation

  def probabilities(self, images: np.ndarray) -> np.ndarray:
    """Calibrated probabilities of images that are as the network takes them.

    Args:
      images: uint8 `(M, height, width, channels)`, of `network.image_shape`.

    Returns:
      float64 `(M, K)`.

    Raises:
      TypeError: for another dtype.
      ValueError: for another shape.
    """
    from scipy import special

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
    from emosynth_jax import faces as detection
    from emosynth_jax.data import _face_crop

    if self._detect is None:
      return [(None, self._prepare(picture))]
    began = time.monotonic()
    found = self._detect(picture)
    self.timing.detection += time.monotonic() - began
    self.timing.pictures += 1
    squares = [detection.square_of(face) for face in found]
    crops = [self._prepare(_face_crop.cut(picture, square)) for square in squares]
    return list(zip(found, crops, strict=True))

  def _prepare(self, picture: np.ndarray) -> np.ndarray:
    """Channels and size, by the functions with which the data sets are read."""
    from emosynth_jax.data import _image_files, _images

    height, width, channels = self.network.image_shape
    if height != width:
      raise ValueError(f"a network of {height}x{width} images can't be used here")
    return _image_files.resize(_images.convert(picture, channels), height)

  def _answer(self, waiting, crops):
    """Empties the queue."""
    if crops:
      self.warm_up()
      began = time.monotonic()
      rows = iter(self.probabilities(np.stack(crops)))
      self.timing.classification += time.monotonic() - began
      self.timing.faces += len(crops)
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


def load(picture: Picture) -> np.ndarray:
  """A picture as an array: read from its file, or checked.

  Args:
    picture: as `Predictor` takes it.

  Returns:
    uint8 `(H, W, C)`, C 1 or 3.
  """
  from emosynth_jax import faces
  from emosynth_jax.data import _images

  if isinstance(picture, str | os.PathLike):
    path = pathlib.Path(picture)
    return _images.decode(path.read_bytes(), str(path), 3)
  if isinstance(picture, np.ndarray) and picture.ndim == 2:
    picture = picture[..., None]
  faces.check_picture(picture)
  return picture


if __name__ == "__main__":
  from absl import app, flags

  from emosynth_jax import predict_run

  predict_run.define_flags()
  flags.adopt_module_key_flags(predict_run)
  app.run(predict_run.main)
