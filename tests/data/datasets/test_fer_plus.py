"""FER+: votes joined to images by row, both layouts, and FER+'s rules by hand."""

import csv
import pathlib

import numpy as np
import pytest
from PIL import Image

from emosynth_jax import data
from emosynth_jax.data import dataset
from emosynth_jax.data.datasets import fer2013, fer_plus

_HEADER = (
  "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,"
  "unknown,NF"
).split(",")
_REAL = pathlib.Path(__file__).resolve().parents[4] / "shared/data/fer2013new.csv"

# Usage, image name, votes in FER+'s order, FER-2013's label. The name's number is not
# the row: the row without a name is counted, and later names are sorted by nothing.
_ROWS = [
  ("Training", "fer0000000.png", (8, 2, 0, 0, 0, 0, 0, 0, 0, 0), 6),  # neutral
  ("Training", "", (0, 0, 0, 0, 0, 0, 0, 0, 0, 10), 3),  # not a face
  ("Training", "fer0000007.png", (0, 5, 5, 0, 0, 0, 0, 0, 0, 0), 3),  # no majority
  ("Training", "fer0000003.png", (0, 1, 0, 0, 9, 0, 0, 0, 0, 0), 3),  # angry
  ("Training", "fer0000002.png", (1, 0, 0, 0, 0, 0, 2, 6, 1, 0), 0),  # contempt
  ("Training", "fer0000001.png", (2, 0, 0, 0, 0, 0, 2, 0, 6, 0), 0),  # unknown
  ("PublicTest", "fer0000009.png", (0, 9, 0, 0, 0, 1, 0, 0, 0, 0), 3),  # happy
  ("PrivateTest", "fer0000008.png", (0, 0, 0, 7, 0, 0, 3, 0, 0, 0), 2),  # sad
  ("PrivateTest", "fer0000006.png", (0, 0, 6, 0, 0, 0, 4, 0, 0, 0), 5),  # surprise
]


def _pixels(row: int) -> np.ndarray:
  """An image whose row can be told from any pixel."""
  return np.full((48, 48), 10 * row + 5, np.uint8)


def _write_pair(folder: pathlib.Path, table="fer2013.csv", order=None, spaces=False):
  """The two CSV files; `order` permutes the rows of the images alone."""
  with (folder / "fer2013new.csv").open("w", newline="") as file:
    csv.writer(file).writerows([_HEADER, *([u, n, *v] for u, n, v, _ in _ROWS)])
  lines = ["emotion, Usage, pixels" if spaces else "emotion,Usage,pixels"]
  for row in order or range(len(_ROWS)):
    usage, _, _, label = _ROWS[row]
    lines.append(f"{label},{usage},{' '.join(map(str, _pixels(row).ravel()))}")
  (folder / table).write_text("\n".join(lines) + "\n")
  return folder


def _write_folders(root: pathlib.Path, *, box: bool) -> pathlib.Path:
  """What FER+'s generate_training_data.py writes; its repository has the box."""
  names = {
    "Training": "FER2013Train",
    "PublicTest": "FER2013Valid",
    "PrivateTest": "FER2013Test",
  }
  for usage, name in names.items():
    (root / name).mkdir(parents=True)
    with (root / name / "label.csv").open("w", newline="") as file:
      for row, (row_usage, image, votes, _) in enumerate(_ROWS):
        if row_usage == usage and image:
          box_cell = ["(0, 0, 48, 48)"] if box else []
          csv.writer(file).writerow([image, *box_cell, *votes])
          Image.fromarray(_pixels(row)).save(root / name / image)
  return root


def _rows_and_names(dataset):
  """(row by pixel, class name) of each image."""
  rows = (dataset.images[:, 0, 0, 0].astype(int) - 5) // 10
  return [
    (row, dataset.class_names[label])
    for row, label in zip(rows.tolist(), dataset.labels.tolist(), strict=True)
  ]


@pytest.fixture(params=["fer2013.csv", "icml_face_data.csv", "folders", "boxes"])
def folder(request, tmp_path):
  if request.param.endswith(".csv"):
    return _write_pair(tmp_path, request.param, spaces=request.param.startswith("icml"))
  return _write_folders(tmp_path, box=request.param == "boxes")


def test_votes_belong_to_the_row_and_not_to_the_number_in_the_name(folder):
  load = lambda split: _rows_and_names(fer_plus.load(folder, split))  # noqa: E731
  assert load("train") == [(0, "neutral"), (3, "angry"), (4, "contempt")]
  assert load("validation") == [(6, "happy")]
  assert load("test") == [(7, "sad"), (8, "surprise")]


