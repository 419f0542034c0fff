"""RAF-DB, basic emotions: 15,339 faces from the web in seven expressions.

Li, Deng and Du, "Reliable Crowdsourcing and Deep Locality-Preserving Learning for
Expression Recognition in the Wild", CVPR 2017. The images are distributed to
researchers on request; two layouts are supported:

- the authors' own: `EmoLabel/list_patition_label.txt` (so spelled, or rightly), whose
  lines are `train_00001.jpg 5`, and the aligned faces
  `Image/aligned/train_00001_aligned.jpg`, themselves or in a folder `aligned` there;
- the copies sorted into `train/<label>/*` and `test/<label>/*`, label 1 to 7 or a name
  of the class (see `class_names.canonical`).

Labels become FER-2013's classes by name, so that networks and reports of the two agree.
Rows keep the order of the list; files are sorted by label and name.
"""

import pathlib
from typing import Any

import numpy as np
from absl import logging

from emosynth_jax.data import class_names
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import _counts
from emosynth_jax.data.datasets.fer2013 import CLASS_NAMES
from emosynth_jax.data.images import files as image_files
from emosynth_jax.utils import errors, listing

# RAF-DB's labels 1..7 in FER-2013's words.
LABELS = {
  "1": "surprise",
  "2": "fear",
  "3": "disgust",
  "4": "happy",
  "5": "sad",
  "6": "angry",
  "7": "neutral",
}
COUNTS = {"train": 12271, "test": 3068}

_LISTS = (
  pathlib.PurePath("EmoLabel", "list_patition_label.txt"),
  pathlib.PurePath("EmoLabel", "list_partition_label.txt"),
  pathlib.PurePath("list_patition_label.txt"),
  pathlib.PurePath("list_partition_label.txt"),
)
_ALIGNED = pathlib.PurePath("Image", "aligned")
_SUFFIXES = (".jpg", ".jpeg", ".png")


def load(
  data_dir: str | pathlib.Path,
  split: str,
  *,
  image_size: int = 100,
  channels: int = 3,
  share: Any = None,
) -> Dataset:
  """Reads one split of RAF-DB's basic emotions, aligned.

  Args:
    data_dir: the folder that holds `EmoLabel/` and `Image/`, or `train/` and `test/`,
      or a folder that contains it, as `basic`, `raf_db`, `RAF-DB` or `DATASET` first.
      If it has both layouts, the authors' own is read.
    split: "train" or "test"; RAF-DB has no validation split, and `load_splits` holds
      one out of train.
    image_size: side in pixels to which every image is resized; the aligned faces have
      100.
    channels: 1 converts to grayscale, 3 to RGB.
    share: if given, each image is read on access.

  Returns:
    A `Dataset` of images `(N, image_size, image_size, channels)`.

  Raises:
    FileNotFoundError: neither layout exists, or an image in the list is missing.
    ValueError: the split is unknown, a label is outside 1..7, a folder has another
      name, or a file is no image; the line or file is named.
  """
  errors.check_choice("split", split, COUNTS)
  image_files.check_options(image_size, channels)
  root, listed = _find(pathlib.Path(data_dir))
  logging.info("RAF-DB: reading %s from %s", split, root)
  files = (_listed_files(root, listed) if listed else _sorted_files(root))[split]
  dataset = Dataset(
    images=image_files.lazily([path for path, _ in files], image_size, channels),
    labels=np.array([CLASS_NAMES.index(LABELS[label]) for _, label in files], np.int32),
    class_names=CLASS_NAMES,
    split=split,
    sources=tuple(path.relative_to(root).as_posix() for path, _ in files),
  )
  _counts.check_classes(f"{root}: {split} has", dataset.labels, CLASS_NAMES)
  _counts.warn_if_partial(
    f"RAF-DB: {root}", len(dataset), f"{split} images", COUNTS[split]
  )

  return dataset.in_memory().with_pixel_forms() if share is None else dataset


