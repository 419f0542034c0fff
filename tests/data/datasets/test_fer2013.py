"""FER-2013 in every form it comes in, and every way of being malformed."""

import csv
import functools
import io
import logging
import os
import pathlib
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from emosynth_jax.data.datasets import fer2013

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
USAGES = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}
# Images of each class and split. They differ, so that mixed-up splits show.
PER_CLASS = {"train": 3, "validation": 1, "test": 2}


def jpeg(pixels: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  Image.fromarray(pixels).save(buffer, "JPEG", quality=100)
  return buffer.getvalue()


def generate() -> list[tuple[str, int, str, np.ndarray]]:
  """(split, label, Kaggle's file name, pixels), in the order of the file names.

  Every 8x8 block has one gray value, which JPEG keeps exactly at quality 100: its
  coefficient is 8 (gray - 128), a whole number, and all others are zero.
  """
  rng = np.random.default_rng(0)
  rows = []
  for split, count in PER_CLASS.items():
    folder = "train" if split == "train" else "test"
    for label in sorted(range(7), key=lambda label: CLASSES[label]):
      for i in range(count):
        name = f"{folder}/{CLASSES[label]}/{USAGES[split]}_{1000 + i}.jpg"
        blocks = rng.integers(0, 256, (6, 6), np.uint8)
        rows.append((split, label, name, blocks.repeat(8, 0).repeat(8, 1)))
  return rows


ROWS = generate()


def table(columns: dict[str, str]) -> list[list[str]]:
  """The CSV as cells; `columns` maps each header cell to the name of its column."""
  cells = [list(columns)]
  for split, label, _, pixels in ROWS:
    values = {
      "emotion": str(label),
      "pixels": " ".join(map(str, pixels.ravel())),
      "Usage": USAGES[split],
    }
    cells.append([values[name] for name in columns.values()])
  return cells


def fer_table() -> list[list[str]]:
  return table({"emotion": "emotion", "pixels": "pixels", "Usage": "Usage"})


def icml_table() -> list[list[str]]:
  return table({"emotion": "emotion", " Usage": "Usage", " pixels": "pixels"})


def write_table(path: pathlib.Path, cells: list[list[str]]) -> pathlib.Path:
  with path.open("w", newline="") as file:
    csv.writer(file, lineterminator="\n").writerows(cells)
  return path


def files() -> dict[str, bytes]:
  return {name: jpeg(pixels) for _, _, name, pixels in ROWS}


def write_zip(path: pathlib.Path, contents: dict[str, bytes]) -> pathlib.Path:
  with zipfile.ZipFile(path, "w") as archive:
    for name in reversed(contents):  # the order in the zip must not matter
      archive.writestr(name, contents[name])
  return path


def write_folder(path: pathlib.Path, contents: dict[str, bytes]) -> pathlib.Path:
  for name, content in contents.items():
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).write_bytes(content)
  return path


# By form: writes the data set into a folder, and returns what one can name.
FORMS = {
  "zip": lambda folder: write_zip(folder / "fer2013.zip", files()),
  "archive": lambda folder: write_zip(folder / "archive.zip", files()),
  "folder": lambda folder: write_folder(folder, files()),
  "csv": lambda folder: write_table(folder / "fer2013.csv", fer_table()),
  "icml": lambda folder: write_table(folder / "icml_face_data.csv", icml_table()),
}


