"""Evaluates expression packages whose weights ship on PyPI on PrivateTest.

  python -m benchmarks.other_packages --package=fer --data_dir=data/fer2013.csv \\
      --answers=runs/packages/fer.csv
  python -m benchmarks.other_packages --package=emosynth_jax \\
      --data_dir=data/fer2013.csv --baseline=runs/packages/fer.csv

Each package runs in a separate environment, since their dependencies conflict. Every
package gets the cropped face, without its face detector, and scales it as its authors'
code does: only the classifiers are compared. FER-2013 comes in two forms, original
pixels (`fer2013.csv`) and histogram-equalized ones (Kaggle's `fer2013.zip`);
`--equalize` applies `cv2.equalizeHist` to the images of either.
docs/results/comparison.md has the results.

Reported are accuracy with its 95 % confidence interval (Wilson), balanced accuracy, the
CPU time of an image and of the import, the size of the package with its dependencies
(including those for face detection), and the paired difference from a baseline.
"""

import importlib.metadata
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags

from benchmarks import package_answers
from benchmarks.installed_size import installed_size
from emosynth_jax.data.dataset import draw_rows
from emosynth_jax.data.datasets import fer2013
from emosynth_jax.metrics import statistics
from emosynth_jax.utils import cli

# Images, uint8 (N, 48, 48), to the package's names of their classes.
Classify = Callable[[np.ndarray], list[str]]

# FER-2013's class names by the packages' names.
NAMES = {"anger": "angry", "sadness": "sad", "surprised": "surprise"}


def one_by_one(classify: Callable[[np.ndarray], str]) -> Classify:
  """Applies a function of one image, `(48, 48)`, to all images."""
  return lambda images: [classify(image) for image in images]


def build_emosynth_jax() -> Classify:
  """The included network fer2013, one image at a time."""
  from emosynth_jax.predict import Predictor

  predictor = Predictor("fer2013", faces="none", batch_size=1, min_confidence=0)
  return one_by_one(lambda image: predictor(image)[0].label)


def build_batches() -> Classify:
  """Likewise in batches of 64."""
  from emosynth_jax.predict import Predictor

  predictor = Predictor("fer2013", faces="none", batch_size=64, min_confidence=0)
  return lambda images: [found[0].label for found in predictor.predict(list(images))]


def build_onnxruntime() -> Classify:
  """Likewise as ONNX in onnxruntime, one image at a time, with one thread."""
  from benchmarks import latency_runtimes
  from emosynth_jax import bundle

  network = bundle.read_network("fer2013")
  # Further threads busy-wait, which would count as CPU time.
  run = latency_runtimes.build("onnxruntime, onnx", network, threads=1)

  def classify(image: np.ndarray) -> str:
    (logits,) = run(image[None, ..., None])
    return network.class_names[int(logits.argmax())]

  return one_by_one(classify)


def build_fer(use_tflite: bool = True, offset: int = 0) -> Classify:
  """The package fer.

  Args:
    use_tflite: its quantized network, as by default, or its Keras one.
    offset: pixels by which it widens the box. Its default of 10 is for boxes of a
      detector; on a cropped face they are a border of one gray level.
  """
  import cv2
  from fer.fer import FER

  detector = FER(use_tflite=use_tflite, offsets=(offset, offset))
  names = detector._get_labels()
  compute_scores = detector._classify_emotions
  scores = np.zeros((1, len(names)))

  # `detect_emotions` returns scores rounded to two decimals, some of them equal.
  def keep_scores(faces: np.ndarray) -> np.ndarray:
    nonlocal scores
    scores = np.asarray(compute_scores(faces))
    return scores

  detector._classify_emotions = keep_scores

  def classify(image: np.ndarray) -> str:
    colored = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    # A given rectangle replaces its detector.
    detector.detect_emotions(colored, face_rectangles=[(0, 0, 48, 48)])
    return names[int(scores[0].argmax())]

  return one_by_one(classify)


def build_facex() -> Classify:
  """The package facex."""
  import facex.core

  folder = pathlib.Path(facex.core.__file__).parent
  classifier = facex.core.EmotionClassifier(
    str(folder / "assets" / "model_optimized.tflite")
  )

  def classify(image: np.ndarray) -> str:
    emotions = classifier.detect_emotion(image)
    return max(emotions, key=emotions.get)

  return one_by_one(classify)


def build_facial_emotion_recognition() -> Classify:
  """The package facial-emotion-recognition."""
  import functools

  import torch
  from facial_emotion_recognition import EmotionRecognition

  # Unpatched, it fails without a GPU, since its weights were saved on one.
  torch.load = functools.partial(torch.load, map_location="cpu", weights_only=True)
  recognition = EmotionRecognition(device="cpu")
  return one_by_one(lambda image: recognition._predict(image))


