"""Expression packages whose weights ship on PyPI, on the same PrivateTest images.

  python -m benchmarks.other_packages --package=fer --data_dir=data --images=500

Each runs in an environment of its own, since their dependencies exclude each other.
Images go in as they are, cropped, past every package's face detector: what is compared
is the classifier. Printed are accuracy with its 95 % interval (Wilson), balanced
accuracy, the CPU time of an image and of the import, and the size of the package with
all that it depends on, what it needs to find faces included. docs/comparison.md has the
figures.
"""

import importlib.metadata
import pathlib
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from absl import app, flags

from benchmarks.installed_size import installed_size
from emosynth_jax import command_line
from emosynth_jax.data import fer2013

# Images, uint8 (N, 48, 48), to the names of their classes as the package says them.
Classify = Callable[[np.ndarray], list[str]]

# FER-2013's names for what the packages call them.
NAMES = {"anger": "angry", "sadness": "sad", "surprised": "surprise"}


def one_by_one(classify: Callable[[np.ndarray], str]) -> Classify:
  """Images by a function that takes one, `(48, 48)`, at a time."""
  return lambda images: [classify(image) for image in images]


def build_emosynth_jax() -> Classify:
  """The network that comes with this project, one image at a time."""
  from emosynth_jax.predict import Predictor

  predictor = Predictor(faces="none", batch_size=1, min_confidence=0)
  return one_by_one(lambda image: predictor(image)[0].label)


def build_batches() -> Classify:
  """The same in batches of 64."""
  from emosynth_jax.predict import Predictor

  predictor = Predictor(faces="none", batch_size=64, min_confidence=0)
  return lambda images: [found[0].label for found in predictor.predict(list(images))]


def build_onnxruntime() -> Classify:
  """The same as ONNX in onnxruntime, one image at a time, by one thread."""
  from emosynth_jax import bundle, export, predict
  from emosynth_jax.exporting import answers

  answers.check_packages()
  import onnxruntime

  network = bundle.read_bundle(predict.PRETRAINED)
  options = onnxruntime.SessionOptions()
  # Further threads wait in a loop, which would count as time of the processor.
  options.intra_op_num_threads = 1
  content = export.export_network(network, "onnx")
  session = onnxruntime.InferenceSession(content, options)

  def classify(image: np.ndarray) -> str:
    (logits,) = session.run(["logits"], {"images": image[None, ..., None]})
    return network.class_names[int(logits.argmax())]

  return one_by_one(classify)


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

  # As it is, it stops on a machine without a GPU, where its weights were saved.
  torch.load = functools.partial(torch.load, map_location="cpu", weights_only=True)
  recognition = EmotionRecognition(device="cpu")
  return one_by_one(lambda image: recognition._predict(image))


PACKAGES: dict[str, Callable[[], Classify]] = {
  "emosynth_jax": build_emosynth_jax,
  "emosynth_jax, batches of 64": build_batches,
  "emosynth_jax, onnxruntime": build_onnxruntime,
  "fer": lambda: build_fer(use_tflite=True),
  "fer, Keras": lambda: build_fer(use_tflite=False),
  "facex": build_facex,
  "facial-emotion-recognition": build_facial_emotion_recognition,
}

# What is to be installed for a package to find faces as well, if not the package alone.
WITH_FACES = {"emosynth_jax": "emosynth_jax[predict]"}


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
  r"""Wilson's interval of a proportion.

  The p for which :math:`|\hat p - p| \le z \sqrt{p (1 - p) / n}`.

  Args:
    hits: successes, 0 to `total`.
    total: n, above 0.
    z: quantile of the normal distribution; 1.96 for 95 %.

  Returns:
    Its lower and upper end, in [0, 1].

  Raises:
    ValueError: for a number out of its range.
  """
  if not 0 <= hits <= total or not total:
    raise ValueError(f"expected 0 <= hits <= total > 0, got {hits} and {total}")
  share = hits / total
  centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
  spread = np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
  half = z * spread / (1 + z**2 / total)
  # Rounding may step over an end by 1e-17.
  return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def main(argv: list[str]) -> None:
  """Prints the figures of one package; a mistake ends it with one line."""
  command_line.expect_flags_only(argv)
  command_line.start_logging()
  given = flags.FLAGS
  with command_line.mistakes_in_one_line(given.traceback):
    measure(given.package, given.data_dir, given.images)


def measure(package: str, data_dir: str, num_images: int) -> None:
  """Prints the figures of one package.

  Args:
    package: of `PACKAGES`.
    data_dir: where FER-2013 is.
    num_images: at most so many of PrivateTest; 0 for all.

  Raises:
    FileNotFoundError: if the data set is missing.
    ModuleNotFoundError: if the package is.
    ValueError: for damaged data, or a class that FER-2013 doesn't have.
  """
  name = package.partition(",")[0]
  whole = WITH_FACES.get(name, name)
  # First, since it says what is missing.
  size, number = installed_size(whole)
  test = fer2013.load(data_dir, "test")
  # Drawn once for all packages; the files are sorted by class.
  rows = np.random.Generator(np.random.PCG64(0)).permutation(len(test))
  rows = np.sort(rows[: num_images or len(test)])
  images = test.images[rows, ..., 0]
  began = time.process_time()
  classify = PACKAGES[package]()
  classify(images[:1])
  start_up = time.process_time() - began
  began = time.process_time()
  answers = classify(images)
  seconds = time.process_time() - began
  predicted = to_labels(answers, test.class_names)
  right = predicted == test.labels[rows]
  # Of few images some classes may have none.
  present = np.unique(test.labels[rows])
  recalls = [right[test.labels[rows] == k].mean() for k in present]
  low, high = wilson(int(right.sum()), len(rows))
  print(
    f"{package} {importlib.metadata.version(name)}, Python "
    f"{sys.version.split()[0]}: {len(rows)} PrivateTest images, accuracy "
    f"{100 * right.mean():.1f} % ({100 * low:.1f} to {100 * high:.1f}), balanced "
    f"{100 * np.mean(recalls):.1f} %; CPU: {1000 * seconds / len(rows):.2f} ms an "
    f"image, {start_up:.1f} s to start; {whole}: {size / 1e6:.0f} MB in {number} "
    "packages"
  )
  pairs = zip(present, recalls, strict=True)
  print(
    "recall:",
    ", ".join(f"{test.class_names[k]} {100 * recall:.0f}" for k, recall in pairs),
  )


def to_labels(answers: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
  """A package's names of classes as labels.

  Args:
    answers: N names, in any case.
    class_names: FER-2013's, in label order.

  Returns:
    int `(N,)`.

  Raises:
    ValueError: for a name that is none of theirs.
  """
  labels = []
  for answer in answers:
    name = NAMES.get(answer.lower(), answer.lower())
    if name not in class_names:
      raise ValueError(
        f"the package says {answer!r}, expected one of {', '.join(class_names)}: "
        "benchmarks/other_packages.py has the names in NAMES"
      )
    labels.append(class_names.index(name))
  return np.array(labels)


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_enum("package", None, list(PACKAGES), "Which.", required=True)
  flags.DEFINE_string("data_dir", "data", "Where FER-2013 is.")
  flags.DEFINE_integer("images", 500, "PrivateTest images; 0 for all.", 0)
  command_line.define_traceback()


if __name__ == "__main__":
  define_flags()
  app.run(main)
