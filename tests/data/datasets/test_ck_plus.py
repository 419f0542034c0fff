"""CK+ in both layouts: which frames, which folds, and every way of being malformed."""

import logging
import pathlib

import numpy as np
import pytest
from PIL import Image

from emosynth_jax import data
from emosynth_jax.data.datasets import ck_plus, fer2013

# CK+'s readme: 0 neutral, 1 anger, 2 contempt, 3 disgust, 4 fear, 5 happy, 6 sadness, 7
# surprise; FER-2013's table: 0 angry, 1 disgust, 2 fear, 3 happy, 4 sad, 5 surprise and
# 6 neutral, and contempt goes there too.
FER_LABEL = {0: 6, 1: 0, 2: 6, 3: 1, 4: 2, 5: 3, 6: 4, 7: 5}
# Twelve people with two labeled sequences each, and a third one without a label.
SEQUENCES = {
  (f"S{5 * person:03d}", f"{number:03d}"): 1 + (2 * person + number) % 7
  for person in range(1, 13)
  for number in (1, 2)
}
NUM_FRAMES = 4
FOLDS = 4


def write_image(path: pathlib.Path, pixels: np.ndarray) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def frame(subject: str, sequence: str, number: int) -> str:
  return f"{subject}/{sequence}/{subject}_{sequence}_{number:08d}"


def write_official(root: pathlib.Path) -> pathlib.Path:
  value = 0
  for subject in sorted({subject for subject, _ in SEQUENCES}):
    for sequence in ("001", "002", "003"):
      for number in range(1, NUM_FRAMES + 1):
        path = root / "cohn-kanade-images" / f"{frame(subject, sequence, number)}.png"
        write_image(path, np.full((49, 64), value))
        value += 1
      code = SEQUENCES.get((subject, sequence))
      folder = root / "Emotion" / subject / sequence
      folder.mkdir(parents=True)
      if code is not None:
        name = f"{subject}_{sequence}_{NUM_FRAMES:08d}_emotion.txt"
        (folder / name).write_text(f"   {code}.0000000e+00\n")
  return root


@pytest.fixture(scope="module")
def official(tmp_path_factory):
  return write_official(tmp_path_factory.mktemp("official"))


def load(root, split="test", **options):
  return ck_plus.load(root, split, **{"folds": FOLDS, "image_size": 8, **options})


def all_tests(root, **options):
  return [load(root, fold=fold, **options) for fold in range(FOLDS)]


def subjects(dataset):
  return {pathlib.PurePath(s).name.partition("_")[0] for s in dataset.sources}


def test_first_frame_neutral_last_two_labeled_each_in_one_fold(official):
  expected = {}
  for (subject, sequence), code in SEQUENCES.items():
    expected[frame(subject, sequence, 1)] = 6
    expected[frame(subject, sequence, 3)] = FER_LABEL[code]
    expected[frame(subject, sequence, 4)] = FER_LABEL[code]
  assert len(expected) == 72  # 24 labeled sequences of three frames
  found = [
    (source, int(label), int(image[0, 0, 0]))
    for dataset in all_tests(official)
    for source, label, image in zip(
      dataset.sources, dataset.labels, dataset.images, strict=True
    )
  ]
  assert {source for source, *_ in found} == {
    f"cohn-kanade-images/{name}.png" for name in expected
  }
  assert len(found) == 72
  for source, label, value in found:
    path = official / source
    assert (
      label == expected[f"{path.parent.parent.name}/{path.parent.name}/{path.stem}"]
    )
    assert value == np.asarray(Image.open(path))[0, 0]


def test_no_person_is_in_two_splits(official):
  tests = all_tests(official)
  seen = [subjects(dataset) for dataset in tests]
  assert sum(map(len, seen)) == len(set().union(*seen)) == 12
  for fold in range(FOLDS):
    train, validation = (load(official, s, fold=fold) for s in ("train", "validation"))
    parts = [subjects(train), subjects(validation), subjects(tests[fold])]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 12
    assert validation.sources == tests[(fold + 1) % FOLDS].sources
    assert len(train) + len(validation) + len(tests[fold]) == 72


