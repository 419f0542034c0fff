"""RAF-DB in both layouts, and every way of being malformed."""

import logging
import pathlib

import numpy as np
import pytest
from PIL import Image

from emosynth_jax import data
from emosynth_jax.data.datasets import fer2013, raf_db

# RAF-DB's readme: 1 surprise, 2 fear, 3 disgust, 4 happiness, 5 sadness, 6 anger and 7
# neutral; FER-2013's table: 0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise and
# 6 neutral.
FER_LABEL = {1: 5, 2: 2, 3: 1, 4: 3, 5: 4, 6: 0, 7: 6}
# (name, label), not in the order of the labels. Three of each class train, one tests.
ROWS = [
  (f"{split}_{number:05d}.jpg", number % 7 + 1)
  for split, count in (("train", 21), ("test", 7))
  for number in range(1, count + 1)
]


def gray(name: str) -> int:
  """The value of all of an image's pixels, another one for each image."""
  return 10 * int(name[-6:-4]) + name.startswith("test")


def write_image(path: pathlib.Path, value: int, side: int = 100) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.full((side, side, 3), value, np.uint8)
  Image.fromarray(pixels).save(path, "JPEG", quality=100)


def write_official(root: pathlib.Path, rows=ROWS) -> pathlib.Path:
  listing = root / "EmoLabel" / "list_patition_label.txt"
  listing.parent.mkdir(parents=True)
  listing.write_text("".join(f"{name} {label}\n" for name, label in rows))
  for name, _ in rows:
    aligned = name.replace(".jpg", "_aligned.jpg")
    write_image(root / "Image" / "aligned" / aligned, gray(name))
  return root


def write_sorted(root: pathlib.Path) -> pathlib.Path:
  for name, label in ROWS:
    split = name.partition("_")[0]
    aligned = name.replace(".jpg", "_aligned.jpg")
    write_image(root / split / str(label) / aligned, gray(name))
  return root


