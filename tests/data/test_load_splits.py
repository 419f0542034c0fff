"""Data sets by name, and the validation split held out of train."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from emosynth_jax import data
from emosynth_jax.config import defaults
from emosynth_jax.data import run_data


def write(root, splits, count=10):
  for split in splits:
    for name in ("no", "yes"):
      folder = root / split / name
      folder.mkdir(parents=True)
      for i in range(count):
        Image.fromarray(np.full((4, 4), i, np.uint8)).save(folder / f"{i}.png")


def load(root, splits, **arguments):
  arguments = {"validation_fraction": 0.2, "seed": 0, **arguments}
  options = {"image_size": 4, "channels": 1}
  return data.load_splits("image_folder", root, splits, **{**options, **arguments})


def test_validation_is_held_out_of_train_whichever_splits_are_asked(tmp_path):
  write(tmp_path, ["train", "test"])
  both = load(tmp_path, ("train", "validation", "test"))
  assert list(both) == ["train", "validation", "test"]
  assert [len(both[split]) for split in both] == [16, 4, 20]
  assert not set(both["train"].sources) & set(both["validation"].sources)
  for split in ("train", "validation", "test"):
    alone = load(tmp_path, (split,))
    assert list(alone) == [split]
    assert alone[split].sources == both[split].sources
    assert alone[split].split == split
  other = load(tmp_path, ("validation",), seed=1)
  assert other["validation"].sources != both["validation"].sources


def test_a_validation_split_of_its_own_is_used(tmp_path):
  write(tmp_path, ["train", "val"])
  loaded = load(tmp_path, ("train", "validation"))
  assert len(loaded["train"]) == len(loaded["validation"]) == 20
  assert loaded["validation"].sources[0].startswith("val/")


@pytest.mark.parametrize(
  ("options", "counts", "official"),
  [
    ({}, (28, 7, 14), ("Training", "PublicTest", "PrivateTest")),
    (
      {"protocol": "thesis_28709_7178"},
      (21, 7, 21),
      (
        "Training less the held-out part",
        "held out of Training",
        "PublicTest and PrivateTest",
      ),
    ),
  ],
)
def test_fer2013_is_validated_on_public_test_or_a_part_of_train(
  tmp_path, options, counts, official
):
  pixels = " ".join(["7"] * 48 * 48)
  rows = ["emotion,pixels,Usage"]
  for usage, count in (("Training", 4), ("PublicTest", 1), ("PrivateTest", 2)):
    rows += [f"{label},{pixels},{usage}" for label in range(7) for _ in range(count)]
  (tmp_path / "fer2013.csv").write_text("\n".join(rows))

  loaded = data.load_splits(
    "fer2013",
    tmp_path,
    ("train", "validation", "test"),
    validation_fraction=0.25,
    seed=0,
    **options,
  )
  assert tuple(map(len, loaded.values())) == counts
  assert tuple(part.official_split for part in loaded.values()) == official


def test_only_the_asked_splits_are_read(tmp_path):
  write(tmp_path, ["train", "test"])
  (tmp_path / "train" / "no" / "0.png").write_bytes(b"damaged")
  assert list(load(tmp_path, ("test",))) == ["test"]
  with pytest.raises(ValueError, match=r"0\.png"):
    load(tmp_path, ("validation",))


def test_nothing_held_out(tmp_path):
  write(tmp_path, ["train"])
  assert len(load(tmp_path, ("train",), validation_fraction=0)["train"]) == 20
  with pytest.raises(ValueError, match="image_folder has no validation split; valida"):
    load(tmp_path, ("train", "validation"), validation_fraction=0)


def test_limit_is_by_split_and_class(tmp_path):
  write(tmp_path, ["train", "test"])
  loaded = load(tmp_path, ("train", "validation", "test"), limit=6)
  assert [len(part) for part in loaded.values()] == [6, 4, 6]
  assert loaded["train"].class_counts.tolist() == [3, 3]
  # A report on a part must not read as one on the whole.
  assert loaded["test"].official_split == "6 of the 20 images of test"
  whole = load(tmp_path, ("train",))["train"]
  assert set(loaded["train"].sources) < set(whole.sources)


def test_unknown_names_and_options(tmp_path):
  arguments = {"validation_fraction": 0.1, "seed": 0}
  with pytest.raises(
    ValueError, match=r"unknown data set 'fer'.* Known: cifar10, ck_plus, fer2013"
  ):
    data.load_splits("fer", tmp_path, ("train",), **arguments)
  with pytest.raises(ValueError, match=r"mnist: unknown option size\. Known: none"):
    data.load_splits("mnist", tmp_path, ("train",), size=3, **arguments)
  with pytest.raises(
    ValueError,
    match=r"missing option channels \(--config\.data.*channels=.*Known: .*image",
  ):
    data.load_splits("image_folder", tmp_path, ("train",), image_size=4, **arguments)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"limit": -1}, "limit: expected 0"),
    ({"validation_fraction": 1.0}, r"validation_fraction: .*\[0, 1\), got 1.0"),
    ({"validation_fraction": -0.1}, "validation_fraction"),
    ({"splits": ("train", "dev")}, "split: expected one of .*got 'dev'"),
  ],
)
def test_bad_arguments(tmp_path, arguments, message):
  write(tmp_path, ["train"])
  with pytest.raises(ValueError, match=message):
    load(tmp_path, **{"splits": ("train",), **arguments})


def test_every_name_has_its_loader():
  for name, loader in data.LOADERS.items():
    assert loader.module == f"emosynth_jax.data.datasets.{name}"
  with pytest.raises(FileNotFoundError, match="FER-2013"):
    data.load_splits("fer2013", "nowhere", ["test"], validation_fraction=0, seed=0)


@pytest.mark.parametrize("name", ["mnist", "svhn"])
def test_digits_are_never_mirrored(tmp_path, name):
  config = defaults.get_default_config()
  config.data.name, config.data.data_dir = name, str(tmp_path)
  config.eval_augment = "flip"
  with pytest.raises(ValueError, match=f"expected \"none\" for {name}, got 'flip'"):
    run_data.load_data(config, ("test",))
  config.eval_augment = "none"
  with pytest.raises(FileNotFoundError):
    run_data.load_data(config, ("test",))


def test_synthetic_faces_take_the_seed_and_their_options():
  def load(seed):
    return data.load_splits(
      "synthetic_faces",
      "",
      ("train", "validation"),
      validation_fraction=0.1,
      seed=seed,
      num_examples=7,
    )

  first, again, other = load(0), load(0), load(1)
  assert len(first["train"]) == 7
  np.testing.assert_array_equal(first["train"].images, again["train"].images)
  assert (first["train"].images != other["train"].images).any()
  assert first["validation"].split == "validation"


def test_importing_the_package_imports_no_loader():
  program = (
    "import sys, emosynth_jax.data; "
    "heavy = {'tensorflow', 'tensorflow_datasets', 'cv2', 'PIL'} & set(sys.modules); "
    "assert not heavy, heavy"
  )
  root = pathlib.Path(__file__).parents[2]
  subprocess.run([sys.executable, "-c", program], check=True, cwd=root)


def test_real_mnist_through_the_dictionary(real_data):
  loaded = data.load_splits(
    "mnist",
    real_data / "tfds",
    ("train", "validation"),
    validation_fraction=0.1,
    seed=0,
  )
  # 60,000 training images in all (LeCun et al. 1998).
  assert len(loaded["train"]) + len(loaded["validation"]) == 60000
  assert abs(len(loaded["validation"]) - 6000) <= 5