def test_names_shapes_and_defaults(official):
  dataset = ck_plus.load(official, "train")
  assert dataset.images.shape[1:] == (48, 48, 1)
  assert dataset.class_names == fer2013.CLASS_NAMES
  assert (dataset.split, dataset.official_split) == (
    "train",
    "all folds but 0 and 1 of 0..9, by subject",
  )
  test, validation = (
    ck_plus.load(official, split, fold=9) for split in ("test", "validation")
  )
  assert test.official_split == "fold 9 of 0..9, by subject"
  assert validation.official_split == "fold 0 of 0..9, by subject"
  assert load(official, channels=3, image_size=5).images.shape[1:] == (5, 5, 3)


def test_contempt_is_neutral_and_code_0_too(tmp_path):
  write_official(tmp_path)
  (path,) = tmp_path.glob("Emotion/S005/001/*.txt")
  for code in (2, 0):
    path.write_text(f"   {code}.0000000e+00\n")
    labels = {
      source: label
      for dataset in all_tests(tmp_path)
      for source, label in zip(dataset.sources, dataset.labels, strict=True)
    }
    for number in (1, 3, 4):
      assert labels[f"cohn-kanade-images/{frame('S005', '001', number)}.png"] == 6


def test_the_folds_of_frames_leak_and_say_so(official, caplog):
  with caplog.at_level(logging.WARNING):
    test = load(official, protocol="by_frame_leaky")
  assert (
    "by_frame_leaky puts frames of one sequence into training and te" in caplog.text
  )
  assert test.official_split == "fold 0 of 0..3, by frame, leaky"
  train = load(official, "train", protocol="by_frame_leaky")
  assert not set(train.sources) & set(test.sources)
  assert len(subjects(train) & subjects(test)) > 6
  parts = all_tests(official, protocol="by_frame_leaky")
  sources = [source for part in parts for source in part.sources]
  assert len(sources) == len(set(sources)) == 72
  counts = np.array([part.class_counts for part in parts])
  assert (np.ptp(counts, axis=0) <= 1).all()  # as even as whole frames can be
  # A sequence's last two frames now and then meet in a fold, as in a random split.
  pairs = [
    {f"cohn-kanade-images/{frame(*key, number)}.png" for number in (3, 4)}
    for key in SEQUENCES
  ]
  together = sum(pair <= set(part.sources) for pair in pairs for part in parts)
  assert 0 < together < len(pairs)


def test_through_load_splits_nothing_is_held_out(official):
  loaded = data.load_splits(
    "ck_plus",
    official,
    ("train", "validation", "test"),
    validation_fraction=0.1,
    seed=3,
    folds=FOLDS,
    image_size=8,
  )
  assert sum(map(len, loaded.values())) == 72
  assert loaded["validation"].official_split == "fold 1 of 0..3, by subject"


@pytest.mark.parametrize("parent", ["ck_plus", "CK+"])
def test_where_it_is_found(tmp_path, parent):
  write_official(tmp_path / parent)
  assert len(load(tmp_path)) > 0


def test_the_count_of_the_whole_data_set(official, caplog):
  with caplog.at_level(logging.WARNING):
    load(official)
  # Lucey et al. 2010, table 1: 327 labeled sequences; three frames of each.
  assert f"has 72 labeled frames; the whole data set has {3 * 327}" in caplog.text


def test_missing_data_set_says_where_to_apply(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"jeffcohn\.net/Resources") as caught:
    load(tmp_path / "nowhere")
  assert str(tmp_path / "nowhere") in str(caught.value)
  assert "Emotion_labels.zip" in str(caught.value)


# CK+48: names of its folders, in the order of FER_LABEL's codes from 1 on.
CK48 = ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise")