@pytest.mark.parametrize("parent", ["", "basic", "raf_db/basic", "RAF-DB"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_authors_layout(tmp_path, split, parent):
  write_official(tmp_path / parent)
  dataset = raf_db.load(tmp_path, split)
  rows = [row for row in ROWS if row[0].startswith(split)]
  assert dataset.images.shape == (len(rows), 100, 100, 3)
  np.testing.assert_array_equal(
    dataset.images[:, 50, 50], [[gray(name)] * 3 for name, _ in rows]
  )
  assert dataset.labels.tolist() == [FER_LABEL[label] for _, label in rows]
  assert dataset.class_names == fer2013.CLASS_NAMES
  assert dataset.split == split
  first = f"Image/aligned/{split}_00001_aligned.jpg"
  assert (dataset.sources[0], len(set(dataset.sources))) == (first, len(rows))


@pytest.mark.parametrize("parent", ["", "DATASET"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_sorted_copies_hold_the_same(tmp_path, split, parent):
  write_sorted(tmp_path / "sorted" / parent)
  write_official(tmp_path / "official")
  ours = raf_db.load(tmp_path / "sorted", split)
  official = raf_db.load(tmp_path / "official", split)

  def by_name(dataset):
    names = [pathlib.PurePath(source).name for source in dataset.sources]
    rows = zip(names, dataset.labels, dataset.images[:, 0, 0, 0], strict=True)
    return sorted(rows)

  assert by_name(ours) == by_name(official)
  assert ours.class_names == official.class_names


def test_the_authors_layout_comes_first(tmp_path):
  write_official(write_sorted(tmp_path))
  assert raf_db.load(tmp_path, "test").sources[0].startswith("Image/aligned/")


def test_options(tmp_path):
  write_official(tmp_path)
  dataset = raf_db.load(tmp_path, "test", image_size=48, channels=1)
  assert dataset.images.shape == (7, 48, 48, 1)
  assert dataset.images[:, 0, 0, 0].tolist() == [11, 21, 31, 41, 51, 61, 71]


def test_validation_is_held_out_of_train_by_class(tmp_path):
  write_official(tmp_path)
  loaded = data.load_splits(
    "raf_db",
    tmp_path,
    ("train", "validation", "test"),
    validation_fraction=0.34,
    seed=0,
    image_size=32,
    channels=1,
  )
  counts = {split: part.class_counts.tolist() for split, part in loaded.items()}
  assert counts == {"train": [2] * 7, "validation": [1] * 7, "test": [1] * 7}
  assert loaded["validation"].official_split == "held out of train"
  assert not set(loaded["train"].sources) & set(loaded["validation"].sources)
  with pytest.raises(ValueError, match=r"split: expected one of .*got 'validation'"):
    raf_db.load(tmp_path, "validation")


def test_an_unusual_count_is_only_warned_of(tmp_path, caplog):
  write_official(tmp_path)
  with caplog.at_level(logging.WARNING):
    raf_db.load(tmp_path, "test")
  # Li et al. 2017: 12,271 training and 3,068 test images with basic emotions.
  assert "has 7 test images; the whole data set has 3,068" in caplog.text


def test_missing_data_set_says_where_to_apply(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"whdeng\.cn/RAF/model1\.html") as caught:
    raf_db.load(tmp_path / "nowhere", "train")
  assert str(tmp_path / "nowhere") in str(caught.value)
  assert "list_patition_label.txt" in str(caught.value)


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("train_00099.jpg 0", r"line 29: label: expected 1..7, got '0'"),
    ("train_00099.jpg 8", r"line 29: label: .*got '8'"),
    ("train_00099.jpg happy", r"line 29: label: .*got 'happy'"),
    ("train_00099.jpg", r"line 29: expected 'train_NUMBER.jpg LABEL'"),
    ("train_00099.jpg 1 2", r"line 29: expected 'train_NUMBER.jpg LABEL'"),
    ("valid_00099.jpg 1", r"line 29: expected 'train_NUMBER.jpg LABEL'"),
    ("train_00001 1", r"line 29: expected 'train_NUMBER.jpg LABEL'"),
    ("train_00001.jpg 3", r"line 29: train_00001.jpg is already listed in line 1"),
  ],
)
def test_malformed_list_is_refused_with_its_line(tmp_path, line, message):
  write_official(tmp_path)
  listing = tmp_path / "EmoLabel" / "list_patition_label.txt"
  listing.write_text(listing.read_text() + line + "\n")
  with pytest.raises(ValueError, match=message) as caught:
    raf_db.load(tmp_path, "test")  # the other split's lines count too
  assert str(listing) in str(caught.value)


def test_list_with_carriage_returns_byte_order_mark_and_blank_end(tmp_path):
  write_official(tmp_path)
  listing = tmp_path / "EmoLabel" / "list_patition_label.txt"
  text = listing.read_text().replace("\n", "\r\n")
  listing.write_bytes(("\ufeff" + text + "\r\n").encode())
  assert len(raf_db.load(tmp_path, "test")) == 7
  listing.write_bytes(b"\xff\xfe\x00")
  with pytest.raises(ValueError, match=r"list_patition_label.txt: not a text file"):
    raf_db.load(tmp_path, "test")


def test_missing_images_are_named_and_counted(tmp_path):
  write_official(tmp_path)
  for number in (3, 5):
    (tmp_path / "Image" / "aligned" / f"train_0000{number}_aligned.jpg").unlink()
  with pytest.raises(
    FileNotFoundError, match=r"train_00003_aligned.jpg is missing, .*and 1 more"
  ):
    raf_db.load(tmp_path, "test")


@pytest.mark.parametrize("write", [write_official, write_sorted])
@pytest.mark.parametrize("content", [b"", b"no image"])
def test_damaged_image_is_refused_by_name(tmp_path, write, content):
  write(tmp_path)
  (path,) = tmp_path.rglob("test_00002_aligned.jpg")
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"test_00002_aligned.jpg: .*no known image"):
    raf_db.load(tmp_path, "test")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("train/8/x.jpg", r"train/8: expected folders named by RAF-DB's labels 1..7"),
    ("train/bored/x.jpg", r"train/bored: expected .*image_folder"),
    ("train/1.jpg", r"train/1.jpg: expected folders"),
    ("train/1/x.txt", r"train/1/x.txt: expected a .jpg or .png file"),
    ("train/1/test_00001_aligned.jpg", r"an image of RAF-DB's test split in train/"),
  ],
)
def test_malformed_folders_are_refused_by_name(tmp_path, name, message):
  write_sorted(tmp_path)
  write_image(tmp_path / name, 0)
  with pytest.raises(ValueError, match=message):
    raf_db.load(tmp_path, "test")


