"""FER+: FER-2013's images with ten raters' votes over eight expressions.

Barsoum et al., "Training Deep Networks for Facial Expression Recognition with
Crowd-Sourced Label Distribution", 2016 (arXiv:1608.01041). Two layouts are supported:

- `fer2013new.csv` (Usage, Image name and ten columns of votes) beside `fer2013.csv` or
  `icml_face_data.csv`. The two are joined by row: the number in the name
  `ferNNNNNNN.png` is not the row from row 60 on (counted from 0);
- the folders that FER+'s own script writes: `FER2013Train`, `FER2013Valid` and
  `FER2013Test`, each with PNG files and a `label.csv` of name and votes (FER+'s
  repository has a face box between the two).

The rules by which images are kept are those of FER+'s own reader (`ferplus.py`): votes
of a single rater for a class are noise, and images that no rule gives an expression are
dropped.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from absl import logging

from emosynth_jax.data.class_names import EXPRESSIONS, canonical
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import fer2013
from emosynth_jax.data.images import pixel_form
from emosynth_jax.utils import errors

CLASS_NAMES = (*EXPRESSIONS, "contempt")
LABELS = ("majority", "votes", "truncated_votes", "fer2013")
# Raters of an image, and thus the most votes of a row.
NUM_VOTES = 10

VOTES_FILE = "fer2013new.csv"
_FOLDERS = {
  "Training": "FER2013Train",
  "PublicTest": "FER2013Valid",
  "PrivateTest": "FER2013Test",
}
# The columns of votes as FER+ names and orders them; the last two are no expression.
_COLUMNS = (
  "neutral",
  "happiness",
  "surprise",
  "sadness",
  "anger",
  "disgust",
  "fear",
  "contempt",
  "unknown",
  "NF",
)
_OF_CLASS = [[canonical(name) for name in _COLUMNS].index(name) for name in CLASS_NAMES]
_NO_EXPRESSION = [_COLUMNS.index("unknown"), _COLUMNS.index("NF")]


class Votes(NamedTuple):
  """The rows of fer2013new.csv.

  Attributes:
    usages: Usage of each of N rows.
    names: image name of each row, "" where FER+ has none.
    counts: int `(N, 10)`, votes for `CLASS_NAMES`, then unknown and not a face.
  """

  usages: list[str]
  names: list[str]
  counts: np.ndarray


def load(
  data_dir: str | pathlib.Path,
  split: str,
  *,
  labels: str = "majority",
  num_classes: int = 8,
) -> Dataset:
  """Reads one split of FER+.

  Args:
    data_dir: a folder that holds one of the two layouts, itself or in its subfolder
      `fer_plus` or `fer2013`. Where both lie there, the CSV pair is read.
    split: "train" (Training), "validation" (PublicTest) or "test" (PrivateTest).
    labels: "majority" keeps images with a majority, see `majority_labels`. "votes"
      and "truncated_votes" train on the votes as class probabilities, all of them or
      the most frequent as FER+'s reader does, see `soft_labels`. They keep other
      training images; the validation and test images are those of "majority".
      "fer2013" trains on FER-2013's own labels of the images of "majority", to see what
      their errors cost: validation and test are by majority. It needs the CSV pair.
    num_classes: 8, or 7 for FER-2013's classes, without images labeled contempt and
      without votes for it.

  Returns:
    A `Dataset` of images `(N, 48, 48, 1)`, with `votes`; for "train" under the votes
    with `soft_labels`, and under FER-2013's labels with the majority as `clean_labels`.

  Raises:
    FileNotFoundError: neither layout is there.
    ValueError: an option is unknown, the data is malformed, or the two CSV files are
      not row by row of the same images; file and line are named.
  """
  errors.check_choice("labels", labels, LABELS)
  if num_classes not in (7, 8):
    raise ValueError(f"num_classes: expected 7 or 8, got {num_classes!r}")
  errors.check_choice("split", split, fer2013.USAGES)
  usage = fer2013.USAGES[split]
  root = _find(pathlib.Path(data_dir))
  logging.info("FER+: reading %s from %s", usage, root)

  uses_fer2013 = labels == "fer2013" and split == "train"
  if root.is_dir():
    if uses_fer2013:
      raise ValueError(
        f"labels=fer2013: {root} has no labels of FER-2013; put {VOTES_FILE} beside "
        f"{fer2013.TABLES[0]}"
      )
    files, counts = _read_folder(root / _FOLDERS[usage])
    emotions: list[int] = []
  else:
    files, counts, emotions = _read_pair(root, usage, with_emotions=uses_fer2013)

  soft = None
  if labels in ("votes", "truncated_votes") and split == "train":
    soft = soft_labels(counts, num_classes, truncate=labels == "truncated_votes")
    classes = np.where(soft.any(axis=1), soft.argmax(axis=1), -1)
  else:
    classes = majority_labels(counts, num_classes)
  kept = np.flatnonzero(classes >= 0)
  if not len(kept):
    raise ValueError(f"{root}: no {usage} image with a label of an expression")
  majority = classes[kept].astype(np.int32)
  chosen_by = "majority" if soft is None else "votes"
  how = f"{usage}, {len(kept):,} of {len(classes):,} images by {chosen_by}"
  if uses_fer2013:
    how += ", labels of FER-2013"
  dataset = Dataset(
    images=files.images(kept),
    labels=np.array(emotions, np.int32)[kept] if uses_fer2013 else majority,
    clean_labels=majority if uses_fer2013 else None,
    class_names=CLASS_NAMES[:num_classes],
    split=split,
    sources=tuple(files.sources[i] for i in kept),
    official_split=how,
    votes=counts[kept, :num_classes],
    soft_labels=None if soft is None else soft[kept],
  ).with_pixel_forms()
  forms = pixel_form.describe_counts(dataset.form_counts or {})
  logging.info("FER+: %s; by pixel form: %s", dataset.official_split, forms)
  return dataset


def without_number(official_split: str) -> str:
  """An `official_split` without FER+'s number of images: "PublicTest"."""
  return re.sub(r", [\d,]+ of [\d,]+ images by \w+$", "", official_split)


