"""Expression packages whose weights ship on PyPI, on the same PrivateTest images.

  python -m benchmarks.other_packages --package=fer --data_dir=data --images=500

Each runs in an environment of its own, since their dependencies exclude each other.
Images go in as they are, cropped, past every package's face detector: what is compared
is the classifier. Printed are accuracy with its 95 % interval (Wilson), balanced
accuracy, the CPU time of an image and of the import, and the size of the package with
all that it depends on. docs/comparison.md has the figures.
"""

import importlib.metadata
import pathlib
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags

from emosynth_jax.data import fer2013

# An image, uint8 (48, 48), to the name of its class as the package says it.
Classify = Callable[[np.ndarray], str]

# FER-2013's names for what the packages call them.
NAMES = {"anger": "angry", "sadness": "sad", "surprised": "surprise"}


def build_emosynth_jax() -> Classify:
  """The network that comes with this project, one image at a time."""
  from emosynth_jax.predict import Predictor

  predictor = Predictor(faces="none", batch_size=1, min_confidence=0)
  return lambda image: predictor(image)[0].label


def build_fer(use_tflite: bool) -> Classify:
  """The package fer, by its quantised network, as by default, or by its Keras one."""
  import cv2
  from fer.fer import FER

  # No offset: its default of 10 pixels is for boxes of a detector.
  detector = FER(use_tflite=use_tflite, offsets=(0, 0))

  def classify(image: np.ndarray) -> str:
    picture = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    # A given rectangle takes the place of its detector.
    found = detector.detect_emotions(picture, face_rectangles=[(0, 0, 48, 48)])
    emotions = found[0]["emotions"]
    return max(emotions, key=emotions.get)

  return classify


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

  return classify


def build_facial_emotion_recognition() -> Classify:
  """The package facial-emotion-recognition."""
  import functools

  import torch
  from facial_emotion_recognition import EmotionRecognition

  # As it is, it stops on a machine without a GPU, where its weights were saved.
  torch.load = functools.partial(torch.load, map_location="cpu", weights_only=True)
  recognition = EmotionRecognition(device="cpu")
  return lambda image: recognition._predict(image)


PACKAGES: dict[str, Callable[[], Classify]] = {
  "emosynth_jax": build_emosynth_jax,
  "fer": lambda: build_fer(use_tflite=True),
  "fer, Keras": lambda: build_fer(use_tflite=False),
  "facex": build_facex,
  "facial-emotion-recognition": build_facial_emotion_recognition,
}


def installed_size(package: str) -> tuple[int, int]:
  """Bytes of a package with all it depends on, and how many packages that is."""
  todo, seen, size = [package], set(), 0
  while todo:
    name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
    if name in seen:
      continue
    try:
      distribution: Any = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
      continue
    seen.add(name)
    size += sum(file.size or 0 for file in distribution.files or [])
    for requirement in distribution.requires or []:
      # Extras of a requirement are followed no further than the requirement itself.
      if "extra ==" not in requirement:
        todo.append(re.split(r"[\s\[<>=!~;(]", requirement)[0])
  return size, len(seen)


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
  """Wilson's interval of a proportion."""
  share = hits / total
  centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
  spread = np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
  half = z * spread / (1 + z**2 / total)
  return centre - half, centre + half


def main(argv: list[str]) -> None:
  """Prints the figures of one package."""
  del argv
  given = flags.FLAGS
  test = fer2013.load(given.data_dir, "test")
  # Drawn once for all packages; the files are sorted by class.
  rows = np.random.Generator(np.random.PCG64(0)).permutation(len(test))
  rows = np.sort(rows[: given.images or len(test)])
  began = time.process_time()
  classify = PACKAGES[given.package]()
  classify(test.images[rows[0], ..., 0])
  start_up = time.process_time() - began
  began = time.process_time()
  labels = []
  for row in rows:
    name = classify(test.images[row, ..., 0]).lower()
    labels.append(test.class_names.index(NAMES.get(name, name)))
  seconds = time.process_time() - began
  right = np.array(labels) == test.labels[rows]
  recalls = [right[test.labels[rows] == k].mean() for k in range(7)]
  low, high = wilson(int(right.sum()), len(rows))
  package = given.package.partition(",")[0]
  size, number = installed_size(package)
  print(
    f"{given.package} {importlib.metadata.version(package)}, Python "
    f"{sys.version.split()[0]}: {len(rows)} PrivateTest images, accuracy "
    f"{100 * right.mean():.1f} % ({100 * low:.1f} to {100 * high:.1f}), balanced "
    f"{100 * np.mean(recalls):.1f} %; CPU: {1000 * seconds / len(rows):.1f} ms an "
    f"image, {start_up:.1f} s to start; {size / 1e6:.0f} MB in {number} packages"
  )
  pairs = zip(test.class_names, recalls, strict=True)
  print("recall:", ", ".join(f"{name} {100 * recall:.0f}" for name, recall in pairs))


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_enum("package", None, list(PACKAGES), "Which.", required=True)
  flags.DEFINE_string("data_dir", "data", "Where FER-2013 is.")
  flags.DEFINE_integer("images", 500, "PrivateTest images; 0 for all.", 0)


if __name__ == "__main__":
  define_flags()
  app.run(main)
