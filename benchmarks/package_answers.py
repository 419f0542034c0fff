"""Stored predictions of a package, for paired comparisons."""

import csv
import pathlib
from collections.abc import Sequence

import numpy as np

from emosynth_jax.metrics import statistics
from emosynth_jax.utils import csv_rows, files, text_table

_HEADER = ["source", "label", "predicted"]


def write(
  path: str, sources: Sequence[str], labels: np.ndarray, predicted: np.ndarray
) -> None:
  """Writes one line per image.

  Args:
    path: the CSV file; its folder is made if missing.
    sources: N names of images.
    labels: int `(N,)`.
    predicted: int `(N,)`.
  """
  rows = zip(sources, labels.tolist(), predicted.tolist(), strict=True)
  files.write_atomically(path, text_table.to_csv([_HEADER, *rows]).encode())


def read(path: str, sources: Sequence[str], labels: np.ndarray) -> np.ndarray:
  """Reads a file of `write` for the same images.

  Args:
    path: the file.
    sources: N names of images.
    labels: int `(N,)`.

  Returns:
    The predicted labels, int `(N,)`.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is not such a file, or of other images.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f"no predictions at {path}: write them with --answers")
  with open(path, encoding="utf-8", newline="") as file:
    header, *rows = [*csv.reader(file)] or [[]]
  is_complete = all(len(row) == len(_HEADER) and row[-1].isdecimal() for row in rows)
  if header != _HEADER or not is_complete:
    raise ValueError(
      f"{path}: expected the columns {', '.join(_HEADER)} in every line; recreate it "
      "with --answers"
    )
  names = map(csv_rows.as_text, sources)
  expected = [[*x] for x in zip(names, map(str, labels), strict=True)]
  if [row[:-1] for row in rows] != expected:
    raise ValueError(
      f"{path}: images or labels differ; use the same --data_dir and --images"
    )
  return np.array([int(row[-1]) for row in rows])


def difference(right: np.ndarray, baseline: np.ndarray) -> str:
  """Compares two classifiers on the same images.

  Args:
    right: bool `(N,)`, images that the first classifies correctly.
    baseline: likewise for the other.

  Returns:
    The difference of the accuracies in percentage points with its 95 % confidence
    interval (`statistics.paired_difference` over images), and McNemar's exact test
    (`statistics.mcnemar`).
  """
  found = statistics.paired_difference(right.tolist(), baseline.tolist())
  mean, low, high = (100 * found[key] for key in ("mean", "low", "high"))
  test = statistics.mcnemar(right.tolist(), baseline.tolist())
  return (
    f"{mean:+.2f} points (95 % CI {low:+.2f} to {high:+.2f}); only this package is "
    f"correct on {test['only_ours']} images, only the other on "
    f"{test['only_baseline']}, McNemar p = {test['p_value']:.2g}"
  )
