"""Draws docs/images/: a sheet of synthetic faces, and the face of the README's example.

python -m tools.draw_faces
"""

import pathlib

import cv2
import numpy as np

from emosynth_jax.data.datasets import synthetic_faces

_ROWS = 3
_SCALE = 2


def draw() -> tuple[np.ndarray, np.ndarray]:
  """Draws the sheet, one column per class, and one face labeled happy."""
  faces = synthetic_faces.load("", "test")
  images = faces.images[..., 0]
  of_class = [np.flatnonzero(faces.labels == k) for k in range(len(faces.class_names))]

  columns = []
  for name, rows in zip(faces.class_names, of_class, strict=True):
    column = np.concatenate(
      [np.pad(images[row], 2, constant_values=255) for row in rows[:_ROWS]]
    )
    column = np.kron(column, np.ones((_SCALE, _SCALE), np.uint8))
    title = np.full((22, column.shape[1]), 255, np.uint8)
    cv2.putText(title, name, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 0, 1, cv2.LINE_AA)
    columns.append(np.concatenate([title, column]))
  happy = faces.class_names.index("happy")
  return np.concatenate(columns, axis=1), images[of_class[happy][0]]


def main() -> None:
  """Writes both images."""
  folder = pathlib.Path(__file__).resolve().parents[1] / "docs" / "images"
  folder.mkdir(exist_ok=True)
  for name, image in zip(("synthetic_faces", "face"), draw(), strict=True):
    cv2.imwrite(str(folder / f"{name}.png"), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
  main()