PACKAGES: dict[str, Callable[[], Classify]] = {
  "emosynth_jax": build_emosynth_jax,
  "emosynth_jax, batches of 64": build_batches,
  "emosynth_jax, onnxruntime": build_onnxruntime,
  "fer": build_fer,
  "fer, boxes widened by 10 pixels": lambda: build_fer(offset=10),
  "fer, Keras": lambda: build_fer(use_tflite=False),
  "facex": build_facex,
  "facial-emotion-recognition": build_facial_emotion_recognition,
}

# Requirements of a package including face detection, if more than the package.
WITH_FACES = {"emosynth_jax": "emosynth_jax[predict]"}


def print_results(args: Any) -> None:
  """Measures one package with the flags, and prints the results.

  Raises:
    FileNotFoundError: if the data set or the baseline is missing.
    ModuleNotFoundError: if the package is.
    ValueError: for damaged data, a class that FER-2013 doesn't have, or a baseline of
      other images.
  """
  package, name = args.package, args.package.partition(",")[0]
  whole = WITH_FACES.get(name, name)
  # First, since it reports missing files.
  size, number = installed_size(whole)

  test = fer2013.load(args.data_dir, "test")
  # Drawn once for all packages; the files of the zip are sorted by class.
  rows = draw_rows(len(test), args.images)
  images, labels = test.images[rows, ..., 0], test.labels[rows]
  sources = [test.sources[row] for row in rows]
  baseline = None
  if args.baseline:
    baseline = package_answers.read(args.baseline, sources, labels)
  if args.equalize:
    images = equalize_histograms(images)

  began = time.process_time()
  classify = PACKAGES[package]()
  classify(images[:1])
  start_up = time.process_time() - began
  began = time.process_time()
  answers = classify(images)
  seconds = time.process_time() - began
  predicted = to_labels(answers, test.class_names)
  if args.answers:
    package_answers.write(args.answers, sources, labels, predicted)

  right = predicted == labels
  # With few images some classes may be empty.
  present = np.unique(labels)
  recalls = [right[labels == k].mean() for k in present]
  low, high = statistics.proportion_interval(int(right.sum()), len(rows))
  form = ", cv2.equalizeHist applied" if args.equalize else ""
  print(
    f"{package} {importlib.metadata.version(name)}, Python {sys.version.split()[0]}: "
    f"{len(rows):,} PrivateTest images of {args.data_dir}{form}: accuracy "
    f"{100 * right.mean():.2f} % ({100 * low:.2f} to {100 * high:.2f}), balanced "
    f"{100 * np.mean(recalls):.2f} %; CPU: {1000 * seconds / len(rows):.2f} ms/image, "
    f"{start_up:.1f} s startup; {whole}: {size / 1e6:.0f} MB in {number} packages"
  )
  pairs = zip(present, recalls, strict=True)
  print(
    "recall:",
    ", ".join(f"{test.class_names[k]} {100 * recall:.1f}" for k, recall in pairs),
  )
  if baseline is not None:
    print(
      f"less {args.baseline}: {package_answers.difference(right, baseline == labels)}"
    )


def equalize_histograms(images: np.ndarray) -> np.ndarray:
  """Global histogram equalization of each image, uint8 `(N, 48, 48)`, by OpenCV."""
  import cv2

  return np.stack([cv2.equalizeHist(image) for image in images])


def to_labels(answers: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
  """Converts a package's class names to labels.

  Args:
    answers: N names, in any case.
    class_names: FER-2013's, in label order.

  Returns:
    int `(N,)`.

  Raises:
    ValueError: for an unknown name.
  """
  labels = []
  for answer in answers:
    name = NAMES.get(answer.lower(), answer.lower())
    if name not in class_names:
      raise ValueError(
        f"the package returned {answer!r}, expected one of {', '.join(class_names)}: "
        "benchmarks/other_packages.py has the names in NAMES"
      )
    labels.append(class_names.index(name))
  return np.array(labels)


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_enum(
    "package", None, list(PACKAGES), "Package to benchmark.", required=True
  )
  flags.DEFINE_string(
    "data_dir",
    "data",
    "Directory of FER-2013; or fer2013.csv (original pixels) or fer2013.zip "
    "(equalized), if it has both.",
  )
  flags.DEFINE_integer("images", 0, "Number of PrivateTest images; 0 for all.", 0)
  flags.DEFINE_bool("equalize", False, "Apply cv2.equalizeHist to each image first.")
  flags.DEFINE_string("answers", None, "CSV file for the predictions.")
  flags.DEFINE_string(
    "baseline", None, "Predictions of another package, for a paired comparison."
  )


if __name__ == "__main__":
  cli.run(define_flags, print_results)
