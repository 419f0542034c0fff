"""Face detection and expression classification."""

import functools
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from scipy import special

from emosynth_jax import bundle
from emosynth_jax.data.images import decoding, face_detector
from emosynth_jax.data.images import files as image_files
from emosynth_jax.predict import image_input, media, single_face, sources
from emosynth_jax.predict.labels import FACES, UNCERTAIN
from emosynth_jax.predict.timing import Timing
from emosynth_jax.utils import arguments, errors, forks

# Maximum size in bytes of the images that wait for a full batch of faces.
MAX_WAITING_BYTES = 256 * 2**20

# What `image_input.load` takes; too many types to list.
ImageLike = Any


class Prediction(NamedTuple):
  """Prediction for one face.

  Attributes:
    box: left, top, right and bottom in pixels of the image; None if the whole image was
      classified as a face.
    detection_score: score of the detector, or None.
    label: the most probable class, or "uncertain" below the minimum confidence.
    confidence: the calibrated probability of the most probable class.
    probabilities: of each class by name, calibrated; they sum to 1.
    angle: of the head in the image plane, in degrees clockwise; None without a
      detector.
  """

  box: tuple[float, float, float, float] | None
  detection_score: float | None
  label: str
  confidence: float
  probabilities: dict[str, float]
  angle: float | None = None