def write_ck48(root: pathlib.Path) -> pathlib.Path:
  for (subject, sequence), code in SEQUENCES.items():
    for number in (2, 3, 4):
      name = f"{subject}_{sequence}_{number:08d}.png"
      write_image(root / CK48[code - 1] / name, np.full((48, 48), 10 * code + number))
  return root


@pytest.mark.parametrize("parent", ["", "CK+48", "ck_plus/CK+48"])
def test_ck48(tmp_path, parent, caplog):
  write_ck48(tmp_path / parent)
  with caplog.at_level(logging.WARNING):
    tests = all_tests(tmp_path)
  assert "class 'neutral' consists of contempt only" in caplog.text
  people = [subjects(dataset) for dataset in tests]
  assert sum(map(len, people)) == len(set().union(*people)) == 12
  assert sum(map(len, tests)) == 72
  for dataset in tests:
    codes = dataset.images[:, 0, 0, 0] // 10
    assert dataset.labels.tolist() == [FER_LABEL[int(code)] for code in codes]
  assert tests[0].class_names == fer2013.CLASS_NAMES
  with pytest.raises(ValueError, match=r"crop: the images of .* are already cropped"):
    load(tmp_path, crop="landmarks")


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("boredom/S005_001_00000003.png", "boredom: unknown class folder; .*sadness"),
    (
      "anger/5.png",
      r"anger/5.png: expected a frame .* the subject is read from the name",
    ),
    ("anger/S005_001_00000003.jpg", r"00000003.jpg: expected a frame"),
    (
      "anger/S005_001_00000003.png",
      r"S005_001_00000003.png: duplicate of the frame .*png",
    ),
  ],
)
def test_malformed_ck48_is_refused_by_name(tmp_path, name, message):
  write_ck48(tmp_path)
  write_image(tmp_path / name.replace(".jpg", ".png"), np.zeros((48, 48)))
  if name.endswith(".jpg"):
    (tmp_path / name.replace(".jpg", ".png")).rename(tmp_path / name)
  with pytest.raises(ValueError, match=message):
    load(tmp_path)


@pytest.mark.parametrize(
  "text", ["", "8.0", "-1", "2.5", "nan", "inf", "happy", "1.0 2.0", "\x00"]
)
def test_a_label_out_of_range_is_refused_by_file(tmp_path, text):
  write_official(tmp_path)
  (path,) = tmp_path.glob("Emotion/S010/002/*.txt")
  path.write_text(text)
  with pytest.raises(ValueError, match=r"expected one of 0\.\.7, got") as caught:
    load(tmp_path)
  assert str(path) in str(caught.value)


def _rename(name):
  return lambda path: path.rename(path.with_name(name))


@pytest.mark.parametrize(
  ("file", "change", "error", "message"),
  [
    (
      "cohn-kanade-images/S005/001/S005_001_00000004.png",
      pathlib.Path.unlink,
      FileNotFoundError,
      r"S005_001_00000004.png is missing, the frame that .*_emotion.txt labels",
    ),
    (
      "cohn-kanade-images/S005/001",
      _rename("009"),
      FileNotFoundError,
      r"images/S005/001 is missing, but its label .*_emotion.txt exists",
    ),
    (
      "cohn-kanade-images/S005/001/S005_001_00000002.png",
      _rename("S005_002_00000002.png"),
      ValueError,
      r"S005_002_00000002.png: expected a frame S005_001_NUMBER.png",
    ),
    (
      "cohn-kanade-images/S005/001/S005_001_00000002.png",
      lambda path: path.write_bytes(path.read_bytes()[:50]),
      None,  # not a frame that is used
      "",
    ),
    (
      "cohn-kanade-images/S005/001/S005_001_00000003.png",
      lambda path: path.write_bytes(path.read_bytes()[:50]),
      ValueError,
      r"S005_001_00000003.png: cannot decode",
    ),
    (
      "Emotion/S005/001/S005_001_00000004_emotion.txt",
      _rename("S005_001_00000004.txt"),
      ValueError,
      r"S005_001_00000004.txt: expected a file \*_emotion.txt",
    ),
    (
      "Emotion/S005/001/S005_001_00000004_emotion.txt",
      lambda path: path.with_name("S005_001_00000003_emotion.txt").write_text("1"),
      ValueError,
      r"S005/001: expected one emotion file at most, got .*3_emotion.txt, S005",
    ),
  ],
)
def test_malformed_official_tree_is_refused_by_name(
  tmp_path, file, change, error, message
):
  write_official(tmp_path)
  change(tmp_path / file)
  if error is None:
    assert sum(len(dataset) for dataset in all_tests(tmp_path)) == 72
  else:
    with pytest.raises(error, match=message):
      all_tests(tmp_path)