def _find(data_dir: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path | None]:
  """The folder of either layout, and the authors' list if it is theirs."""
  names = ("", "basic", "raf_db", "raf_db/basic", "RAF-DB", "RAF-DB/basic", "DATASET")
  folders = listing.places(data_dir, names)
  for folder in folders:
    for path in _LISTS:
      if (folder / path).is_file():
        return folder, folder / path
  for folder in folders:
    if _has_classes(folder):
      return folder, None
  raise FileNotFoundError(
    f"no RAF-DB at {data_dir} ({listing.describe(data_dir)}): looked for {_LISTS[0]} "
    f"with {_ALIGNED}/, and for train/ with test/, there and in its subfolders, "
    "basic, raf_db, RAF-DB and DATASET first. The data set (Basic Emotion) is "
    "available to researchers from its authors: terms and contact at "
    "http://www.whdeng.cn/RAF/model1.html. Unpack the list and the aligned images there"
  )


def _has_classes(folder: pathlib.Path) -> bool:
  """Returns whether a folder has train/ and test/ with RAF-DB's class folders."""
  if not all((folder / split).is_dir() for split in COUNTS):
    return False
  names = [path.name for path in listing.visible(folder / "train")]
  return folder.name in ("DATASET", "raf_db", "RAF-DB") or any(
    _label_of(name) for name in names
  )


def _label_of(folder: str) -> str | None:
  """RAF-DB's label of a class folder: its name, or by one of the class's names."""
  if folder in LABELS:
    return folder
  name = class_names.canonical(folder)
  return next((label for label, known in LABELS.items() if known == name), None)


_Files = dict[str, list[tuple[pathlib.Path, str]]]


def _listed_files(root: pathlib.Path, listed: pathlib.Path) -> _Files:
  """Paths and labels of each split, as the authors' list has them."""
  files: _Files = {split: [] for split in COUNTS}
  seen: dict[str, int] = {}
  try:
    lines = listed.read_text(encoding="utf-8-sig").splitlines()
  except UnicodeDecodeError as error:
    raise ValueError(f"{listed}: not a text file ({error})") from error

  # A zip unpacked into a folder of its own has one folder more.
  aligned = root / _ALIGNED
  aligned = aligned / "aligned" if (aligned / "aligned").is_dir() else aligned
  for number, line in enumerate(lines, start=1):
    if not line.strip():
      continue
    where = f"{listed}, line {number}"
    name, *labels = line.split()
    stem, _, suffix = name.rpartition(".")
    split = name.partition("_")[0]
    if len(labels) != 1 or split not in files or suffix != "jpg":
      raise ValueError(
        f"{where}: expected 'train_NUMBER.jpg LABEL' or 'test_NUMBER.jpg LABEL', got "
        f"{line[:60]!r}"
      )
    if labels[0] not in LABELS:
      raise ValueError(f"{where}: label: expected 1..7, got {labels[0]!r}")
    if name in seen:
      raise ValueError(f"{where}: {name} is already listed in line {seen[name]}")
    seen[name] = number
    files[split].append((aligned / f"{stem}_aligned.jpg", labels[0]))
  missing = [path for part in files.values() for path, _ in part if not path.is_file()]
  if missing:
    raise FileNotFoundError(
      f"{missing[0]} is missing, but listed in {listed.relative_to(root)}"
      + (f", and {len(missing) - 1} more of its images" if len(missing) > 1 else "")
      + ". Unpack the aligned images (aligned.zip) again"
    )

  return files


def _sorted_files(root: pathlib.Path) -> _Files:
  """Paths and labels of each split, as the folders have them."""
  files: _Files = {split: [] for split in COUNTS}
  for split, part in files.items():
    folders = listing.visible(root / split)
    class_names.check_distinct(root / split, [folder.name for folder in folders])
    for folder in folders:
      label = _label_of(folder.name)
      if label is None or not folder.is_dir():
        raise ValueError(
          f"{folder}: expected folders named by RAF-DB's labels 1..7 or by its classes "
          f"({', '.join(LABELS.values())}); read folders of other names with the data "
          "set 'image_folder'"
        )
      for path in listing.visible(folder):
        if path.suffix.lower() not in _SUFFIXES or path.is_dir():
          raise ValueError(f"{path}: expected a .jpg or .png file")
        prefix = path.name.partition("_")[0]
        if prefix in files and prefix != split:
          raise ValueError(f"{path}: an image of RAF-DB's {prefix} split in {split}/")
        part.append((path, label))
  return files