def majority_labels(counts: np.ndarray, num_classes: int = 8) -> np.ndarray:
  """Majority label of each image.

  Votes of a single rater for a column are removed first. A majority is more than half
  of the remaining votes of all ten columns.

  Args:
    counts: int `(N, 10)`, as in `Votes`.
    num_classes: 8, or 7 without contempt.

  Returns:
    int `(N,)`, indices into `CLASS_NAMES`; -1 for an image without a majority or with
    one for a column that is not among the classes.
  """
  counts = _without_single_votes(counts)
  largest = counts.argmax(axis=1)
  is_majority = 2 * counts.max(axis=1) > counts.sum(axis=1)
  return np.where(is_majority & (largest < num_classes), largest, -1)


def soft_labels(
  counts: np.ndarray, num_classes: int = 8, *, truncate: bool = False
) -> np.ndarray:
  """The votes of each image as class probabilities.

  Votes of a single rater for a column are removed first. FER+'s reader then takes
  classes by descending votes, those of equal votes together, until they have three
  quarters of the remaining votes or are three; "unknown" or "not a face" ends the list.
  An image is dropped if its classes are more than three or have at most half of the
  votes, or if none comes before "unknown" and "not a face".

  Args:
    counts: int `(N, 10)`, as in `Votes`.
    num_classes: 8, or 7 without contempt: an image of which contempt is the first
      class is dropped, and the other probabilities are scaled to sum to 1.
    truncate: whether only the classes taken have a probability, as in FER+'s reader;
      otherwise all classes with votes.

  Returns:
    float32 `(N, num_classes)`; a row of zeros for an image that is dropped.
  """
  rows = _without_single_votes(counts)
  soft = np.zeros((len(rows), len(CLASS_NAMES)))
  for i, row in enumerate(rows.tolist()):
    soft[i] = _chosen_votes(row)
  # The first class decides, also among seven.
  kept = soft.any(axis=1) & (soft.argmax(axis=1) < num_classes)
  if not truncate:
    soft = rows[:, : len(CLASS_NAMES)]
  soft = np.where(kept[:, None], soft[:, :num_classes], 0)
  totals = soft.sum(axis=1, keepdims=True)
  return (soft / np.where(totals > 0, totals, 1)).astype(np.float32)


