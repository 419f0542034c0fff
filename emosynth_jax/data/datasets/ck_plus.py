"""CK+, the Extended Cohn-Kanade data set: posed expressions, from neutral to the peak.

Lucey et al., "The Extended Cohn-Kanade Dataset (CK+)", CVPR Workshops 2010. 593
sequences of 123 people, of which 327 sequences of 118 people have an expression. It is
distributed to researchers on request; two layouts are supported:

- the authors' own: `cohn-kanade-images/S005/001/S005_001_00000011.png` and so on, with
  `Emotion/S005/001/S005_001_00000011_emotion.txt` where a sequence has a label (0
  neutral, 1 anger, 2 contempt, 3 disgust, 4 fear, 5 happy, 6 sadness, 7 surprise);
- CK+48, the copy of the last three frames of each labeled sequence as faces of 48x48
  in `CK+48/anger/S010_004_00000017.png` and so on.

Of the authors' layout the last two frames of a labeled sequence have its expression
and the first one is neutral. Contempt becomes neutral. In CK+48, which has no neutral
faces, neutral is contempt alone and an expression has three frames: results on the two
layouts cannot be compared. Class names are FER-2013's.

Three frames of one sequence are nearly one image, and CK+ has no official split.
Therefore the folds of the cross-validation are split by subject, not by frame.
"""

import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import logging

from emosynth_jax.data import class_names
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import _ckextended, _counts
from emosynth_jax.data.datasets.fer2013 import CLASS_NAMES
from emosynth_jax.data.datasets.folds import rows_of_split, stratified_group_folds
from emosynth_jax.data.images import decoding, face_crop, face_detector
from emosynth_jax.data.images import files as image_files
from emosynth_jax.utils import errors, listing

# The codes of the emotion files as FER-2013's class names; 2 is contempt.
CODES = ("neutral", "angry", "neutral", "disgust", "fear", "happy", "sad", "surprise")
# The class folders of CK+48; any other name of a class is read too.
FOLDERS = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")
NUM_FRAMES = 981  # Three of each of the 327 labeled sequences, in either layout.
SPLITS = ("train", "validation", "test")
PROTOCOLS = ("by_subject", "by_frame_leaky", "usage_leaky")
CROPS = ("center", "landmarks", "detector")

_PLACES = ("", "ck_plus", "CK+")
_IMAGES, _EMOTION, _CK48 = "cohn-kanade-images", "Emotion", "CK+48"
_FRAME = re.compile(r"(S\d{3})_(\d{3})_(\d{8})\.png")


class _Frame(NamedTuple):
  path: pathlib.Path
  class_name: str
  subject: str


def load(
  data_dir: str | pathlib.Path,
  split: str,
  *,
  protocol: str = "by_subject",
  fold: int = 0,
  folds: int = 10,
  image_size: int = 48,
  channels: int = 1,
  crop: str = "center",
) -> Dataset:
  """Reads one split of one fold of a cross-validation on CK+.

  Args:
    data_dir: the folder that holds `cohn-kanade-images/` and `Emotion/`, or `CK+48/`,
      or is the latter, or contains such a folder named `ck_plus` or `CK+`. If it has
      both layouts, the authors' own is read.
    split: "test" is the fold itself, "validation" the next one (after the last comes
      the first), "train" all the others.
    protocol: "by_subject" splits the folds by subject, see `stratified_group_folds`.
      "by_frame_leaky" splits by single frames, as many papers do: neighbors in time of
      a test frame are then in the training set, and the result does not generalize to
      unseen subjects. It exists to measure that leak. "usage_leaky" is for Kaggle's
      `ckextended.csv` and its column Usage, beside the folder's other layouts: it names
      no subjects, so that a test subject is in the training set too.
    fold: the test fold, 0 to `folds` - 1.
    folds: the number of folds, 3 or more.
    image_size: side in pixels to which every image is resized.
    channels: 1 converts to grayscale, 3 to RGB.
    crop: the crop of the authors' frames of 640x490 and 640x480. "center", the largest
      centered square: the whole head and some background. "landmarks", a square around
      the 68 points in the authors' `Landmarks/`. "detector", a square around the most
      confident detection of `face_detector.py`, framed as FER-2013's images are. CK+48
      is already cropped.

  Returns:
    A `Dataset` of images `(N, image_size, image_size, channels)`.

  Raises:
    FileNotFoundError: neither layout is there; or a sequence, frame or landmark file.
    ModuleNotFoundError: `crop` is "detector" and its package isn't installed.
    ValueError: an option is unknown, a label is outside 0..7, or a folder or file is
      not as it should be; it is named.
  """
  errors.check_choice("split", split, SPLITS)
  errors.check_choice("protocol", protocol, PROTOCOLS)
  crop = "center" if crop == "centre" else crop  # As older configs spell it.
  errors.check_choice("crop", crop, CROPS)
  image_files.check_options(image_size, channels)
  if protocol == "usage_leaky":
    table = _table_of(pathlib.Path(data_dir), crop)
    return _ckextended.load(table, split, image_size=image_size, channels=channels)

  root, is_ck48 = _find(pathlib.Path(data_dir))
  if is_ck48 and crop != "center":
    raise ValueError(f"crop: the images of {root} are already cropped; got {crop!r}")

  frames = (_ck48_frames if is_ck48 else _official_frames)(root)
  labels = np.array([CLASS_NAMES.index(frame.class_name) for frame in frames], np.int32)
  _counts.check_classes(f"{root}:", labels, CLASS_NAMES)
  _counts.warn_if_partial(f"CK+: {root}", len(frames), "labeled frames", NUM_FRAMES)

  rows = rows_of_split(_deal_out(frames, labels, protocol, folds), split, fold, folds)
  find_square = _square_finder(root, crop)
  images = np.empty((len(rows), image_size, image_size, channels), np.uint8)
  for i, row in enumerate(rows):
    path = frames[row].path
    image = decoding.decode(path.read_bytes(), str(path), channels)
    image = face_crop.cut(image, find_square(image, path))
    images[i] = image_files.resize(image, image_size)

  logging.info("CK+: %s %s images from %s", f"{len(rows):,}", split, root)
  return Dataset(
    images=images,
    labels=labels[rows],
    class_names=CLASS_NAMES,
    split=split,
    sources=tuple(frames[row].path.relative_to(root).as_posix() for row in rows),
    official_split=_describe(split, protocol, fold, folds),
  ).with_pixel_forms()


