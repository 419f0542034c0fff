"""Folders of class folders: layouts, conversion, resizing and refusals."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from emosynth_jax.data.datasets import image_folder


def write(path, pixels, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def fill(root, classes=("cat", "dog"), count=2, side=8, gray=10):
  for k, name in enumerate(classes):
    for i in range(count):
      write(root / name / f"{i}.png", np.full((side, side), gray + 10 * k + i))


def load(root, split="train", size=8, channels=1):
  return image_folder.load(root, split, image_size=size, channels=channels)


@pytest.mark.parametrize("validation", ["validation", "val", "valid", "Valid"])
def test_split_folders(tmp_path, validation):
  for gray, folder in ((10, "train"), (50, validation), (90, "test")):
    fill(tmp_path / folder, gray=gray)
  for gray, split in ((10, "train"), (50, "validation"), (90, "test")):
    dataset = load(tmp_path, split)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.split == split
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert dataset.images[:, 0, 0, 0].tolist() == [gray, gray + 1, gray + 10, gray + 11]
  assert image_folder.has_validation(tmp_path)
  assert load(tmp_path, "validation").sources[2] == f"{validation}/dog/0.png"


def test_bare_class_folders_are_the_training_split(tmp_path):
  fill(tmp_path, classes=("b", "a", "C"))
  (tmp_path / "labels.txt").write_text("ignored: no folder")
  (tmp_path / ".cache").mkdir()
  (tmp_path / "a" / ".DS_Store").write_text("ignored")
  dataset = load(tmp_path)
  assert dataset.class_names == ("C", "a", "b")
  assert len(dataset) == 6
  assert not image_folder.has_validation(tmp_path)
  with pytest.raises(FileNotFoundError, match="no split 'test'; it has train"):
    load(tmp_path, "test")


def test_grayscale_and_color(tmp_path):
  fill(tmp_path)
  color = np.full((8, 8, 3), (200, 100, 50))
  write(tmp_path / "cat" / "0.png", color)
  np.testing.assert_array_equal(load(tmp_path, channels=3).images[0], color)
  # ITU-R 601: 0.299 R + 0.587 G + 0.114 B.
  np.testing.assert_allclose(load(tmp_path).images[0], 124.2, atol=1)
  # A gray file has three equal channels.
  np.testing.assert_array_equal(load(tmp_path, channels=3).images[2], 20)


def test_shrinking_averages_over_areas(tmp_path):
  fill(tmp_path)
  pixels = np.random.default_rng(0).integers(0, 256, (32, 16))
  write(tmp_path / "cat" / "0.png", pixels)
  means = pixels.reshape(8, 4, 8, 2).mean((1, 3))
  np.testing.assert_allclose(load(tmp_path).images[0, ..., 0], means, atol=0.51)


def test_enlarging_is_bilinear_and_keeps_a_ramp(tmp_path):
  fill(tmp_path)
  write(tmp_path / "cat" / "0.png", np.tile(10 * np.arange(8), (8, 1)))
  rows = load(tmp_path, size=16).images[0, ..., 0].astype(int)
  # Pixel centers of the larger grid lie at (i + 1/2) / 2 - 1/2 of the smaller.
  ramp = 10 * np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)
  np.testing.assert_allclose(rows, np.tile(ramp, (16, 1)), atol=0.51)


def test_shrinking_one_side_and_enlarging_the_other(tmp_path):
  fill(tmp_path)
  pixels = np.random.default_rng(0).integers(0, 256, (64, 4))
  write(tmp_path / "cat" / "0.png", pixels)
  image = load(tmp_path).images[0, ..., 0]
  means = pixels.reshape(8, 8, 4).mean(1)
  # At the borders the enlarged side repeats the outer pixels.
  np.testing.assert_allclose(image[:, [0, -1]], means[:, [0, -1]], atol=0.51)


def test_exif_orientation_is_applied(tmp_path):
  fill(tmp_path)
  exif = Image.Exif()
  exif[0x0112] = 3  # stored upside down
  pixels = np.zeros((8, 8))
  pixels[0] = 255
  write(tmp_path / "cat" / "0.png", pixels, exif=exif)
  np.testing.assert_array_equal(load(tmp_path).images[0, ..., 0], pixels[::-1])


def test_classes_that_differ_between_splits(tmp_path):
  fill(tmp_path / "train", classes=("cat", "dog", "owl"))
  fill(tmp_path / "test", classes=("cat", "dogs", "owl"))
  with pytest.raises(
    ValueError, match=r"test: class .*missing \['dog'\], unexpected \['dogs'\]"
  ):
    load(tmp_path, "train")


_DEEP = Image.fromarray(np.full((8, 8), 0.5, np.float32))


@pytest.mark.parametrize(
  ("name", "make", "message"),
  [
    ("bird", pathlib.Path.mkdir, "no image of this class"),
    ("dog/more", pathlib.Path.mkdir, "expected an image file, got a fol"),
    # Rather than clipped.
    (
      "cat/0.png",
      lambda p: _DEEP.save(p, "TIFF"),
      "expected 8 or 16 bits a channel",
    ),
    ("dog/5.png", lambda p: p.write_bytes(b"no image"), ".*no known image format"),
    ("dog/5.png", lambda p: p.write_bytes(b""), ".*no known image format"),
    (
      "dog/5.png",
      lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40),
      ".*cannot decode this",
    ),
  ],
)
def test_what_is_no_image_is_refused_by_name(tmp_path, name, make, message):
  fill(tmp_path)
  make(tmp_path / name)
  with pytest.raises(ValueError, match=f"{name}: {message}"):
    load(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp"])
def test_truncated_file_is_refused_by_name(tmp_path, suffix):
  fill(tmp_path)
  path = tmp_path / "dog" / f"5.{suffix}"
  write(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3)))
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(ValueError, match=rf"dog/5\.{suffix}: cannot decode"):
    load(tmp_path)


def test_both_names_of_the_validation_folder(tmp_path):
  for folder in ("train", "val", "validation"):
    fill(tmp_path / folder)
  with pytest.raises(ValueError, match=r"both val/ and validation/ exist"):
    load(tmp_path)


def test_missing_folder_and_too_few_classes(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
    load(tmp_path / "nowhere")
  with pytest.raises(ValueError, match=r"two or more class folders, got \[\]"):
    load(tmp_path)
  fill(tmp_path, classes=("cat",))
  with pytest.raises(ValueError, match=r"two or more class folders, got \['cat'\]"):
    load(tmp_path)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"split": "val"}, "split: expected one of .*got 'val'"),
    ({"size": 0}, "image_size: expected a positive side, got 0"),
    ({"channels": 4}, "channels: expected 1 or 3, got 4"),
  ],
)
def test_bad_arguments(tmp_path, arguments, message):
  fill(tmp_path)
  with pytest.raises(ValueError, match=message):
    load(tmp_path, **arguments)


@pytest.mark.parametrize("name", ["validate", "eval", "holdout", "test_images"])
def test_a_split_by_an_unknown_name_is_refused(tmp_path, name):
  """Otherwise validation would silently be held out of train."""
  for folder in ("train", "test", name):
    fill(tmp_path / folder)
  (tmp_path / "notes").mkdir()
  with pytest.raises(
    ValueError, match=rf"{name}: class folders, but its name is of no"
  ):
    load(tmp_path)


@pytest.mark.parametrize(
  ("split", "folder"), [("train", "Training"), ("test", "Testing"), ("test", "TEST")]
)
def test_splits_in_another_case_or_form(tmp_path, split, folder):
  for name in {"train", "test"} - {split}:
    fill(tmp_path / name)
  fill(tmp_path / folder, gray=50)
  assert load(tmp_path, split).images[0, 0, 0, 0] == 50


def test_expressions_may_be_spelled_differently_in_each_split(tmp_path):
  fill(tmp_path / "train", ("Anger", "happy", "other"))
  fill(tmp_path / "test", ("happiness", "other", "angry"), gray=50)
  dataset = load(tmp_path, "test")
  assert dataset.class_names == ("Anger", "happy", "other")
  assert dataset.sources[::2] == (
    "test/angry/0.png",
    "test/happiness/0.png",
    "test/other/0.png",
  )
  assert dataset.images[:, 0, 0, 0].tolist() == [70, 71, 50, 51, 60, 61]


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "ehthumbs.db", "._1.png"])
def test_litter_is_no_image(tmp_path, name):
  fill(tmp_path)
  (tmp_path / "cat" / name).write_bytes(b"?")
  (tmp_path / "__MACOSX").mkdir()
  assert load(tmp_path).class_names == ("cat", "dog")
  assert len(load(tmp_path)) == 4