def test_seven_classes_are_those_of_fer2013(folder):
  train = fer_plus.load(folder, "train", num_classes=7)
  assert train.class_names == fer2013.CLASS_NAMES
  assert _rows_and_names(train) == [(0, "neutral"), (3, "angry")]
  assert train.votes.shape == (2, 7)


@pytest.mark.parametrize("labels", ["votes", "truncated_votes"])
def test_votes_are_soft_targets_of_training_alone(folder, labels):
  train = fer_plus.load(folder, "train", labels=labels)
  # The tie is kept; unknown and not a face are not.
  assert [row for row, _ in _rows_and_names(train)] == [0, 2, 3, 4]
  expected = np.zeros((4, 8))
  expected[0, [6, 3]] = 0.8, 0.2  # neutral, happy
  expected[1, [3, 5]] = 0.5  # happy, surprise
  expected[2, 0] = 1  # angry: the single vote for happy is noise
  expected[3, [7, 2]] = 0.75, 0.25  # contempt, fear: 6 and 2 of the 8 without singles
  if labels == "truncated_votes":
    # Three quarters are enough.
    expected[0], expected[3] = np.eye(8)[6], np.eye(8)[7]
  np.testing.assert_allclose(train.soft_labels, expected, rtol=1e-6)
  assert train.targets is train.soft_labels
  # Raw votes, with the single ones, in the order of the classes.
  assert train.votes[2].tolist() == [9, 0, 0, 1, 0, 0, 0, 0]

  test = fer_plus.load(folder, "test", labels=labels)
  assert test.soft_labels is None
  assert test.targets is test.labels
  assert len(test) == 2


@pytest.mark.parametrize(
  ("votes", "majority", "soft"),
  [
    # Votes in the order of CLASS_NAMES (angry, disgust, fear, happy, sad, surprise,
    # neutral, contempt), unknown, not a face.
    ((5, 0, 0, 5, 0, 0, 0, 0, 0, 0), None, {"angry": 0.5, "happy": 0.5}),
    # The second level makes four classes.
    ((3, 2, 0, 3, 0, 0, 2, 0, 0, 0), None, None),
    # 4 and 3 of 9 are three quarters.
    ((4, 0, 0, 3, 0, 0, 2, 0, 1, 0), None, {"angry": 4 / 7, "happy": 3 / 7}),
    # Unknown ends the list; what came before has more than half, or not.
    ((6, 0, 0, 0, 0, 0, 0, 0, 4, 0), "angry", {"angry": 1.0}),
    ((5, 0, 0, 0, 0, 0, 0, 0, 5, 0), None, None),
    # All votes are single ones.
    ((1, 1, 1, 1, 1, 1, 1, 1, 1, 1), None, None),
    ((0, 0, 0, 0, 0, 0, 0, 0, 0, 10), None, None),
  ],
)
def test_ferplus_rules(votes, majority, soft):
  counts = np.array([votes], np.uint8)
  label = fer_plus.majority_labels(counts)[0]
  assert (fer_plus.CLASS_NAMES[label] if label >= 0 else None) == majority
  expected = [(soft or {}).get(name, 0) for name in fer_plus.CLASS_NAMES]
  found = fer_plus.soft_labels(counts, truncate=True)[0]
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert fer_plus.soft_labels(counts).any() == (soft is not None)


def test_the_labels_of_fer2013_are_judged_by_the_majority(tmp_path):
  train = fer_plus.load(_write_pair(tmp_path), "train", labels="fer2013")
  # Those of FER-2013 in `_ROWS`, and beside them the majority.
  assert _rows_and_names(train) == [(0, "neutral"), (3, "happy"), (4, "angry")]
  clean = [train.class_names[label] for label in train.clean_labels]
  assert clean == ["neutral", "angry", "contempt"]
  assert train.official_split.endswith("by majority, labels of FER-2013")
  test = fer_plus.load(tmp_path, "test", labels="fer2013")
  assert _rows_and_names(test) == [(7, "sad"), (8, "surprise")]

  # A part of them has the same images as one with labels by majority.
  by_majority = fer_plus.load(tmp_path, "train")
  for limit in (1, 2):
    parts = [dataset.subset(whole, limit, seed=0) for whole in (train, by_majority)]
    np.testing.assert_array_equal(*(part.images for part in parts))

  folders = _write_folders(tmp_path / "folders", box=False)
  with pytest.raises(ValueError, match=r"has no labels of FER-2013; put fer2013new"):
    fer_plus.load(folders, "train", labels="fer2013")


