"""FER-2013: 35,887 grayscale faces of 48x48 in seven expressions.

Goodfellow et al., "Challenges in Representation Learning", 2013
(arXiv:1307.0414). Two layouts are in use, and both are supported:

- the table of the ICML 2013 challenge, as `fer2013.csv` (emotion,pixels,Usage) or
  `icml_face_data.csv` (emotion, Usage, pixels; the header has leading spaces);
- JPEG files in `train/<class>/Training_*.jpg` and
  `test/<class>/{PublicTest,PrivateTest}_*.jpg`, as Kaggle's msambare/fer2013 has
  them, zipped (`fer2013.zip`, `archive.zip`) or unpacked. A class folder has any of the
  class's names (see `class_names.canonical`) or its label, 0 to 6. Copies whose file
  names are lost have one test split, for the protocol "thesis_28709_7178" alone.

A zip may hold a table as well.

The table holds the original gray levels, Kaggle's files are histogram-equalized: two
data sets, whose results cannot be compared. The form is determined per image, from the
gray levels and not from the layout.

Rows keep the order of the table; files are sorted by name.
"""

import collections
import csv
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import numpy as np
from absl import logging

from emosynth_jax.data import archives, class_names, decoded_cache
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import _counts
from emosynth_jax.data.images import decoding, pixel_form
from emosynth_jax.utils import errors, listing

CLASS_NAMES = class_names.EXPRESSIONS
SIDE = 48

# The data set's name of each split, and its number of images.
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
COUNTS = {"Training": 28709, "PublicTest": 3589, "PrivateTest": 3589}

# The usages that make up each split. "official" is the challenge's: the epoch is chosen
# on PublicTest and PrivateTest is reported. The thesis trains on 28,709 and reports
# 7,178 images, so that PublicTest is not available for model selection: load_splits
# holds a validation split out of train.
PROTOCOLS: dict[str, dict[str, tuple[str, ...]]] = {
  "official": {split: (usage,) for split, usage in USAGES.items()},
  "thesis_28709_7178": {
    "train": ("Training",),
    "test": ("PublicTest", "PrivateTest"),
  },
}

_ZIPS = ("fer2013.zip", "archive.zip")
# Names of the table with the original pixels.
TABLES = ("fer2013.csv", "icml_face_data.csv")
_COLUMNS = ("emotion", "pixels", "Usage")
# The usages allowed in each of Kaggle's two folders.
_FOLDERS = {"train": ("Training",), "test": ("PublicTest", "PrivateTest")}
_NUMBERS = ("0", "1", "2", "3", "4", "5", "6")
_SUFFIXES = (".jpg", ".jpeg", ".png")

# The code that decides what is read, for the cache.
_DECODED_BY = (
  __file__,
  archives.__file__,
  class_names.__file__,
  decoding.__file__,
  listing.__file__,
  pixel_form.__file__,
)

# Images, labels and sources.
_Rows = tuple[list[np.ndarray], list[int], list[str]]