def test_empty_class_and_litter(tmp_path):
  write_sorted(tmp_path)
  (tmp_path / "test" / ".DS_Store").write_text("litter")
  assert len(raf_db.load(tmp_path, "test")) == 7
  for path in (tmp_path / "test" / "3").iterdir():
    path.unlink()
  with pytest.raises(ValueError, match="test has no image of class 'disgust'"):
    raf_db.load(tmp_path, "test")


@pytest.mark.parametrize(
  ("options", "error", "message"),
  [
    ({"image_size": 0}, ValueError, "image_size: expected a positive side, got 0"),
    ({"image_size": 48.0}, TypeError, "image_size: expected an integer, got 48.0"),
    ({"channels": 2}, ValueError, "channels: expected 1 or 3, got 2"),
  ],
)
def test_bad_options(tmp_path, options, error, message):
  with pytest.raises(error, match=message):
    raf_db.load(tmp_path, "train", **options)


@pytest.mark.parametrize(
  "listing", ["EmoLabel/list_partition_label.txt", "list_patition_label.txt"]
)
@pytest.mark.parametrize("folder", ["", "RAF-DB copy"])
def test_the_list_is_found_by_either_spelling_and_one_folder_deeper(
  tmp_path, listing, folder
):
  root = write_official(tmp_path / folder)
  (root / "EmoLabel" / "list_patition_label.txt").rename(root / listing)
  dataset = raf_db.load(tmp_path, "test")
  assert dataset.labels.tolist() == [
    FER_LABEL[label] for name, label in ROWS if name.startswith("test")
  ]


def test_aligned_images_in_a_folder_of_their_own(tmp_path):
  write_official(tmp_path)
  (tmp_path / "Image" / "aligned").rename(tmp_path / "moved")
  (tmp_path / "Image" / "aligned").mkdir()
  (tmp_path / "moved").rename(tmp_path / "Image" / "aligned" / "aligned")
  assert len(raf_db.load(tmp_path, "train")) == 21


def test_folders_by_the_names_of_the_classes(tmp_path):
  write_sorted(tmp_path)
  expected = raf_db.load(tmp_path, "test")
  names = ("Surprise", "fearful", "disgust", "Happiness", "sad", "anger", "neutral")
  for split in ("train", "test"):
    for label, name in enumerate(names, start=1):
      (tmp_path / split / str(label)).rename(tmp_path / split / name)
  dataset = raf_db.load(tmp_path, "test")
  assert sorted(dataset.labels) == sorted(expected.labels)
  assert {names[k - 1] for k in range(1, 8)} == {
    source.split("/")[1] for source in dataset.sources
  }
  (tmp_path / "train" / "angry").mkdir()
  with pytest.raises(ValueError, match="two folders of the class 'angry', anger and"):
    raf_db.load(tmp_path, "train")


def test_litter_of_windows_and_macos_is_no_image(tmp_path):
  write_sorted(tmp_path)
  for name in ("Thumbs.db", "desktop.ini"):
    (tmp_path / "train" / name).touch()
    (tmp_path / "train" / "1" / name).touch()
  (tmp_path / "train" / "__MACOSX").mkdir()
  assert len(raf_db.load(tmp_path, "train")) == 21