def test_rows_of_another_order_or_number_are_refused(tmp_path):
  order = [7, 1, 2, 3, 4, 5, 6, 0, 8]
  with pytest.raises(
    ValueError, match=r"line 2: Usage is 'PrivateTest'.*joined by row"
  ):
    fer_plus.load(_write_pair(tmp_path, order=order), "test")
  with pytest.raises(ValueError, match=r"8 rows, but 9 in fer2013new.csv"):
    fer_plus.load(_write_pair(tmp_path, order=range(8)), "test")


def test_the_agreement_with_fer2013_counts_images_with_a_majority(tmp_path):
  assert fer_plus.compare_with_fer2013(tmp_path) is None
  _write_pair(tmp_path)
  assert fer_plus.compare_with_fer2013(tmp_path / "fer2013.csv") == {
    "train": {"faces": 3, "equal": 1},
    "validation": {"faces": 1, "equal": 1},
    "test": {"faces": 2, "equal": 1},
  }


def test_what_is_missing_is_named(tmp_path):
  with pytest.raises(
    FileNotFoundError, match=r"no FER\+ at .*zip of JPEG files cannot"
  ):
    fer_plus.load(tmp_path, "train")
  (tmp_path / "fer2013new.csv").write_text("x")
  with pytest.raises(FileNotFoundError, match=r"has no fer2013.csv or icml"):
    fer_plus.load(tmp_path, "train")
  _write_folders(tmp_path, box=False)
  (tmp_path / "FER2013Test" / "fer0000006.png").unlink()
  with pytest.raises(ValueError, match=r"fer0000006.png: named in label.csv, but not"):
    fer_plus.load(tmp_path, "test")


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("8,2,0", "8,x,0", r"line 2: expected 10 whole numbers of votes"),
    ("8,2,0", "8,3,0", r"line 2: expected 1 to 10 votes in all, got 11"),
    ("PublicTest", "Public", r"line 8: Usage: expected one of"),
    ("anger", "wrath", r"expected the columns Usage, Image name, neutral"),
  ],
)
def test_a_malformed_table_of_votes_names_the_line(tmp_path, old, new, message):
  path = _write_pair(tmp_path) / "fer2013new.csv"
  path.write_text(path.read_text().replace(old, new))
  with pytest.raises(ValueError, match=message):
    fer_plus.load(tmp_path, "train")


def test_an_emotion_that_is_not_used_may_be_anything(tmp_path):
  table = _write_pair(tmp_path) / "fer2013.csv"
  table.write_text(table.read_text().replace("\n6,", "\n7,", 1))
  assert len(fer_plus.load(tmp_path, "train")) == 3
  with pytest.raises(ValueError, match=r"line 2: emotion: expected 0..6, got '7'"):
    fer_plus.load(tmp_path, "train", labels="fer2013")


def test_subsets_keep_votes_and_soft_labels_with_their_images(tmp_path):
  loaded = data.load_splits(
    "fer_plus",
    _write_pair(tmp_path),
    ["train", "validation", "test"],
    validation_fraction=0.5,
    seed=0,
    limit=2,
    labels="votes",
  )
  train = loaded["train"]
  assert len(train) == 2
  for soft, votes, label in zip(
    train.soft_labels, train.votes, train.labels, strict=True
  ):
    assert soft[label] == soft.max() > 0
    assert votes[label] == votes.max()
  # The data set's own validation split.
  assert loaded["validation"].official_split.startswith("PublicTest")


@pytest.mark.skipif(not _REAL.is_file(), reason="no fer2013new.csv in ../shared/data")
def test_the_published_table_has_the_published_counts():
  votes = fer_plus.read_votes(_REAL)
  assert len(votes.usages) == 35887
  totals = votes.counts.sum(axis=1)
  assert (np.sum(totals == 10), np.sum(totals == 9)) == (35886, 1)
  usages, named = np.array(votes.usages), np.array(votes.names) != ""
  majority = fer_plus.majority_labels(votes.counts)
  assert named.sum() == 35714
  assert [int((named & (usages == u)).sum()) for u in fer2013.USAGES.values()] == [
    28561,
    3579,
    3574,
  ]
  # Images that no name is given to never have a label.
  assert (majority[~named] == -1).all()
  # The number in the name is another one than the row's from row 60 on.
  numbers = np.array([int(name[3:10]) if name else -1 for name in votes.names])
  differ = named & (numbers != np.arange(len(numbers)))
  assert (np.flatnonzero(differ)[0], differ.sum()) == (60, 35657)
  # As FER+'s own reader, ferplus.py, gives them from the same file.
  assert [int((usages[majority >= 0] == u).sum()) for u in fer2013.USAGES.values()] == [
    25060,
    3199,
    3153,
  ]