def read_votes(path: pathlib.Path) -> Votes:
  """Reads fer2013new.csv.

  Args:
    path: the file.

  Returns:
    Its rows.

  Raises:
    ValueError: the file is malformed; the line is named.
  """
  usages, names, counts = [], [], []
  lines = _read_csv(path)
  _, header = next(lines, (0, []))
  if header != ["Usage", "Image name", *_COLUMNS]:
    raise ValueError(
      f"{path}: expected the columns Usage, Image name, {', '.join(_COLUMNS)}, got "
      f"{', '.join(header)[:80]}"
    )
  for line, (usage, name, *cells) in lines:
    where = f"{path}, line {line}"
    errors.check_choice(f"{where}: Usage", usage, _FOLDERS)
    usages.append(usage)
    names.append(name)
    counts.append(_parse_votes(cells, where))
  return Votes(usages, names, _by_class(counts))


def compare_with_fer2013(
  data_dir: str | pathlib.Path,
) -> dict[str, dict[str, int]] | None:
  """Counts how often FER-2013's labels equal FER+'s majority.

  Args:
    data_dir: a folder or file as `load` takes it.

  Returns:
    By split: ``faces``, the images with a majority for one of the eight expressions,
    and ``equal``, those of them with the same label in FER-2013. None if there is no
    CSV pair at `data_dir`.

  Raises:
    ValueError: as `load`.
  """
  try:
    table = _find(pathlib.Path(data_dir))
  except FileNotFoundError:
    return None
  if table.is_dir():
    return None
  votes, labels = read_votes(table.with_name(VOTES_FILE)), []
  for _, (line, emotion, _, _) in _aligned_rows(table, votes):
    labels.append(fer2013.parse_emotion(emotion, f"{table}, line {line}"))
  majority = majority_labels(votes.counts)
  usages, equal = np.array(votes.usages), majority == np.array(labels)
  return {
    split: {
      "faces": int(((usages == usage) & (majority >= 0)).sum()),
      "equal": int(((usages == usage) & equal).sum()),
    }
    for split, usage in fer2013.USAGES.items()
  }


class _Files(NamedTuple):
  """Images of a split that are decoded on demand, and their sources."""

  content: list[str] | list[pathlib.Path]
  sources: list[str]

  def images(self, rows: np.ndarray) -> np.ndarray:
    """uint8 `(M, 48, 48, 1)`."""
    images = np.empty((len(rows), fer2013.SIDE, fer2013.SIDE, 1), np.uint8)
    for i, row in enumerate(rows):
      images[i] = self._decode(row)
    return images

  def _decode(self, row: int) -> np.ndarray:
    one = self.content[row]
    if isinstance(one, str):
      return fer2013.parse_pixels(one, self.sources[row])
    if not one.is_file():
      raise ValueError(
        f"{one}: named in label.csv, but not there. FER+'s repository has no images: "
        "its generate_training_data.py writes them from fer2013.csv, or put "
        f"fer2013.csv beside {VOTES_FILE}"
      )
    return fer2013.decode_face(one.read_bytes(), str(one))


def _find(data_dir: pathlib.Path) -> pathlib.Path:
  """The CSV of pixels beside the votes, or the folder of the three folders."""
  if data_dir.is_file():
    data_dir = data_dir.parent
  missing = []
  for folder in (data_dir, data_dir / "fer_plus", data_dir / "fer2013"):
    if (folder / VOTES_FILE).is_file():
      for name in fer2013.TABLES:
        if (folder / name).is_file():
          return folder / name
      missing.append(
        f"{folder / VOTES_FILE} has no {' or '.join(fer2013.TABLES)} beside it"
      )
    if all((folder / name / "label.csv").is_file() for name in _FOLDERS.values()):
      return folder
  found = f" ({'; '.join(missing)})" if missing else ""
  raise FileNotFoundError(
    f"no FER+ at {data_dir}{found}: looked for {VOTES_FILE} beside fer2013.csv or "
    "icml_face_data.csv, and for FER2013Train/, FER2013Valid/ and FER2013Test/ with a "
    "label.csv each, there and in its subfolders fer_plus and fer2013. Votes belong "
    "to images by row, so FER-2013's zip of JPEG files cannot be used. "
    f"{VOTES_FILE} is at github.com/microsoft/FERPlus"
  )


