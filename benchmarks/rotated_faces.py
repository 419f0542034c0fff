"""Benchmark of rotating faces upright: accuracy on faces rotated in the image plane.

  python -m benchmarks.rotated_faces --data_dir=data --photographs=DIR

Images of FER-2013's PublicTest split (never PrivateTest), four on a canvas, each
enlarged to 144 pixels, its border repeated, and rotated by each of the angles, to the
left and to the right in turn. Of the faces that the detector finds, the network
fer2013 reads the crop as it is and rotated upright.

Then the photographs of benchmarks.face_detectors, whose expressions are not known: how
often the answer is that on the upright photograph, and the total variation distance of
the probabilities from it. docs/results/rotated_faces.md has the results.
"""

import pathlib
from typing import Any

import cv2
import numpy as np
from absl import flags

from benchmarks import face_detectors, other_faces
from emosynth_jax.data.datasets import fer2013
from emosynth_jax.data.images import decoding, face_detector
from emosynth_jax.data.images import files as image_files
from emosynth_jax.predict import Predictor
from emosynth_jax.utils import cli

ANGLES = (0, 10, 20, 30, 45, 60, 90, 135, 180)
PHOTOGRAPH_ANGLES = (0, 15, 30, 45, 60, 90, 120, 150, 180)
SIDE, BORDER = 144, 88
TILE = SIDE + 2 * BORDER


def rotated_tile(image: np.ndarray, angle: float) -> np.ndarray:
  """A tile in whose middle an image is rotated clockwise."""
  large = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
  tile = cv2.copyMakeBorder(large, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_REPLICATE)
  return other_faces.turn(tile, angle)


def _middle(face: Any) -> np.ndarray:
  return np.array([face.left + face.right, face.top + face.bottom]) / 2


def find_faces(
  detect: Any, images: np.ndarray, angles: np.ndarray
) -> list[tuple[np.ndarray, Any] | None]:
  """The canvas and the face of each image; None where none is found."""
  found: list[tuple[np.ndarray, Any] | None] = []
  for start in range(0, len(images), 4):
    tiles = [
      rotated_tile(image, angle)
      for image, angle in zip(
        images[start : start + 4], angles[start : start + 4], strict=True
      )
    ]
    canvas = np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])[..., None]
    faces = detect(canvas)
    for i in range(4):
      middle = np.array([TILE * (i % 2 + 0.5), TILE * (i // 2 + 0.5)])
      near = [face for face in faces if np.hypot(*(_middle(face) - middle)) < SIDE / 4]
      found.append((canvas, near[0]) if near else None)
  return found


def read_faces(predictor: Any, faces: list[Any], *, upright: bool) -> np.ndarray:
  """The probabilities of each face's classes."""
  side, _, channels = predictor.network.image_shape
  crops = [
    image_files.resize(
      decoding.convert(face_detector.cut_face(canvas, face, upright=upright), channels),
      side,
    )
    for canvas, face in faces
  ]
  return predictor.probabilities(np.stack(crops))


def compare_photographs(predictor: Any, detect: Any, folder: pathlib.Path) -> None:
  """Prints a row for each angle: agreement with the upright photographs."""
  print("angle found error same_as_is same_upright distance_as_is distance_upright")
  expected: dict[str, np.ndarray] = {}
  for angle in PHOTOGRAPH_ANGLES:
    rows = []
    number = 0
    for name, box in face_detectors.PHOTOGRAPHS.items():
      image = face_detectors.read(folder / name)
      for sign in (1, -1):
        number += 1
        # Counterclockwise is positive there.
        canvas = face_detectors.rotated(image, box, 120, -sign * angle)
        middle = face_detectors.SIDE / 2
        near = [
          face for face in detect(canvas) if max(abs(_middle(face) - middle)) < 40
        ]
        if not near:
          continue
        error = abs((near[0].angle - sign * angle + 180) % 360 - 180)
        found = [
          read_faces(predictor, [(canvas, near[0])], upright=upright)[0]
          for upright in (False, True)
        ]
        expected.setdefault(name, found[0])
        same = [each.argmax() == expected[name].argmax() for each in found]
        far = [abs(each - expected[name]).sum() / 2 for each in found]
        rows.append([error, *same, *far])
    error = np.median([row[0] for row in rows])
    rest = " ".join(f"{x:.2f}" for x in np.mean(rows, axis=0)[1:])
    print(f"{angle:5d} {len(rows)}/{number} {error:.0f} {rest}", flush=True)


def print_rows(args: Any) -> None:
  """Prints a row for each angle."""
  dataset = fer2013.load(args.data_dir, "validation")
  rows = np.random.default_rng(0).choice(len(dataset), args.images, replace=False)
  images, labels = dataset.images[rows], dataset.labels[rows]
  predictor = Predictor("fer2013", faces="none", batch_size=64)
  detect = face_detector.Detector(upright=True)
  if args.photographs:
    compare_photographs(predictor, detect, pathlib.Path(args.photographs))
  signs = np.where(np.arange(len(rows)) % 2, -1, 1)
  print(f"{len(rows)} images of {dataset.official_split}, OpenCV {cv2.__version__}")
  print("angle found error as_is upright difference_95%CI discordant rotated")
  for angle in ANGLES:
    found = find_faces(detect, images, signs * angle)
    seen = np.array([one is not None for one in found])
    faces = [one for one in found if one is not None]
    estimated = np.array([face.angle for _, face in faces])
    errors = np.abs((estimated - (signs * angle)[seen] + 180) % 360 - 180)
    right = {
      upright: read_faces(predictor, faces, upright=upright).argmax(-1) == labels[seen]
      for upright in (False, True)
    }
    gain = right[True].astype(float) - right[False]
    half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
    rotated = (np.abs(estimated) > face_detector.MAX_ANGLE).mean()
    print(
      f"{angle:5d} {100 * seen.mean():5.1f} {np.median(errors):5.1f} "
      f"{100 * right[False].mean():5.1f} {100 * right[True].mean():5.1f} "
      f"{100 * gain.mean():+5.1f} [{100 * (gain.mean() - half):+.1f}, "
      f"{100 * (gain.mean() + half):+.1f}] {int((gain != 0).sum())} "
      f"{100 * rotated:5.1f}",
      flush=True,
    )


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("data_dir", "data", "Directory of FER-2013.")
  flags.DEFINE_string("photographs", None, "Folder of the photographs; none without.")
  flags.DEFINE_integer("images", 400, "Images, a multiple of 4.", 4)


if __name__ == "__main__":
  cli.run(define_flags, print_rows, compilation_cache=False)
