"""The audit's counts against a count by hand, its files, and its command line."""

import collections
import dataclasses
import itertools
import json
import os
import zipfile

import commands
import cv2
import numpy as np
import pytest
from PIL import Image

from emosynth_jax.audit import contact_sheet, findings
from emosynth_jax.data import duplicates
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images import unreadable

_CLASS_NAMES = ("fear", "happy", "sad")


def _images(n, seed=0):
  """Unrelated images, smooth enough for a JPEG to keep, (n, 32, 32, 1)."""
  noise = np.random.default_rng(seed).uniform(0, 255, (n, 8, 8)).astype(np.float32)
  return np.stack(
    [cv2.resize(x, (32, 32), interpolation=cv2.INTER_LINEAR)[..., None] for x in noise]
  ).astype(np.uint8)


def _dataset(split, images, labels):
  return Dataset(
    images=np.asarray(images),
    labels=np.asarray(labels, np.int32),
    class_names=_CLASS_NAMES,
    split=split,
    sources=tuple(f"folder/{split}_{i}.png" for i in range(len(images))),
    official_split="PrivateTest" if split == "test" else "",
  )


@pytest.fixture(scope="module")
def datasets():
  """Three splits with all kinds of duplicates; `_WHAT` names what each image shows."""
  a, b, c, d, e, f = _images(6)
  blank = np.full((32, 32, 1), 9, np.uint8)
  darker = (a * 0.8).astype(np.uint8)
  return {
    "train": _dataset("train", [a, a, b, c, blank, e], [0, 0, 1, 2, 0, 2]),
    "validation": _dataset("validation", [darker, b, d], [1, 1, 2]),
    "test": _dataset("test", [a, c[:, ::-1], blank, f], [0, 2, 2, 1]),
  }


def _find(datasets):
  """All images, and the duplicates among them."""
  images = np.concatenate([dataset.images for dataset in datasets.values()])
  return images, duplicates.find_duplicates(images)


# Images and, after a slash, what was done to them.
_WHAT = "a a b c blank e|a/dark b d|a c/mirror blank f"


@pytest.fixture(scope="module")
def report(datasets):
  return findings.describe_datasets(datasets, _find(datasets)[1])


def _items():
  """(split, what it shows, version) of each image."""
  for split, text in zip(
    ("train", "validation", "test"), _WHAT.split("|"), strict=True
  ):
    for word in text.split():
      shown, _, version = word.partition("/")
      yield split, shown, version


def test_pairs_are_those_counted_one_by_one(report):
  expected = {kind: collections.Counter() for kind in report["pairs"]}
  for (a, shown_a, one), (b, shown_b, other) in itertools.combinations(_items(), 2):
    if shown_a == shown_b:
      kind = (
        "exact" if one == other else "mirrored" if "mirror" in (one, other) else "near"
      )
      expected[kind][a if a == b else f"{a} and {b}"] += 1
  assert sum(map(len, expected.values())) >= 6
  for kind, counts in report["pairs"].items():
    assert set(counts) == {
      "train",
      "validation",
      "test",
      "train and validation",
      "train and test",
      "validation and test",
    }
    assert {k: v for k, v in counts.items() if v} == dict(expected[kind])


def test_images_with_a_near_duplicate_are_those_counted_one_by_one(report):
  items = list(_items())
  for split, figures in report["splits"].items():
    expected = collections.Counter()
    for i, (own, shown, _) in enumerate(items):
      others = {
        other for j, (other, it, _) in enumerate(items) if it == shown and i != j
      }
      if own == split:
        expected.update(others)
        expected["elsewhere"] += bool(others - {split})
    assert figures["images_with_near_duplicate"] == {
      key: expected[key] for key in ("train", "validation", "test", "elsewhere")
    }


def test_splits_classes_and_blank_images(report):
  assert report["splits"]["train"]["class_counts"] == {"fear": 3, "happy": 1, "sad": 2}
  assert report["splits"]["validation"]["num_images"] == 3
  assert report["splits"]["train"]["blank_images"] == ["folder/train_4.png"]
  assert report["splits"]["validation"]["blank_images"] == []
  assert report["splits"]["test"]["official_split"] == "PrivateTest"


def test_pixel_forms_are_counted_by_split_where_they_are_known(datasets, report):
  assert [split["pixel_forms"] for split in report["splits"].values()] == [None] * 3
  # Forms in turn, so that no count equals another's.
  marked = {
    name: dataclasses.replace(dataset, pixel_forms=np.array(forms, np.uint8))
    for (name, dataset), forms in zip(
      datasets.items(), ([0, 0, 0, 1, 1, 2], [1, 1, 2], [0, 2, 2, 2]), strict=True
    )
  }
  counted = findings.describe_datasets(marked, _find(datasets)[1])
  assert counted["splits"]["train"]["pixel_forms"] == {
    "original": 3,
    "equalized": 2,
    "unknown": 1,
  }
  text = _text(counted)
  lines = [line.split() for line in text.splitlines()]
  assert ["original", "3", "0", "1"] in lines
  assert ["equalized", "2", "2", "0"] in lines
  assert ["unknown", "1", "1", "3"] in lines
  assert "pixel form" not in _text(report)