@pytest.mark.parametrize("split", USAGES)
@pytest.mark.parametrize("named", [False, True], ids=["found", "named"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_holds_the_same_images(tmp_path, form, named, split):
  path = FORMS[form](tmp_path)
  dataset = fer2013.load(path if named else tmp_path, split)

  rows = [row for row in ROWS if row[0] == split]
  np.testing.assert_array_equal(
    dataset.images, np.stack([pixels for *_, pixels in rows])[..., None]
  )
  np.testing.assert_array_equal(dataset.labels, [label for _, label, *_ in rows])
  assert dataset.class_names == CLASSES
  assert dataset.split == split
  assert dataset.official_split == USAGES[split]
  assert len(set(dataset.sources)) == len(rows)
  # 36 blocks of random grays: told by the levels, whatever the layout.
  assert dataset.form_counts == {"original": len(rows), "equalized": 0, "unknown": 0}
  if form in ("zip", "archive", "folder"):
    assert dataset.sources == tuple(name for _, _, name, _ in rows)
  else:
    lines = [2 + ROWS.index(row) for row in rows]
    assert dataset.sources == tuple(f"{path.name} line {line}" for line in lines)


@pytest.mark.parametrize("form", ["zip", "folder", "csv"])
def test_the_thesiss_protocol_reports_both_test_sets_together(tmp_path, form):
  FORMS[form](tmp_path)
  load = functools.partial(fer2013.load, tmp_path, protocol="thesis_28709_7178")
  public, private = (fer2013.load(tmp_path, split) for split in ("validation", "test"))
  test = load("test")
  assert len(test) == 7 * (1 + 2)
  assert sorted(test.sources) == sorted(public.sources + private.sources)
  rows = dict(zip(test.sources, test.images, strict=True))
  for part in (public, private):
    for source, image in zip(part.sources, part.images, strict=True):
      np.testing.assert_array_equal(rows[source], image)
  assert (test.split, test.official_split) == ("test", "PublicTest and PrivateTest")
  train = load("train")
  assert train.sources == fer2013.load(tmp_path, "train").sources
  with pytest.raises(ValueError, match=r"expected one of train, test; got 'val"):
    load("validation")


def test_unknown_protocol(tmp_path):
  with pytest.raises(ValueError, match="protocol: expected one of official, the"):
    fer2013.load(tmp_path, "train", protocol="thesis")


def test_data_is_found_in_the_subfolder_fer2013(tmp_path):
  (tmp_path / "fer2013").mkdir()
  write_zip(tmp_path / "fer2013" / "fer2013.zip", files())
  assert len(fer2013.load(tmp_path, "validation")) == 7


@pytest.mark.parametrize("kaggles", ["zip", "folder"])
@pytest.mark.parametrize("form", ["csv", "icml"])
def test_a_table_beside_kaggles_images_is_named(
  tmp_path, caplog, monkeypatch, kaggles, form
):
  # Every time, and not once in a process.
  monkeypatch.setattr(
    fer2013.logging,
    "log_first_n",
    lambda _, text, n, *args: logging.warning(text, *args),
  )
  path = FORMS[kaggles](tmp_path)
  fer2013.load(tmp_path, "test")
  assert "is read, and not" not in caplog.text

  both = FORMS[form](tmp_path)
  assert fer2013.load(tmp_path, "test").sources[0].endswith(".jpg")
  assert f"{path} is read, and not {both.name} beside it." in caplog.text
  assert f"give {both} as the data directory" in caplog.text

  # Named, it is not ambiguous.
  caplog.clear()
  fer2013.load(both, "test")
  assert "is read, and not" not in caplog.text


def test_zip_with_a_parent_folder_and_macos_litter(tmp_path):
  contents = {f"fer/{name}": content for name, content in files().items()}
  contents["fer/train/"] = b""
  contents["__MACOSX/fer/train/angry/._Training_1000.jpg"] = b"litter"
  contents["fer/train/happy/.DS_Store"] = b"litter"
  contents["fer/README.md"] = b"litter"
  path = write_zip(tmp_path / "x.zip", contents)
  assert len(fer2013.load(path, "train")) == 21


def test_color_jpeg_becomes_gray(tmp_path):
  contents = files()
  name = "test/sad/PublicTest_1000.jpg"
  contents[name] = jpeg(np.full((48, 48, 3), (77, 77, 77), np.uint8))
  dataset = fer2013.load(write_zip(tmp_path / "x.zip", contents), "validation")
  image = dataset.images[dataset.sources.index(name)]
  assert image.shape == (48, 48, 1)
  np.testing.assert_array_equal(image, 77)


def test_table_with_byte_order_mark_quotes_carriage_returns_and_blank_end(tmp_path):
  text = "\ufeff" + "".join(
    ",".join(f'"{cell}"' for cell in row) + "\r\n" for row in fer_table()
  )
  path = tmp_path / "fer2013.csv"
  path.write_bytes((text + "\r\n").encode())
  assert len(fer2013.load(path, "test")) == 14


def test_an_unusual_count_is_only_warned_of(tmp_path, caplog):
  path = write_zip(tmp_path / "x.zip", files())
  with caplog.at_level(logging.WARNING):
    fer2013.load(path, "train")
  assert "has 21 Training images; the whole data set has 28,709" in caplog.text


def test_unknown_split(tmp_path):
  with pytest.raises(ValueError, match=r"split: expected one of .*got 'Training'"):
    fer2013.load(tmp_path, "Training")


def test_missing_data_set_says_where_to_get_it(tmp_path):
  with pytest.raises(FileNotFoundError, match="msambare/fer2013") as caught:
    fer2013.load(tmp_path / "nowhere", "train")
  assert str(tmp_path / "nowhere") in str(caught.value)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("fer2013.tar.gz", b"", r"fer2013.tar.gz: expected a .zip, a .csv"),
    (
      "fer2013.csv",
      b"emotion,pixels,Usage\n0,\xff\xfe,Training\n",
      r"near line \d: not a CSV file",
    ),
  ],
)
def test_a_file_of_another_kind(tmp_path, name, content, message):
  path = tmp_path / name
  path.write_bytes(content)
  with pytest.raises(ValueError, match=message):
    fer2013.load(path, "train")