def load(
  data_dir: str | pathlib.Path, split: str, *, protocol: str = "official"
) -> Dataset:
  """Reads one split of FER-2013.

  Args:
    data_dir: the zip, the CSV, the folder that holds `train/` and `test/`, or a
      folder that contains one of these, itself or in its subfolder `fer2013`. If it
      contains several, the first of `fer2013.zip`, `train/` with `test/`,
      `fer2013.csv`, `icml_face_data.csv` and `archive.zip` is read.
    split: "train" (Training), "validation" (PublicTest) or "test" (PrivateTest).
    protocol: "official", or "thesis_28709_7178", where "test" is PublicTest and
      PrivateTest together and there is no "validation". Results of the two cannot be
      compared.

  Returns:
    A `Dataset` of images `(N, 48, 48, 1)`, with the form of each.

  Raises:
    FileNotFoundError: none of the layouts is there.
    ValueError: the split or the protocol is unknown, or the data is malformed; the row
      or file is named.
  """
  errors.check_choice("protocol", protocol, PROTOCOLS)
  errors.check_choice("split", split, PROTOCOLS[protocol])
  usages = PROTOCOLS[protocol][split]

  path = _find(pathlib.Path(data_dir))
  is_thesis = "validation" not in PROTOCOLS[protocol]
  official_split = " and ".join(usages)

  def decode() -> Dataset:
    logging.info("FER-2013: reading %s from %s", official_split, path)
    if path.suffix == ".csv":
      with path.open(encoding="utf-8-sig", newline="") as file:
        images, labels, sources = _load_table(path, usages, file, path.name)
    elif path.is_dir():
      images, labels, sources = _load_folder(path, usages, is_thesis)
    else:
      images, labels, sources = _load_zip(path, usages, is_thesis)
    if not images:
      raise ValueError(f"{path}: no {official_split} image in it")
    return Dataset(
      images=np.stack(images),
      labels=np.array(labels, np.int32),
      class_names=CLASS_NAMES,
      split=split,
      sources=tuple(sources),
      official_split=official_split,
    ).with_pixel_forms()

  dataset = decoded_cache.load_or_decode(
    path, f"{protocol}: {split} ({official_split})", decode, _DECODED_BY
  )
  _counts.check_classes(f"{path}: {official_split} has", dataset.labels, CLASS_NAMES)
  expected = sum(COUNTS[usage] for usage in usages)
  _counts.warn_if_partial(
    f"FER-2013: {path}", len(dataset), f"{official_split} images", expected
  )

  counts = pixel_form.describe_counts(dataset.form_counts or {})
  logging.info("FER-2013: %s by pixel form: %s", official_split, counts)
  return dataset


def has_validation(data_dir: str | pathlib.Path, protocol: str = "official") -> bool:
  """Returns whether the protocol has its own validation split."""
  return "validation" in PROTOCOLS.get(protocol, {})


def _warn_of_another_form(found: Sequence[pathlib.Path]) -> None:
  """Warns if a table lies beside the zip or folder that is read."""
  tables = [path for path in found if path.name in TABLES]
  if tables and found[0] not in tables:
    logging.log_first_n(
      logging.WARNING,
      "%s is read, and not %s beside it. Kaggle's image files are equalized, the table "
      "has the original pixels, and results on the two cannot be compared. To read the "
      "table, give %s as the data directory.",
      1,
      found[0],
      tables[0].name,
      tables[0],
    )


def _find(data_dir: pathlib.Path) -> pathlib.Path:
  """The zip, folder or table that `data_dir` means."""
  if data_dir.is_file():
    if data_dir.suffix not in (".zip", ".csv"):
      raise ValueError(f"{data_dir}: expected a .zip, a .csv or a folder")
    return data_dir
  for folder in listing.places(data_dir, ("fer2013",)):
    others = [folder / name for name in (*TABLES, *_ZIPS[1:])]
    found = [
      path
      for path in (folder / _ZIPS[0], folder, *others)
      if (_has_classes(path) if path == folder else path.is_file())
    ]
    if found:
      _warn_of_another_form(found)
      return found[0]

  raise FileNotFoundError(
    f"no FER-2013 at {data_dir} ({listing.describe(data_dir)}): looked for "
    "fer2013.zip, archive.zip, train/ with test/, fer2013.csv and icml_face_data.csv, "
    "there and in its subfolders, fer2013 first. "
    "Get the zip from kaggle.com/datasets/msambare/fer2013, or icml_face_data.csv "
    "from Kaggle's 'Challenges in Representation Learning: Facial Expression "
    "Recognition Challenge', and put it there unchanged"
  )


def _has_classes(folder: pathlib.Path) -> bool:
  """Returns whether a folder has train/ and test/ with FER-2013's class folders."""
  if not all((folder / name).is_dir() for name in _FOLDERS):
    return False
  names = [path.name for path in listing.visible(folder / "train") if path.is_dir()]
  return folder.name == "fer2013" or any(_label_of(name) is not None for name in names)