def _read_pair(
  table: pathlib.Path, usage: str, *, with_emotions: bool
) -> tuple[_Files, np.ndarray, list[int]]:
  """Pixels as text, votes and, if asked, FER-2013's labels of one usage's rows."""
  votes = read_votes(table.with_name(VOTES_FILE))
  pixels, sources, emotions = [], [], []
  for row_usage, (line, emotion, text, _) in _aligned_rows(table, votes):
    if row_usage == usage:
      pixels.append(text)
      sources.append(f"{table.name} line {line}")
      if with_emotions:
        emotions.append(fer2013.parse_emotion(emotion, f"{table}, line {line}"))
  counts = votes.counts[np.array(votes.usages) == usage]
  return _Files(pixels, sources), counts, emotions


def _aligned_rows(
  table: pathlib.Path, votes: Votes
) -> Iterator[tuple[str, tuple[int, str, str, str]]]:
  """Rows of fer2013.csv with FER+'s usage of the same row."""
  number = -1
  for number, row in enumerate(fer2013.table_rows(table)):
    if number < len(votes.usages) and row[3] != votes.usages[number]:
      raise ValueError(
        f"{table}, line {row[0]}: Usage is {row[3]!r}, but {votes.usages[number]!r} in "
        f"row {number + 1} of {VOTES_FILE}: the files are joined by row, and one of "
        "them was sorted or cut"
      )
    if number < len(votes.usages):
      yield votes.usages[number], row
  if number + 1 != len(votes.usages):
    raise ValueError(
      f"{table}: {number + 1} rows, but {len(votes.usages)} in {VOTES_FILE}: the files "
      "are joined by row, so that both have to be whole"
    )


def _read_folder(folder: pathlib.Path) -> tuple[_Files, np.ndarray]:
  """Images and votes of a folder that FER+'s script wrote."""
  path = folder / "label.csv"
  files: list[pathlib.Path] = []
  counts = []
  for line, (name, *cells) in _read_csv(path):
    where = f"{path}, line {line}"
    # FER+'s repository has the face box "(0, 0, 48, 48)" between name and votes.
    if len(cells) == len(_COLUMNS) + 1:
      cells = cells[1:]
    files.append(folder / name)
    counts.append(_parse_votes(cells, where))
  if not files:
    raise ValueError(f"{path}: no row in it")
  sources = [f"{folder.name}/{file.name}" for file in files]
  return _Files(files, sources), _by_class(counts)


def _read_csv(path: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
  """Line number and stripped cells of each row that is not empty."""
  with path.open(encoding="utf-8-sig", newline="") as file:
    yield from fer2013.csv_lines(path, file)


def _parse_votes(cells: list[str], where: str) -> list[int]:
  if len(cells) != len(_COLUMNS) or not all(cell.isdecimal() for cell in cells):
    raise ValueError(
      f"{where}: expected {len(_COLUMNS)} whole numbers of votes, got {cells}"
    )
  votes = [int(cell) for cell in cells]
  if not 0 < sum(votes) <= NUM_VOTES:
    raise ValueError(
      f"{where}: expected 1 to {NUM_VOTES} votes in all, got {sum(votes)}"
    )
  return votes


def _by_class(counts: list[list[int]]) -> np.ndarray:
  """Votes in the order of `CLASS_NAMES`, then unknown and not a face: `(N, 10)`."""
  array = np.array(counts, np.uint8).reshape(-1, len(_COLUMNS))
  return array[:, [*_OF_CLASS, *_NO_EXPRESSION]]


def _without_single_votes(counts: np.ndarray) -> np.ndarray:
  return np.where(counts > 1, counts, 0).astype(np.int64)


def _chosen_votes(row: list[int]) -> list[int]:
  """Votes of the classes that FER+'s reader takes, see `soft_labels`; `(8,)`."""
  total, expressions = sum(row), row[: len(CLASS_NAMES)]
  chosen = [0] * len(expressions)
  covered = number = 0
  for level in sorted(set(row) - {0}, reverse=True):
    if 4 * covered >= 3 * total or number >= 3:
      break
    for k, votes in enumerate(expressions):
      if votes == level:
        chosen[k] = votes
        covered += votes
        number += 1
    if level in row[len(CLASS_NAMES) :]:
      break
  is_kept = 2 * sum(chosen) > total and number <= 3
  return chosen if is_kept else [0] * len(chosen)