class Predictor:
  """Detects and classifies faces: one, or in batches of one size, compiled once.

  Threads may share a predictor. It can be pickled, with its network, for processes that
  are started by spawn; in a forked one it raises RuntimeError.
  """

  def __init__(
    self,
    source: str | os.PathLike | bundle.Bundle | None = None,
    *,
    faces: str = "detect",
    min_confidence: float = 0.5,
    min_face_score: float = 0.5,
    max_side: int = 640,
    max_scale: float = 2.0,
    upright: bool = True,
    batch_size: int = 8,
    array_order: str = "rgb",
    data_dir: str | None = None,
  ):
    """Loads the network.

    Args:
      source: a run's workdir, a bundle (`emosynth_jax.bundle`) or its file, or the
        name of an included network: "ferplus", as by default, with contempt among
        its eight classes, or "fer2013".
      faces: "detect" runs the detector; "none" treats each image as one cropped face.
      min_confidence: minimum confidence for a label, in [0, 1]; below it the label is
        "uncertain".
      min_face_score: minimum score of the detector, in (0, 1).
      max_side: images with a longer side of more pixels are shrunk to it before
        detection; see `face_detector.Detector`.
      max_scale: smaller images are enlarged by up to this factor, to that side at most.
      upright: faces that are turned in the image plane, as in a photograph that lies on
        its side, are turned upright before they are classified.
      batch_size: faces at a time; one that is left over, or comes alone, is classified
        alone, on a CPU by onnxruntime where it is installed, whose probabilities are
        within 1e-4 of JAX's.
      array_order: order of the channels of arrays, "rgb", or "bgr" as OpenCV reads
        images. Files and Pillow images are not concerned.
      data_dir: data set directory of a workdir that is not calibrated yet, if it moved.

    Raises:
      FileNotFoundError: if there is no network.
      ModuleNotFoundError: if the detector's package isn't installed.
      ValueError: for an argument out of its range, a damaged file, or a network of
        images that aren't square.
      RuntimeError: in a process that was forked after its parent used JAX.
    """
    forks.check("Predictor")
    errors.check_choice("faces", faces, FACES)
    arguments.check_number("min_confidence", min_confidence, 0, 1)
    batch_size = arguments.as_integer("batch_size", batch_size, 1)
    errors.check_choice("array_order", array_order, image_input.ORDERS)
    self._detect = None
    if faces == "detect":
      self._detect = face_detector.Detector(
        min_face_score=min_face_score,
        max_side=max_side,
        max_scale=max_scale,
        upright=upright,
      )
    self.network = (
      source
      if isinstance(source, bundle.Bundle)
      else bundle.read_network(source, data_dir=data_dir)
    )
    height, width, _ = self.network.image_shape
    if height != width:
      raise ValueError(
        f"expected a network of square images, got {height}x{width}: faces are "
        "cropped as squares"
      )

    self._compute_logits = bundle.compile_logits(self.network, batch_size=batch_size)
    self._batch_size = batch_size
    # Built with its first face.
    self._compute_alone: single_face.Logits | None = None
    self._runtime_alone = single_face.runtime()
    self._min_confidence = min_confidence
    self._array_order = array_order
    self._is_compiled = batch_size == 1
    self._compiling = threading.Lock()
    self.timing = Timing()
    self._arguments: dict[str, Any] = {
      "faces": faces,
      "min_confidence": min_confidence,
      "min_face_score": min_face_score,
      "max_side": max_side,
      "max_scale": max_scale,
      "upright": upright,
      "batch_size": batch_size,
      "array_order": array_order,
    }

  def __repr__(self) -> str:
    """Names the network, what is done about faces, and what classifies one alone."""
    return (
      f"Predictor({self.network}, faces={self._arguments['faces']!r}, "
      f"single_faces={self._runtime_alone!r})"
    )

  def __reduce__(self) -> Any:
    # The network itself, so that another process needs no file.
    return functools.partial(type(self), self.network, **self._arguments), ()

  @overload
  def __call__(self, image: str | os.PathLike | bytes) -> list[Prediction]: ...

  @overload
  def __call__(self, image: list[Any] | tuple[Any, ...]) -> list[list[Prediction]]: ...

  @overload
  def __call__(self, image: ImageLike) -> list[Any]: ...

  def __call__(self, image: ImageLike) -> list[Any]:
    """Predicts the expressions in an image, or in several.

    Args:
      image: the path of an image file; its bytes, or the file opened as binary; a
        Pillow image; an array `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)` of
        NumPy or JAX, of uint8, or of floats in [0, 1]. Or a list of such, or an array
        `(N, H, W, C)` or, with N above 4, `(N, H, W)`.

    Returns:
      Of one image, a `Prediction` for each face, by descending detection score; an
      empty list if there is none. Of several, such a list for each.

    Raises:
      TypeError: for another type or dtype.
      ValueError: for an array of another shape or range, or a file that is no image.
      OSError: if the file can't be read.
      RuntimeError: in a forked process.
    """
    if image_input.is_one(image):
      return self.predict([image])[0]
    return self.predict(image)

  @overload
  def predict(
    self, images: Iterable[ImageLike], *, return_exceptions: Literal[False] = False
  ) -> list[list[Prediction]]: ...

  @overload
  def predict(
    self, images: Iterable[ImageLike], *, return_exceptions: bool
  ) -> list[list[Prediction] | Exception]: ...

  def predict(
    self, images: Iterable[ImageLike], *, return_exceptions: bool = False
  ) -> list[Any]:
    """Predicts the expressions in several images, whose faces share batches.

    Args:
      images: as for `__call__`. Each is read when needed.
      return_exceptions: the error of an unreadable image is returned in the list
        instead of raised.

    Returns:
      For each image a list of `Prediction`s, or its error.

    Raises:
      TypeError, ValueError, OSError: as `__call__`, for the first such image, which a
        note identifies.
      TypeError: for a single image.
      RuntimeError: in a forked process.
    """
    forks.check("Predictor")
    if image_input.is_one(images) or not hasattr(images, "__iter__"):
      raise TypeError(
        f"predict: expected several images, got one {type(images).__name__}; call "
        "predictor(image), or predictor.predict([image])"
      )
    failed: dict[int, Exception] = {}

    def loaded() -> Iterator[tuple[int, np.ndarray | None]]:
      for i, image in enumerate(images):
        try:
          yield i, image_input.load(image, order=self._array_order)
        except (TypeError, ValueError, OSError) as error:
          if not return_exceptions:
            error.add_note(
              f"in images[{i}]; set return_exceptions=True to continue with the others"
            )
            raise
          failed[i] = error
          yield i, None

    answers = self._stream(loaded(), keep_images=False)
    return [failed.get(i, predictions) for i, _, predictions in answers]

  def video(
    self,
    source: str | os.PathLike | int,
    *,
    every: int = 1,
    max_frames: int = 0,
  ) -> Iterator[tuple[media.Frame, list[Prediction]]]:
    """Yields the predictions for the frames of a video, a stream or a webcam.

    Args:
      source: a video file's path, an address as of rtsp:// or https://, or a webcam's
        number.
      every: take one of every so many frames.
      max_frames: maximum number of frames; 0 for all.

    Yields:
      Frames, with their number and time in seconds, and the predictions for each. A
      frame that can't be decoded has an error and no predictions.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if no frame can be decoded, or, after its frames, if the video is cut
        off.
      RuntimeError: in a forked process.
    """
    forks.check("Predictor")
    path = str(source) if isinstance(source, int) else os.fspath(source)
    if sources.missing([path]):
      raise FileNotFoundError(f"{path}: no such video file")
    if os.path.isdir(path):
      raise IsADirectoryError(f"{path}: expected a video file, got a folder")
    found = sources.find([path])
    frames = media.read_all(found, every=every, max_frames=max_frames)
    answers = self._stream(
      ((frame, frame.image) for frame in frames),
      max_waiting=1 if sources.is_live(path) else None,
    )
    for frame, _, predictions in answers:
      if frame.error and frame.number is None:
        raise ValueError(f"{frame.source}: {frame.error}")
      yield frame, predictions

  def stream(
    self,
    images: Iterable[tuple[Any, ImageLike | None]],
    *,
    max_waiting: int | None = None,
    keep_images: bool = True,
  ) -> Iterator[tuple[Any, np.ndarray | None, list[Prediction]]]:
    """Yields predictions for a stream of images, in order.

    Args:
      images: pairs of any object, which is returned, and an image, as for
        `__call__`; None is passed through.
      max_waiting: maximum number of images that wait for a full batch; 1 processes each
        image before the next, as for a webcam. By default eight batches, or
        `MAX_WAITING_BYTES` of pixels.
      keep_images: False drops the pixels once the faces are cropped.

    Yields:
      The pair, its image as uint8 `(H, W, C)` in RGB, and its predictions; None in
      place of the image if it is not kept.

    Raises:
      TypeError, ValueError, OSError: as `__call__`.
      RuntimeError: in a forked process.
    """
    forks.check("Predictor")
    if image_input.is_one(images):
      raise TypeError(
        "stream: expected pairs of an object and an image, got one "
        f"{type(images).__name__}; call predictor(image)"
      )

    def loaded() -> Iterator[tuple[Any, np.ndarray | None]]:
      for pair in images:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
          raise TypeError(
            "stream: expected pairs of an object and an image, got one "
            f"{type(pair).__name__} among them"
          )
        key, image = pair
        yield (
          key,
          None if image is None else image_input.load(image, order=self._array_order),
        )

    yield from self._stream(loaded(), max_waiting=max_waiting, keep_images=keep_images)

  def _stream(
    self,
    images: Iterable[tuple[Any, np.ndarray | None]],
    *,
    max_waiting: int | None = None,
    keep_images: bool = True,
  ) -> Iterator[tuple[Any, np.ndarray | None, list[Prediction]]]:
    """As `stream`, of arrays in RGB."""
    if max_waiting is None:
      max_waiting = 8 * self._batch_size
    waiting: deque[tuple[Any, np.ndarray | None, list]] = deque()
    crops: list[np.ndarray] = []
    held = 0
    for key, image in images:
      found = [] if image is None else self._find(image)
      kept = image if keep_images else None
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
    """Compiles the network's programs if necessary; returns the time in seconds."""
    forks.check("Predictor")
    self._compile_for(1)
    self._compile_for(self._batch_size)
    return self.timing.compilation

  def _num_alone(self, number: int) -> int:
    """Number of faces, the last of `number`, that are classified alone."""
    return number if self._batch_size == 1 else int(number % self._batch_size == 1)

  def _compile_for(self, number: int) -> None:
    """Compiles what some number of faces needs, unless it is compiled."""
    num_alone = self._num_alone(number)
    with self._compiling:
      began = time.monotonic()
      if num_alone and self._compute_alone is None:
        self._compute_alone, self._runtime_alone = single_face.build(
          self.network,
          self._compute_logits
          if self._batch_size == 1
          else bundle.compile_logits(self.network, batch_size=1),
        )
        self.timing.compilation += time.monotonic() - began

      began = time.monotonic()
      if number > num_alone and not self._is_compiled:
        self._compute_logits(np.zeros((1, *self.network.image_shape), np.uint8))
        self._is_compiled = True
        self.timing.compilation += time.monotonic() - began

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
    forks.check("Predictor")
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
      kind = getattr(images, "dtype", type(images).__name__)
      raise TypeError(f"images: expected a NumPy array of uint8, got {kind}")
    if images.ndim != 4 or images.shape[1:] != self.network.image_shape:
      raise ValueError(
        f"images: expected (M, {', '.join(map(str, self.network.image_shape))}), got "
        f"{images.shape}"
      )

    self._compile_for(len(images))
    in_batches = len(images) - self._num_alone(len(images))
    parts = [self._compute_logits(images[:in_batches])]
    for i in range(in_batches, len(images)):
      assert self._compute_alone is not None
      parts.append(self._compute_alone(images[i : i + 1]))
    logits = np.concatenate(parts).astype(np.float64)
    return special.softmax(logits / self.network.temperature, axis=-1)

  def _find(self, image: np.ndarray) -> list[tuple[Any, np.ndarray]]:
    """Faces with their crops, as the network takes them."""
    if self._detect is None:
      return [(None, self._prepare(image))]
    began = time.monotonic()
    found = self._detect(image)
    smallest = face_detector.smallest_face(
      image.shape,
      max_side=self._arguments["max_side"],
      max_scale=self._arguments["max_scale"],
    )
    if smallest > 4 * face_detector.SMALLEST:
      self.timing.add_shrunk(smallest)
    self.timing.add_detection(time.monotonic() - began, self._detect.loading)
    upright = self._arguments["upright"]
    crops = [
      self._prepare(face_detector.cut_face(image, face, upright=upright))
      for face in found
    ]
    return list(zip(found, crops, strict=True))

  def _prepare(self, image: np.ndarray) -> np.ndarray:
    """Converts channels and size, as the data set loaders do."""
    side, _, channels = self.network.image_shape
    return image_files.resize(decoding.convert(image, channels), side)

  def _answer(self, waiting, crops):
    """Empties the queue."""
    if crops:
      self._compile_for(len(crops))
      began = time.monotonic()
      rows = iter(self.probabilities(np.stack(crops)))
      num_alone = self._num_alone(len(crops))
      batches = -(-(len(crops) - num_alone) // self._batch_size)
      self.timing.add_classification(
        time.monotonic() - began, len(crops), batches * self._batch_size + num_alone
      )
    while waiting:
      key, image, found = waiting.popleft()
      yield key, image, [self._prediction(face, next(rows)) for face in found]

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
      angle=face and face.angle,
    )