def _table_of(data_dir: pathlib.Path, crop: str) -> pathlib.Path:
  """Finds ckextended.csv for the protocol usage_leaky, and warns of what it lacks."""
  table = _find_table(data_dir)
  if table is None:
    raise FileNotFoundError(
      f"no {_ckextended.FILE} at {data_dir}, which the protocol usage_leaky reads"
    )
  if crop != "center":
    raise ValueError(f"crop: the faces of {table} are cropped already; got {crop!r}")

  logging.warning(
    "CK+: %s names no subjects: its results say nothing about unseen ones", table
  )
  return table


def _find_table(data_dir: pathlib.Path) -> pathlib.Path | None:
  """Finds ckextended.csv."""
  if data_dir.is_file() and data_dir.suffix == ".csv":
    return data_dir
  folders = listing.places(data_dir, _PLACES)
  return next(
    (f / _ckextended.FILE for f in folders if (f / _ckextended.FILE).is_file()), None
  )


def _find(data_dir: pathlib.Path) -> tuple[pathlib.Path, bool]:
  """Finds the folder of either layout; also returns whether it is CK+48."""
  folders = listing.places(data_dir, _PLACES)
  for folder in folders:
    if (folder / _IMAGES).is_dir() and (folder / _EMOTION).is_dir():
      return folder, False

  for folder in [folder / name for folder in folders for name in ("", _CK48)]:
    if folder.is_dir() and any(
      path.is_dir() and class_names.canonical(path.name) == "contempt"
      for path in listing.visible(folder)
    ):
      return folder, True
  if (table := _find_table(data_dir)) is not None:
    raise ValueError(
      f"{table} names no subjects, so that folds cannot be made of it: use "
      "config.data.options.protocol=usage_leaky for its own split (results then say "
      "nothing about unseen subjects), or CK+ from its authors"
    )

  raise FileNotFoundError(
    f"no CK+ at {data_dir} ({listing.describe(data_dir)}): looked for {_IMAGES}/ with "
    f"{_EMOTION}/, and for {_CK48}/, there and in its subfolders, ck_plus and CK+ "
    "first. The data set is available to researchers from its authors under a signed "
    "agreement: see https://www.jeffcohn.net/Resources/ (University of Pittsburgh). "
    "Unpack "
    "extended-cohn-kanade-images.zip and Emotion_labels.zip there, and Landmarks.zip "
    "for crop='landmarks'"
  )


def _official_frames(root: pathlib.Path) -> list[_Frame]:
  """Selects the first frame, as neutral, and the last two of each labeled sequence."""
  frames = []
  for folder in _folders(root / _EMOTION):
    for sequence in _folders(folder):
      files = listing.visible(sequence)
      if not files:  # So it has no label.
        continue
      if len(files) > 1:
        raise ValueError(
          f"{sequence}: expected one emotion file at most, got "
          f"{', '.join(path.name for path in files)}"
        )
      class_name = _read_label(files[0])
      images = _sequence_images(root, folder.name, sequence.name, files[0])
      frames.append(_Frame(images[0], "neutral", folder.name))
      frames += [_Frame(path, class_name, folder.name) for path in images[-2:]]

  if not frames:
    raise ValueError(
      f"{root / _EMOTION}: no SUBJECT/SEQUENCE/*_emotion.txt in it; unpack "
      "Emotion_labels.zip again"
    )

  return frames