def _text(report):
  config = {"near_duplicates": {"max_distance": 12, "min_correlation": 0.9}}
  return findings.format_report(
    {"data_set": "faces", "config": config, "unreadable_files": [], **report}
  )


def test_label_conflicts_are_counted_apart_for_equal_pixels(report):
  # Of equal pixels only the blank ones (fear, sad) differ in label; the dark copy of
  # "a" is happy where the others show fear.
  assert report["label_conflicts"] == {
    "exact": {"groups": 1, "images": 2},
    "all": {"groups": 2, "images": 6},
    "by_classes": {"fear and happy": 1, "fear and sad": 1},
  }


def test_every_group_is_listed_with_sources_and_labels(report):
  groups = [
    [f"{i['source']}={i['label']}" for i in group] for group in report["groups"]
  ]
  assert groups == [
    [
      "folder/train_0.png=fear",
      "folder/train_1.png=fear",
      "folder/validation_0.png=happy",
      "folder/test_0.png=fear",
    ],
    ["folder/train_2.png=happy", "folder/validation_1.png=happy"],
    ["folder/train_3.png=sad", "folder/test_1.png=sad"],
    ["folder/train_4.png=fear", "folder/test_2.png=sad"],
  ]


def test_the_text_holds_the_figures(report):
  text = _text(report)
  lines = [line.split() for line in text.splitlines()]
  assert ["all", "6", "3", "4"] in lines
  assert ["blank", "1", "0", "1"] in lines
  assert ["train", "and", "test", "3", "0", "1"] in lines
  assert ["of", "test", "3", "1", "0", "3", "(75.0", "%)"] in lines
  assert ["any", "duplicates", "2", "6"] in lines
  assert "blank in test: folder/test_2.png" in text
  assert "at most 12 of 64 bits" in text
  assert text.endswith("files that cannot be decoded: none\n")


def _chosen(datasets, max_pairs):
  return contact_sheet.choose_pairs(datasets, _find(datasets)[1], max_pairs)


def test_one_pair_a_group_is_chosen_across_splits_and_the_weakest(datasets):
  pairs = _chosen(datasets, 10)
  places = {(pair.first, pair.second): pair for pair in pairs}
  # "a" by its dark copy (0, 6), "b" (2, 7), "c" mirrored (3, 10), blank (4, 11).
  assert set(places) == {(0, 6), (2, 7), (3, 10), (4, 11)}
  assert all(pair.across for pair in pairs)
  assert places[3, 10].kind == "mirrored"
  assert places[0, 6].kind == "near"
  assert places[2, 7].kind == places[4, 11].kind == "exact"
  correlations = [pair.correlation for pair in pairs]
  assert correlations == sorted(correlations)


def test_pairs_within_a_split_fill_what_room_is_left(datasets):
  images = datasets["train"].images
  train = _dataset("train", np.concatenate([images, images[5:]]), [0] * 7)
  datasets = {"train": train, "validation": datasets["validation"]}
  pairs = _chosen(datasets, 3)
  assert [(pair.first, pair.second, pair.across) for pair in pairs] == [
    (0, 7, True),
    (2, 8, True),
    (5, 6, False),
  ]
  # The weakest and the strongest are always among those chosen.
  assert len(_chosen(datasets, 2)) == 2
  assert [pair.across for pair in _chosen(datasets, 1)] == [True]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sheet_shows_the_pixels(datasets, tmp_path, channels):
  pairs = _chosen(datasets, 3)
  colored = {
    name: _dataset(name, dataset.images.repeat(channels, axis=-1), dataset.labels)
    for name, dataset in datasets.items()
  }
  contact_sheet.draw_pairs(colored, pairs, tmp_path / "near_duplicates.png")
  sheet = np.asarray(Image.open(tmp_path / "near_duplicates.png").convert("L"), float)
  images, _ = _find(datasets)
  scale = round(112 / 32)
  shown = sheet[8 : 8 + 32 * scale : scale, 8 : 8 + 32 * scale : scale]
  # But for the palette.
  assert np.abs(shown - images[pairs[0].first, ..., 0]).max() < 16


def test_a_sheet_without_pairs_says_so(datasets, tmp_path):
  contact_sheet.draw_pairs(datasets, [], tmp_path / "near_duplicates.png")
  assert (
    np.asarray(Image.open(tmp_path / "near_duplicates.png").convert("L")).min() < 128
  )


# Files.


def _save(path, image):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(image[..., 0]).save(path)