def _change(column: str, value: str):
  """Puts a value into the fifth row (line 6) of the table."""

  def change(cells):
    cells[5][cells[0].index(column)] = value

  return change


PIXELS = ["7"] * 2304


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      _change("pixels", " ".join(PIXELS[1:])),
      r"line 6: pixels: expected 2304 \(48x48\) values, got 2303",
    ),
    (_change("pixels", " ".join([*PIXELS, "7"])), "line 6: .* got 2305"),
    (_change("pixels", ""), "line 6: pixels"),
    (_change("pixels", " ".join([*PIXELS[1:], "256"])), "line 6: .*0..255, got 256"),
    (_change("pixels", " ".join(["-1", *PIXELS[1:]])), "line 6: .*0..255, got -1"),
    (_change("pixels", " ".join(["9" * 30, *PIXELS[1:]])), "line 6: .*0..255"),
    (_change("pixels", " ".join(["7.5", *PIXELS[1:]])), "line 6: .*got '7.5'"),
    (_change("pixels", " ".join([*PIXELS[1:], "x"])), "line 6: .*got 'x'"),
    (_change("pixels", " ".join([*PIXELS, "x"])), "line 6: .*got 'x'"),
    (_change("emotion", "7"), r"line 6: emotion: expected 0..6, got '7'"),
    (_change("emotion", "happy"), r"line 6: emotion: .*got 'happy'"),
    (_change("emotion", ""), r"line 6: emotion: .*got ''"),
    (_change("Usage", "Test"), "line 6: Usage: expected .*PublicTest.*got 'Test'"),
    (lambda cells: cells[5].pop(), "line 6: expected 3 columns, got 2; .*truncated"),
    (lambda cells: cells[5].append("1"), "line 6: expected 3 columns, got 4"),
    (lambda cells: cells[0].__setitem__(2, "split"), "missing column Usage"),
    (lambda cells: cells.clear(), "missing column emotion, pixels, Usage"),
  ],
)
def test_malformed_table_is_refused_with_its_line(tmp_path, change, message):
  cells = fer_table()
  change(cells)
  path = write_table(tmp_path / "fer2013.csv", cells)
  with pytest.raises(ValueError, match=message) as caught:
    fer2013.load(path, "train")
  assert str(path) in str(caught.value)


def test_labels_and_usages_of_the_other_splits_are_checked_too(tmp_path):
  cells = fer_table()
  _change("emotion", "9")(cells)  # a row of Training
  path = write_table(tmp_path / "fer2013.csv", cells)
  with pytest.raises(ValueError, match="line 6: emotion"):
    fer2013.load(path, "test")


@pytest.mark.parametrize("usage", ["PublicTest", "PrivateTest"])
def test_table_without_a_split_or_a_class(tmp_path, usage):
  split = {value: key for key, value in USAGES.items()}[usage]
  cells = [row for row in fer_table() if row[2] != usage]
  with pytest.raises(ValueError, match=f"no {usage} image"):
    fer2013.load(write_table(tmp_path / "a.csv", cells), split)
  cells = [row for row in fer_table() if row[0] != "3" or row[2] != usage]
  with pytest.raises(ValueError, match=f"{usage} has no image of class 'happy'"):
    fer2013.load(write_table(tmp_path / "b.csv", cells), split)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_truncated_zip(tmp_path, cut):
  path = write_zip(tmp_path / "fer2013.zip", files())
  os.truncate(path, int(cut * path.stat().st_size))
  with pytest.raises(ValueError, match=r"fer2013.zip: the zip is damaged or truncated"):
    fer2013.load(path, "train")


def test_zip_with_flipped_bits_names_the_member(tmp_path):
  path = write_zip(tmp_path / "fer2013.zip", files())
  name = "train/fear/Training_1001.jpg"
  content = bytearray(path.read_bytes())
  content[content.index(files()[name]) + 300] ^= 1
  path.write_bytes(content)
  with pytest.raises(ValueError, match=f"{name}: cannot unpack"):
    fer2013.load(path, "train")