def _read_label(path: pathlib.Path) -> str:
  if not path.name.endswith("_emotion.txt"):
    raise ValueError(f"{path}: expected a file *_emotion.txt")
  text = path.read_bytes().decode(errors="replace").strip()
  try:
    code = float(text)  # As in "3.0000000e+00".
  except ValueError:
    code = -1.0
  if code not in range(len(CODES)):
    raise ValueError(f"{path}: expected one of 0..7, got {text[:40]!r}")
  return CODES[int(code)]


def _sequence_images(
  root: pathlib.Path, subject: str, sequence: str, label: pathlib.Path
) -> list[pathlib.Path]:
  """The frames of a labeled sequence, in order."""
  folder = root / _IMAGES / subject / sequence
  if not folder.is_dir():
    raise FileNotFoundError(f"{folder} is missing, but its label {label} exists")

  paths = listing.visible(folder)
  for path in paths:
    match = _FRAME.fullmatch(path.name)
    if not match or match.group(1, 2) != (subject, sequence):
      raise ValueError(f"{path}: expected a frame {subject}_{sequence}_NUMBER.png")

  peak = folder / label.name.replace("_emotion.txt", ".png")
  if peak not in paths:
    raise FileNotFoundError(f"{peak} is missing, the frame that {label} labels")
  if len(paths) < 3:
    raise ValueError(f"{folder}: expected 3 frames or more, got {len(paths)}")

  return paths


def _ck48_frames(root: pathlib.Path) -> list[_Frame]:
  frames: list[_Frame] = []
  seen: dict[str, pathlib.Path] = {}
  folders = _folders(root)
  class_names.check_distinct(root, [folder.name for folder in folders])
  for folder in folders:
    name = class_names.canonical(folder.name)
    class_name = "neutral" if name == "contempt" else name
    if class_name not in CLASS_NAMES:
      raise ValueError(
        f"{folder}: unknown class folder; expected {', '.join(FOLDERS)}. Read folders "
        "of other names with the data set 'image_folder'"
      )
    for path in listing.visible(folder):
      match = _FRAME.fullmatch(path.name)
      if not match:
        raise ValueError(
          f"{path}: expected a frame SUBJECT_SEQUENCE_NUMBER.png, as in "
          "S010_004_00000017.png: the subject is read from the name"
        )
      if path.name in seen:
        raise ValueError(f"{path}: duplicate of the frame {seen[path.name]}")
      seen[path.name] = path
      frames.append(_Frame(path, class_name, match.group(1)))
  logging.warning(
    "CK+48 has no neutral faces: class 'neutral' consists of contempt only in %s", root
  )
  return frames


def _deal_out(
  frames: list[_Frame], labels: np.ndarray, protocol: str, folds: int
) -> np.ndarray:
  """The fold of each frame."""
  if protocol == "by_subject":
    subjects = np.array([frame.subject for frame in frames])
    return stratified_group_folds(labels, subjects, folds)

  logging.warning(
    "CK+: by_frame_leaky puts frames of one sequence into training and test; results "
    "do not generalize to unseen subjects"
  )

  # Each frame is a group of its own. A fixed shuffle, since in the order of the files a
  # sequence's two peak frames would never be in the same fold.
  keys = np.random.PCG64(0).random_raw(len(frames))
  return stratified_group_folds(labels, keys, folds)


def _describe(split: str, protocol: str, fold: int, folds: int) -> str:
  by = {"by_subject": "by subject", "by_frame_leaky": "by frame, leaky"}[protocol]
  following = (fold + 1) % folds
  if split == "train":
    return f"all folds but {fold} and {following} of 0..{folds - 1}, {by}"
  number = fold if split == "test" else following
  return f"fold {number} of 0..{folds - 1}, {by}"


def _square_finder(
  root: pathlib.Path, crop: str
) -> Callable[[np.ndarray, pathlib.Path], face_crop.Square]:
  """Returns the function that finds the square crop of a frame."""
  if crop == "center":
    return lambda image, path: face_crop.center(image)
  if crop == "detector":
    detect = face_detector.Detector()

    def most_confident(image: np.ndarray, path: pathlib.Path) -> face_crop.Square:
      found = detect(image)
      if not found:
        raise ValueError(f"{path}: the face detector found no face in this image")
      return face_detector.square_of(found[0])

    return most_confident

  def find(image: np.ndarray, path: pathlib.Path) -> face_crop.Square:
    name = f"{path.stem}_landmarks.txt"
    file = root.joinpath("Landmarks", *path.parts[-3:-1], name)
    return face_crop.around_landmarks(file, image)

  return find


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
  return [path for path in listing.visible(folder) if path.is_dir()]