def test_every_file_that_cannot_be_decoded_is_named(tmp_path):
  image = _images(1)[0]
  _save(tmp_path / "train" / "a" / "good.png", image)
  content = (tmp_path / "train" / "a" / "good.png").read_bytes()
  (tmp_path / "train" / "a" / "cut.png").write_bytes(content[:60])
  (tmp_path / "train" / "a" / "text.JPG").write_text("not an image")
  (tmp_path / "train" / "a" / ".hidden.png").write_text("left alone")
  (tmp_path / "notes.txt").write_text("left alone")
  (tmp_path / "__MACOSX").mkdir()
  (tmp_path / "__MACOSX" / "cut.png").write_text("left alone")
  with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
    archive.writestr("test/b/good.png", content)
    archive.writestr("test/b/empty.png", b"")
    archive.writestr("__MACOSX/test/b/good.png", b"left alone")
  problems = unreadable.find_unreadable(tmp_path)
  assert len(problems) == 3
  for problem, name in zip(
    problems, ("more.zip: test/b/empty.png", "cut.png", "text.JPG"), strict=True
  ):
    assert f"{name}: cannot decode" in problem
  assert len(unreadable.find_unreadable(tmp_path / "more.zip")) == 1


# The command line.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Class folders with one test image that is trained on, as JPEG."""
  root = tmp_path_factory.mktemp("data")
  images = _images(24)
  for i, image in enumerate(images):
    split = ("train", "validation", "test")[i % 3]
    _save(root / split / ("happy", "sad")[i % 2] / f"{i}.png", image)
  Image.fromarray(images[0, ..., 0]).save(root / "test" / "sad" / "copy.jpg")
  return root


def _run(folder, workdir, *further):
  """Runs the command in the folder `workdir`."""
  root = str(commands.ROOT)
  return commands.run(
    *("-m", "emosynth_jax.audit", f"--config={root}/configs/synthetic_faces.py"),
    "--config.data.name=image_folder",
    f"--config.data.data_dir={folder}",
    "--config.data.options.image_size=32",
    "--config.data.options.channels=1",
    "--config.data.drop_duplicates=True",
    # An audit reads neither of them.
    "--config.data.folds.file=folds.npz",
    "--config.data.soft_labels=soft_labels.npz",
    *further,
    cwd=workdir,
    env=os.environ | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"},
  )


def test_the_command_writes_a_report_that_finds_the_copy(folder, tmp_path):
  done = _run(folder, tmp_path)
  assert done.returncode == 0, done.stderr
  # Named after the data set, not after the config file.
  workdir = tmp_path / "runs" / f"{folder.name}-audit"
  assert {path.name for path in workdir.iterdir()} == {
    "audit.json",
    "audit.txt",
    "near_duplicates.png",
  }
  report = json.loads((workdir / "audit.json").read_text())
  # All there is, although a training would leave it out.
  assert report["splits"]["train"]["num_images"] == 8
  assert report["groups"] == [
    [
      {"split": "train", "source": "train/happy/0.png", "label": "happy"},
      {"split": "test", "source": "test/sad/copy.jpg", "label": "sad"},
    ]
  ]
  assert report["pairs"]["near"]["train and test"] == 1
  assert report["label_conflicts"]["all"] == {"groups": 1, "images": 2}
  assert report["unreadable_files"] == []
  assert "emosynth_jax.audit" in report["audited_by"]["command"]
  assert done.stdout == (workdir / "audit.txt").read_text()


def test_damaged_files_are_all_named_and_the_command_fails(folder, tmp_path):
  damaged = tmp_path / "data"
  for path in sorted(folder.rglob("*")):
    if path.is_file():
      copy = damaged / path.relative_to(folder)
      copy.parent.mkdir(parents=True, exist_ok=True)
      copy.write_bytes(path.read_bytes())
  for name in ("0.png", "6.png"):
    (damaged / "train" / "happy" / name).write_bytes(b"\x89PNG")
  done = _run(damaged, tmp_path, "--workdir=audit")
  assert done.returncode == 1
  assert "Traceback" not in done.stderr
  error = done.stderr.splitlines()[-1]
  assert "train/happy/0.png: cannot decode" in error
  assert "2 image files cannot be decoded" in error
  text = (tmp_path / "audit" / "audit.txt").read_text()
  assert "happy/0.png" in text
  assert "happy/6.png" in text
  report = json.loads((tmp_path / "audit" / "audit.json").read_text())
  assert len(report["unreadable_files"]) == 2


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--config.data.near_duplicates.max_bits=3", "no such setting"),
    # By its old name.
    ("--config.data.twins.max_distance=40", "at least 0 and less than 32, got 40"),
  ],
)
def test_a_mistake_in_flags_takes_one_line(folder, tmp_path, flag, message):
  done = _run(folder, tmp_path, flag)
  assert done.returncode == 1
  assert "Traceback" not in done.stderr
  assert message in done.stderr.splitlines()[-1]