@pytest.mark.parametrize("pack", [write_zip, write_folder])
@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    (
      "train/fear/Training_1001.jpg",
      files()["train/fear/Training_1001.jpg"][:-200],
      "cannot decode this image",
    ),
    ("train/fear/Training_1001.jpg", b"", "no known image format"),
    ("train/fear/Training_1001.jpg", b"GIF89a", "cannot decode this"),
    (
      "train/fear/Training_1001.jpg",
      jpeg(np.zeros((48, 32), np.uint8)),
      "expected 48x48 pixels, got 32x48",
    ),
    ("train/frightened/Training_9.jpg", b"", "unknown class folder 'frightened'"),
    ("train/fear/Training_9.txt", b"", r"expected a .jpg or .png file"),
    ("train/fear/sub/Training_9.jpg", b"", r"expected images in {train,test}/<class>/"),
    ("test/Training_9.jpg", b"", r"expected images in {train,test}/<class>/"),
    ("train/fear/PublicTest_9.jpg", b"", r"expected a file name Training_\*"),
    ("test/fear/Training_9.jpg", b"", r"PublicTest_\* or PrivateTest_\*"),
    ("test/fear/im9.png", b"", r"PublicTest .* by file names only.*thesis_28709"),
  ],
)
def test_malformed_file_is_refused_by_name(tmp_path, pack, name, content, message):
  path = tmp_path / "data.zip"
  pack(path, {**files(), name: content})
  with pytest.raises(ValueError, match=message) as caught:
    fer2013.load(path, "train")
  assert name in str(caught.value)


def test_folder_with_an_empty_class(tmp_path):
  contents = {k: v for k, v in files().items() if not k.startswith("train/disgust")}
  write_folder(tmp_path, contents)
  (tmp_path / "train" / "disgust").mkdir()
  with pytest.raises(ValueError, match="Training has no image of class 'disgust'"):
    fer2013.load(tmp_path, "train")
  assert len(fer2013.load(tmp_path, "test")) == 14


@pytest.mark.parametrize(
  ("contents", "message"),
  [
    (
      files() | {f"images/{name}": content for name, content in files().items()},
      "several copies of the data set: '', 'im",
    ),
    (
      {"notes/fer.txt": b"emotion"},
      r"no image in train/<class>/.*found notes/fer\.txt",
    ),
    (
      files() | {"train/anger/Training_7.jpg": files()[ROWS[0][2]]},
      "two folders of the class 'angry', anger and",
    ),
  ],
  ids=["two copies", "something else", "two folders of one class"],
)
def test_contents_of_another_kind_are_refused(tmp_path, contents, message):
  path = write_zip(tmp_path / "x.zip", contents)
  with pytest.raises(ValueError, match=message):
    fer2013.load(path, "train")


def test_real_zip(real_data, caplog):
  # The sizes of the splits are those of Goodfellow et al. 2013, section 2; the test
  # split's by class are the supports that papers' classification reports list.
  with caplog.at_level(logging.WARNING):
    validation = fer2013.load(real_data, "validation")
    test = fer2013.load(real_data / "fer2013.zip", "test")
  assert len(validation) == len(test) == 3589
  assert (validation.official_split, test.official_split) == (
    "PublicTest",
    "PrivateTest",
  )
  assert test.class_counts.tolist() == [491, 55, 528, 879, 594, 416, 626]
  assert not set(validation.sources) & set(test.sources)
  # The zip's images are equalized (docs/guides/data.md); one of PublicTest's is
  # constant.
  assert test.form_counts == {"original": 0, "equalized": 3589, "unknown": 0}
  assert validation.form_counts == {"original": 0, "equalized": 3588, "unknown": 1}
  # Both together are the test folder of Kaggle's msambare/fer2013, 7,178 images.
  both = fer2013.load(real_data, "test", protocol="thesis_28709_7178")
  assert both.class_counts.tolist() == [958, 111, 1024, 1774, 1247, 831, 1233]
  assert list(test.sources) == sorted(test.sources)
  # Whatever else the process logs: a training of another test may have raised absl's
  # verbosity, and progress is no complaint.
  assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("pack", [write_zip, write_folder])