def test_a_sequence_that_is_too_short_an_absent_class_and_no_label(tmp_path):
  write_official(tmp_path)
  for number in (1, 2):
    (tmp_path / f"cohn-kanade-images/{frame('S005', '001', number)}.png").unlink()
  with pytest.raises(ValueError, match=r"S005/001: expected 3 frames or more, got 2"):
    load(tmp_path)
  for path in tmp_path.glob("Emotion/*/*/*.txt"):
    if path.read_text().strip().startswith("4") or "S005_001" in path.name:
      path.unlink()
  with pytest.raises(ValueError, match="no image of class 'fear'"):
    load(tmp_path)
  for path in tmp_path.glob("Emotion/*/*/*.txt"):
    path.unlink()
  with pytest.raises(ValueError, match=r"no SUBJECT/SEQUENCE/.*unpack Emotion_labels"):
    load(tmp_path)


def test_litter_of_macos_is_ignored(tmp_path):
  write_official(tmp_path)
  for folder in ("Emotion", "Emotion/S005/001", "cohn-kanade-images/S005/001"):
    (tmp_path / folder / ".DS_Store").write_text("litter")
  assert sum(len(dataset) for dataset in all_tests(tmp_path)) == 72


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"split": "dev"}, r"split: expected one of .*got 'dev'"),
    ({"protocol": "random"}, r"protocol: expected one of .*leaky; got 'random'"),
    ({"crop": "face"}, r"crop: expected one of .*got 'face'"),
    ({"fold": 4}, r"fold: expected 0\.\.3, got 4"),
    ({"fold": -1}, r"fold: expected 0\.\.3, got -1"),
    ({"folds": 2}, r"folds: expected 3 or more"),
    ({"folds": 13}, r"folds: expected 2 to 12, .*got 13"),
    ({"channels": 4}, r"channels: expected 1 or 3, got 4"),
    ({"image_size": 0}, r"image_size: expected a positive side"),
  ],
)
def test_bad_options(official, options, message):
  with pytest.raises(ValueError, match=message):
    load(official, **options)


def test_ck48_by_other_names_one_folder_deeper_and_with_litter(tmp_path):
  write_ck48(tmp_path / "ck")
  expected = all_tests(tmp_path)
  for old, new in (("anger", "Angry"), ("contempt", "Contemptuous"), ("happy", "joy")):
    (tmp_path / "ck" / old).rename(tmp_path / "ck" / new)
  (tmp_path / "ck" / "joy" / "Thumbs.db").touch()
  (tmp_path / "ck" / "__MACOSX").mkdir()
  for dataset, other in zip(all_tests(tmp_path), expected, strict=True):
    assert sorted(dataset.labels) == sorted(other.labels)
  (tmp_path / "ck" / "anger").mkdir()
  with pytest.raises(ValueError, match="two folders of the class 'angry', Angry and"):
    load(tmp_path)


def test_the_crop_of_older_configs_is_read(official):
  np.testing.assert_array_equal(
    load(official, crop="centre").images, load(official, crop="center").images
  )
