"""Accuracy of networks on faces of another kind: rotated, dark, small.

  python -m benchmarks.other_faces --data_dir=data

FER-2013's faces (fer2013.csv, original pixels) are changed as photographs may differ
from them, and every network classifies each. Networks of FER-2013 and of FER+ have
labels that cannot be compared; therefore the table also has the accuracy on the faces
of which FER-2013's label and FER+'s majority are the same, and how often a prediction
stays what it is on the unchanged face. By default on PublicTest, since a
choice rests on it. docs/results/other_faces.md has the results.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from absl import flags

from emosynth_jax import bundle, pretrained
from emosynth_jax.data.datasets import fer2013, fer_plus
from emosynth_jax.utils import cli, text_table


class Faces(NamedTuple):
  """Images of one split with the labels of both data sets.

  Attributes:
    images: uint8 `(N, 48, 48, 1)`.
    labels: by data set, the class name of each image; "" where it has none.
  """

  images: np.ndarray
  labels: Mapping[str, np.ndarray]


def turn(image: np.ndarray, degrees: float, scale: float = 1.0) -> np.ndarray:
  """Turns a face clockwise about its center and scales it, its border repeated.

  Args:
    image: uint8 `(side, side)`.
    degrees: the angle.
    scale: above 1 enlarges the face beyond the image's border.

  Returns:
    uint8 `(side, side)`.
  """
  center = (len(image) - 1) / 2
  matrix = cv2.getRotationMatrix2D((center, center), -degrees, scale)
  return cv2.warpAffine(
    image, matrix, image.shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
  )


def shrink(image: np.ndarray, side: int) -> np.ndarray:
  """Shrinks a face to `side` pixels, as of a distant person, and enlarges it again."""
  small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
  return cv2.resize(small, image.shape, interpolation=cv2.INTER_LINEAR)


def relight(image: np.ndarray, factor: float, offset: float = 0.0) -> np.ndarray:
  """Multiplies the gray levels by a factor and adds an offset, rounded and clipped."""
  return np.clip(np.rint(factor * image.astype(float) + offset), 0, 255).astype(
    np.uint8
  )


# Uint8 (48, 48) to the same.
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
  "as it is": lambda image: image,
  "mirrored": lambda image: image[:, ::-1],
  "rotated by 10 degrees": lambda image: turn(image, 10),
  "rotated by 20 degrees": lambda image: turn(image, 20),
  "rotated by 30 degrees": lambda image: turn(image, 30),
  "center 44 of 48 pixels": lambda image: turn(image, 0, 48 / 44),
  "center 38 of 48 pixels": lambda image: turn(image, 0, 48 / 38),
  "four fifths of the size": lambda image: turn(image, 0, 0.8),
  "24 pixels a side": lambda image: shrink(image, 24),
  "16 pixels a side": lambda image: shrink(image, 16),
  "a quarter of the light": lambda image: relight(image, 0.25),
  "a quarter of the contrast": lambda image: relight(image, 0.25, 96),
  "overexposed": lambda image: relight(image, 1.5, 40),
}


def load(data_dir: str, split: str) -> Faces:
  """Loads FER-2013's images with its labels and FER+'s.

  Args:
    data_dir: folder of fer2013.csv and fer2013new.csv.
    split: "validation" (PublicTest) or "test" (PrivateTest).

  Raises:
    FileNotFoundError, ValueError: as `fer2013.load` and `fer_plus.load`.
  """
  plain, voted = fer2013.load(data_dir, split), fer_plus.load(data_dir, split)
  majority = {
    source: voted.class_names[label]
    for source, label in zip(voted.sources, voted.labels, strict=True)
  }
  labels = {
    "fer2013": np.array(plain.class_names)[plain.labels],
    "fer_plus": np.array([majority.get(source, "") for source in plain.sources]),
  }
  return Faces(plain.images, labels)


def evaluate(
  predictions: Mapping[str, np.ndarray], faces: Faces, labels: str
) -> list[tuple[str, float, float, float]]:
  """Evaluates a network's predictions.

  Args:
    predictions: class names `(N,)` by change, the first of the unchanged images.
    faces: the images.
    labels: the data set whose labels are the network's own.

  Returns:
    For each change, its name; the accuracy on the network's own labels; that on the
    faces of which both data sets have the same label; and the share of predictions that
    equal those of the unchanged images.
  """
  own, (first, second) = faces.labels[labels], faces.labels.values()
  agreed = first == second
  unchanged = next(iter(predictions.values()))
  return [
    (
      name,
      float((found == own)[own != ""].mean()),
      float((found == own)[agreed].mean()),
      float((found == unchanged).mean()),
    )
    for name, found in predictions.items()
  ]


def predict(network: bundle.Bundle, images: np.ndarray) -> dict[str, np.ndarray]:
  """Predicts the class names of images under each of `CHANGES`."""
  compute = bundle.compile_logits(network, batch_size=bundle.SPLIT_BATCH)
  names = np.array(network.class_names)
  found = {}
  for change, function in CHANGES.items():
    changed = np.stack([function(image) for image in images[..., 0]])
    found[change] = names[compute(changed[..., None]).argmax(-1)]
  return found


def print_table(args: Any) -> None:
  """Prints a table of the networks."""
  faces = load(args.data_dir, args.split)
  first, second = faces.labels.values()
  print(
    f"{len(faces.images):,} images, {(second != '').sum():,} with a majority, "
    f"{(first == second).sum():,} with one label\n"
  )
  rows: list[Sequence[str]] = [
    ("face", "network", "own labels", "one label", "same prediction")
  ]
  networks = [
    bundle.read_network(source, data_dir=args.data_dir) for source in args.networks
  ]
  for source, network in zip(args.networks, networks, strict=True):
    if network.config.data.name not in faces.labels:
      raise ValueError(
        f"--networks: expected networks of FER-2013 or FER+, {source} is of "
        f"{network.config.data.name}"
      )
    if network.image_shape != faces.images.shape[1:]:
      raise ValueError(
        f"--networks: expected images of 48x48x1, {source} takes "
        f"{'x'.join(map(str, network.image_shape))}"
      )

  for source, network in zip(args.networks, networks, strict=True):
    name = pathlib.Path(source).name
    predictions = predict(network, faces.images)
    for change, *shares in evaluate(predictions, faces, network.config.data.name):
      rows.append((change, name, *(f"{100 * share:.1f} %" for share in shares)))
  order = list(CHANGES)
  rows[1:] = sorted(rows[1:], key=lambda row: order.index(row[0]))
  print("\n".join(text_table.markdown(rows, left=(0, 1))))


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string(
    "data_dir", "data", "Folder of fer2013.csv and fer2013new.csv (FER+'s votes)."
  )
  flags.DEFINE_list(
    "networks",
    list(pretrained.NETWORKS),
    "Included networks, bundles or workdirs of FER-2013 or FER+.",
  )
  flags.DEFINE_enum(
    "split", "validation", ["validation", "test"], "PublicTest or PrivateTest."
  )


if __name__ == "__main__":
  cli.run(define_flags, print_table)