def _label_of(folder: str) -> int | None:
  """The label of a class folder: by one of the class's names, or by its number."""
  if folder in _NUMBERS:
    return _NUMBERS.index(folder)
  name = class_names.canonical(folder)
  return CLASS_NAMES.index(name) if name in CLASS_NAMES else None


def _load_table(
  path: pathlib.Path, usages: tuple[str, ...], file: IO[str], name: str
) -> _Rows:
  images, labels, sources = [], [], []
  for line, emotion, pixels, usage in _rows_of(path, file):
    where = f"{path}, line {line}"
    label = parse_emotion(emotion, where)
    if usage in usages:
      images.append(parse_pixels(pixels, where))
      labels.append(label)
      sources.append(f"{name} line {line}")
  return images, labels, sources


def csv_lines(path: pathlib.Path, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
  """Yields the line number and stripped cells of each row that is not empty."""
  reader = csv.reader(file)
  try:
    for row in reader:
      if row:
        yield reader.line_num, [cell.strip() for cell in row]
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(
      f"{path}, near line {reader.line_num}: not a CSV file ({error})"
    ) from error


def table_rows(path: pathlib.Path) -> Iterator[tuple[int, str, str, str]]:
  """Yields (line number, emotion, pixels, Usage) of each row of a file, stripped."""
  with path.open(encoding="utf-8-sig", newline="") as file:
    yield from _rows_of(path, file)


def _rows_of(path: pathlib.Path, file: IO[str]) -> Iterator[tuple[int, str, str, str]]:
  """Yields (line number, emotion, pixels, Usage) of each row, stripped."""
  lines = csv_lines(path, file)
  _, header = next(lines, (0, []))
  if missing := [name for name in _COLUMNS if name not in header]:
    raise ValueError(
      f"{path}: missing column {', '.join(missing)}; expected "
      f"{', '.join(_COLUMNS)} in any order, got {_shorten(', '.join(header))}"
    )

  indices = [header.index(name) for name in _COLUMNS]
  for line, cells in lines:
    where = f"{path}, line {line}"
    if len(cells) != len(header):
      raise ValueError(
        f"{where}: expected {len(header)} columns, got {len(cells)}; the file may be "
        "truncated"
      )
    emotion, pixels, usage = (cells[i] for i in indices)
    errors.check_choice(f"{where}: Usage", usage, USAGES.values())
    yield line, emotion, pixels, usage


def parse_emotion(text: str, where: str) -> int:
  """The class of a table's emotion column."""
  if text not in _NUMBERS:
    raise ValueError(f"{where}: emotion: expected 0..6, got {text!r}")
  return int(text)


def parse_pixels(text: str, where: str) -> np.ndarray:
  """The image of a table's pixels column: uint8 `(48, 48, 1)`."""
  try:
    # NumPy before 2.3 only warns about invalid numbers, and returns those before them.
    with warnings.catch_warnings():
      warnings.simplefilter("error", DeprecationWarning)
      pixels = np.fromstring(text, dtype=np.int64, sep=" ")
  except (ValueError, DeprecationWarning) as error:
    bad = next((word for word in text.split() if not word.isdecimal()), "")
    raise ValueError(
      f"{where}: pixels: expected integers separated by spaces, got {bad!r}"
    ) from error

  if pixels.size != SIDE * SIDE:
    raise ValueError(
      f"{where}: pixels: expected {SIDE * SIDE} (48x48) values, got {pixels.size}"
    )

  outside = (pixels < 0) | (pixels > 255)
  if outside.any():
    raise ValueError(
      f"{where}: pixels: expected 0..255, got {pixels[outside.argmax()]}"
    )

  return pixels.astype(np.uint8).reshape(SIDE, SIDE, 1)


def _load_zip(path: pathlib.Path, usages: tuple[str, ...], is_thesis: bool) -> _Rows:
  with archives.open_zip(path) as archive:
    names = archive.names
    tables = [name for name in names if name.rpartition("/")[2] in TABLES]
    if tables and not any(name.lower().endswith(_SUFFIXES) for name in names):
      with archive.open_text(tables[0]) as file:
        return _load_table(path / tables[0], usages, file, tables[0])
    return _load_files(path, names, archive.read, usages, is_thesis)


def _load_folder(
  folder: pathlib.Path, usages: tuple[str, ...], is_thesis: bool
) -> _Rows:
  names = [
    path.relative_to(folder).as_posix()
    for name in _FOLDERS
    for path in listing.visible_files(folder / name)
  ]
  return _load_files(
    folder, names, lambda name: (folder / name).read_bytes(), usages, is_thesis
  )


def _load_files(
  root: pathlib.Path,
  names: list[str],
  read: Callable[[str], bytes],
  usages: tuple[str, ...],
  is_thesis: bool,
) -> _Rows:
  images, labels, sources = [], [], []
  files = _select_files(root, names, is_thesis=is_thesis)
  for name, label in [file for usage in usages for file in files[usage]]:
    images.append(decode_face(read(name), f"{root}: {name}"))
    labels.append(label)
    sources.append(name)

  return images, labels, sources


def decode_face(content: bytes, source: str) -> np.ndarray:
  """Decodes an image file of 48x48 pixels: uint8 `(48, 48, 1)`."""
  image = decoding.decode(content, source, channels=1)
  if image.shape != (SIDE, SIDE, 1):
    raise ValueError(
      f"{source}: expected 48x48 pixels, got {image.shape[1]}x{image.shape[0]}"
    )
  return image


def _select_files(
  root: pathlib.Path, names: list[str], *, is_thesis: bool
) -> dict[str, list[tuple[str, int]]]:
  """Files and labels of each usage, sorted by name.

  All names are checked, also those of other splits: a file that could belong to two
  splits must be an error before training starts.
  """
  files = collections.defaultdict(list)
  prefixes = set()
  classes: dict[tuple[str, int], str] = {}
  for name in sorted(names):
    *parents, folder, class_name, file = ("", "", *name.split("/"))
    if folder not in _FOLDERS:
      if file.lower().endswith(_SUFFIXES) and {*parents, class_name} & set(_FOLDERS):
        raise ValueError(f"{root}: {name}: expected images in {{train,test}}/<class>/")
      continue
    label = _label_of(class_name)
    if label is None:
      raise ValueError(
        f"{root}: {name}: unknown class folder {class_name!r}; expected one of "
        f"{', '.join(CLASS_NAMES)}, or a label 0..6"
      )
    if not file.lower().endswith(_SUFFIXES):
      raise ValueError(f"{root}: {name}: expected a .jpg or .png file")

    usage = file.partition("_")[0]
    if is_thesis and usage not in COUNTS:
      # One test split: no name has to tell PublicTest from PrivateTest.
      usage = _FOLDERS[folder][-1]
    if usage not in _FOLDERS[folder]:
      expected = " or ".join(f"{usage}_*" for usage in _FOLDERS[folder])
      raise ValueError(
        f"{root}: {name}: expected a file name {expected}. PublicTest (validation) "
        "and PrivateTest (test) are distinguished by file names only, which this copy "
        "of FER-2013 lacks; use kaggle.com/datasets/msambare/fer2013 or the CSV, or "
        "--config.data.options.protocol=thesis_28709_7178, which has one test split"
      )

    prefixes.add("/".join(parents))
    files[usage].append((name, label))
    classes.setdefault((folder, label), class_name)
    if classes[folder, label] != class_name:
      raise ValueError(
        f"{root}: {folder}/ has two folders of the class {CLASS_NAMES[label]!r}, "
        f"{classes[folder, label]} and {class_name}; keep one"
      )
  if not files:
    found = ", ".join(sorted(names)[:3]) or "nothing"
    raise ValueError(
      f"{root}: no image in train/<class>/ or test/<class>/, and no "
      f"{' or '.join(TABLES)}; found {found}"
    )
  if len(prefixes) > 1:
    raise ValueError(
      f"{root}: several copies of the data set: "
      f"{', '.join(repr(prefix.strip('/')) for prefix in sorted(prefixes))}; keep one"
    )

  return files


def _shorten(text: str) -> str:
  return text if len(text) <= 60 else text[:57] + "..."