@pytest.mark.parametrize(
  "names",
  [
    ("anger", "disgusted", "Fear", "happiness", "sadness", "Surprised", "NEUTRAL"),
    ("0", "1", "2", "3", "4", "5", "6"),
  ],
  ids=["words", "numbers"],
)
def test_class_folders_by_other_names(tmp_path, pack, names):
  path = tmp_path / ("fer2013.zip" if pack is write_zip else "fer2013")
  renamed = {}
  for name, content in files().items():
    split, class_name, file = name.split("/")
    renamed[f"{split}/{names[CLASSES.index(class_name)]}/{file}"] = content
  pack(path, renamed)
  dataset = fer2013.load(tmp_path, "test")
  rows = {name: label for split, label, name, _ in ROWS if split == "test"}
  assert sorted(dataset.labels) == sorted(rows.values())
  for source, label in zip(dataset.sources, dataset.labels, strict=True):
    assert names[label] == source.split("/")[-2]


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store"])
@pytest.mark.parametrize("pack", [write_zip, write_folder])
def test_litter_is_no_image(tmp_path, pack, name):
  content = {**files(), f"train/angry/{name}": b"?", f"__MACOSX/train/fear/{name}": b""}
  path = tmp_path / ("fer2013.zip" if pack is write_zip else "fer2013")
  assert len(fer2013.load(pack(path, content), "train")) == 21


def test_backslashes_separate_folders_in_a_zip(tmp_path):
  content = {name.replace("/", "\\"): x for name, x in files().items()}
  path = write_zip(tmp_path / "fer2013.zip", content)
  dataset = fer2013.load(path, "train")
  other = fer2013.load(write_zip(tmp_path / "archive.zip", files()), "train")
  np.testing.assert_array_equal(dataset.images, other.images)


@pytest.mark.parametrize("name", ["fer2013.csv", "challenge/icml_face_data.csv"])
def test_a_table_in_a_zip_is_the_table(tmp_path, name):
  table = write_table(tmp_path / "fer2013.csv", fer_table())
  expected = fer2013.load(table, "test")
  path = write_zip(tmp_path / "packed.zip", {name: table.read_bytes()})
  dataset = fer2013.load(path, "test")
  np.testing.assert_array_equal(dataset.images, expected.images)
  np.testing.assert_array_equal(dataset.labels, expected.labels)
  path = write_zip(tmp_path / "cut.zip", {name: table.read_bytes()[:-100]})
  with pytest.raises(
    ValueError, match=rf"cut\.zip/{name}, line 43: expected 3 columns"
  ):
    fer2013.load(path, "test")


def test_a_damaged_table_in_a_zip_is_named(tmp_path):
  table = write_table(tmp_path / "fer2013.csv", fer_table())
  path = write_zip(tmp_path / "packed.zip", {"fer2013.csv": table.read_bytes()})
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 0x10
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"packed\.zip: fer2013\.csv: cannot unpack"):
    fer2013.load(path, "test")


@pytest.mark.parametrize("pack", [write_zip, write_folder])
def test_file_names_that_are_lost_leave_one_test_split(tmp_path, pack):
  path = tmp_path / ("archive.zip" if pack is write_zip else "fer2013")
  lost = {
    "/".join([*name.split("/")[:2], f"im{i}.png"]): content
    for i, (name, content) in enumerate(files().items())
  }
  pack(path, lost)
  load = functools.partial(fer2013.load, path, protocol="thesis_28709_7178")
  assert (len(load("train")), len(load("test"))) == (21, 21)
  with pytest.raises(ValueError, match="protocol=thesis_28709_7178, which has one"):
    fer2013.load(path, "train")


def test_a_copy_in_a_folder_of_its_own_is_found(tmp_path):
  write_folder(tmp_path / "archive (1)", files())
  (tmp_path / "another" / "train").mkdir(parents=True)
  (tmp_path / "another" / "test").mkdir()
  assert len(fer2013.load(tmp_path, "train")) == 21


def test_what_was_found_instead_is_said(tmp_path):
  (tmp_path / "images").mkdir()
  (tmp_path / "list.txt").touch()
  with pytest.raises(FileNotFoundError, match=r"\(found images/, list\.txt\)"):
    fer2013.load(tmp_path, "train")


def test_a_pixel_that_is_no_number_is_refused_where_numpy_only_warns(monkeypatch):
  def of_numpy_before_2_3(text, dtype, sep):
    warnings.warn("string or file could not be read", DeprecationWarning, stacklevel=2)
    return np.zeros(fer2013.SIDE**2, dtype)

  monkeypatch.setattr(np, "fromstring", of_numpy_before_2_3)
  with pytest.raises(ValueError, match=r"row 7: pixels: expected integers .* got 'x'"):
    fer2013.parse_pixels("0 " * fer2013.SIDE**2 + "x", "row 7")
