"""MNIST, CIFAR-10 and SVHN as TFDS prepares them, read without TensorFlow."""

import json
import logging
import os
import pathlib
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest
from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_pb2

from emosynth_jax.data import prepare
from emosynth_jax.data.datasets import cifar10, mnist, svhn

ROWS = 12
MODULES = {"mnist": mnist, "cifar10": cifar10, "svhn": svhn}
FOLDERS = {
  "mnist": "mnist/3.0.1",
  "cifar10": "cifar10/3.0.2",
  "svhn": "svhn_cropped/3.1.0",
}
SHAPES = {"mnist": (28, 28, 1), "cifar10": (32, 32, 3), "svhn": (32, 32, 3)}


def pixels(name: str, split: str) -> np.ndarray:
  rng = np.random.default_rng([len(name), len(split)])
  return rng.integers(0, 256, (ROWS, *SHAPES[name]), np.uint8)


def write(
  data_dir: pathlib.Path,
  name: str,
  splits: tuple[str, ...] = ("train", "test"),
  file_format: str = "array_record",
  classes: int = 10,
) -> pathlib.Path:
  """Writes a data set in the form in which TFDS leaves it."""
  folder = data_dir / FOLDERS[name]
  folder.mkdir(parents=True)
  dataset, version = FOLDERS[name].split("/")
  split_infos = []
  for split in splits:
    path = folder / f"{dataset}-{split}.array_record-00000-of-00001"
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for i, image in enumerate(pixels(name, split)):
      example = tf_example_pb2.Example()
      feature = example.features.feature
      encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()  # RGB to BGR
      feature["image"].bytes_list.value.append(encoded)
      feature["label"].int64_list.value.append(i % 10)
      writer.write(example.SerializeToString())
    writer.close()
    split_infos.append(
      {
        "name": split,
        "shardLengths": [str(ROWS)],
        "numBytes": str(path.stat().st_size),
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
      }
    )
  info = {"name": dataset, "version": version, "fileFormat": file_format}
  (folder / "dataset_info.json").write_text(json.dumps({**info, "splits": split_infos}))
  prefix = "tensorflow_datasets.core.features."
  dimensions = [str(size) for size in SHAPES[name]]
  features = {
    "image": {
      "pythonClassName": f"{prefix}image_feature.Image",
      "image": {"shape": {"dimensions": dimensions}, "dtype": "uint8"},
    },
    "label": {
      "pythonClassName": f"{prefix}class_label_feature.ClassLabel",
      "classLabel": {"numClasses": str(classes)},
    },
  }
  (folder / "features.json").write_text(
    json.dumps(
      {
        "pythonClassName": f"{prefix}features_dict.FeaturesDict",
        "featuresDict": {"features": features},
      }
    )
  )
  return folder


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", MODULES)
def test_images_and_labels_come_as_they_were_written(tmp_path, name, split):
  write(tmp_path, name)
  dataset = MODULES[name].load(tmp_path, split)
  images = dataset.images
  if name == "mnist":
    assert images.shape == (ROWS, 32, 32, 1)
    assert images.sum() == images[:, 2:30, 2:30].sum()  # the padding is zero
    images = images[:, 2:30, 2:30]
  np.testing.assert_array_equal(images, pixels(name, split))
  np.testing.assert_array_equal(dataset.labels, np.arange(ROWS) % 10)
  assert dataset.split == split
  assert dataset.sources[3] == f"{name}/{split}[3]"
  assert len(dataset.class_names) == 10


def test_svhn_has_its_extra_split(tmp_path):
  write(tmp_path, "svhn", splits=("train", "test", "extra"))
  np.testing.assert_array_equal(
    svhn.load(tmp_path, "extra").images, pixels("svhn", "extra")
  )


@pytest.mark.parametrize("name", MODULES)
def test_missing_data_set_names_the_command_that_prepares_it(tmp_path, name):
  command = f"emosynth_jax.data.prepare {name} --data_dir={tmp_path}"
  with pytest.raises(FileNotFoundError, match=command):
    MODULES[name].load(tmp_path, "train")


def test_preparation_that_was_cut_short_is_no_data_set(tmp_path):
  folder = write(tmp_path, "mnist")
  folder.rename(folder.with_name("3.0.1.incompleteABCDEF"))
  with pytest.raises(FileNotFoundError, match="no data set 'mnist' prepared"):
    mnist.load(tmp_path, "train")


def test_the_newest_version_is_read(tmp_path):
  old = write(tmp_path, "mnist")
  old.rename(old.with_name("3.0.9"))
  info = old.with_name("3.0.9") / "dataset_info.json"
  info.write_text(info.read_text().replace("3.0.1", "3.0.9"))
  new = write(tmp_path, "mnist", splits=("test",))
  new.rename(new.with_name("3.0.10"))
  info = new.with_name("3.0.10") / "dataset_info.json"
  info.write_text(info.read_text().replace("3.0.1", "3.0.10"))
  with pytest.raises(ValueError, match=r"3\.0\.10: no split 'train'"):
    mnist.load(tmp_path, "train")


@pytest.mark.parametrize("name", MODULES)
def test_unknown_split(tmp_path, name):
  with pytest.raises(ValueError, match=rf"{name}: split: .*train.*got 'validation'"):
    MODULES[name].load(tmp_path, "validation")


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (
      lambda folder: os.truncate(
        folder / "mnist-train.array_record-00000-of-00001", 70000
      ),
      "damaged: cannot read split 'train'",
    ),
    (
      lambda folder: (folder / "mnist-train.array_record-00000-of-00001").unlink(),
      "damaged: cannot read split 'train'",
    ),
    (
      lambda folder: (folder / "dataset_info.json").write_text("{"),
      r"damaged: cannot read dataset_info.json",
    ),
    (lambda folder: (folder / "features.json").unlink(), "damaged: .*features.json"),
  ],
)
def test_damaged_data_set_is_refused_by_folder(tmp_path, damage, message):
  folder = write(tmp_path, "mnist")
  damage(folder)
  with pytest.raises(ValueError, match=message) as caught:
    mnist.load(tmp_path, "train")
  assert str(folder) in str(caught.value)


def test_data_set_prepared_for_tensorflow(tmp_path):
  write(tmp_path, "mnist", file_format="tfrecord")
  with pytest.raises(ValueError, match=r"prepared as tfrecord.*emosynth_jax.data.prep"):
    mnist.load(tmp_path, "train")


def test_other_shape_or_classes_than_the_data_set_has(tmp_path, monkeypatch):
  write(tmp_path, "mnist", classes=11)
  with pytest.raises(ValueError, match="labels: expected 10 classes, got 11"):
    mnist.load(tmp_path, "train")
  monkeypatch.setitem(SHAPES, "svhn", (28, 28, 3))
  write(tmp_path, "svhn")
  with pytest.raises(ValueError, match=r"expected shape \(32, 32, 3\), got \(28, 28"):
    svhn.load(tmp_path, "train")


def test_an_unusual_count_is_only_warned_of(tmp_path, caplog):
  write(tmp_path, "cifar10")
  with caplog.at_level(logging.WARNING):
    cifar10.load(tmp_path, "test")
  assert "has 12 test images; the whole data set has 10,000" in caplog.text


def test_reading_imports_no_tensorflow(tmp_path):
  write(tmp_path, "mnist")
  program = (
    "import sys; from emosynth_jax.data.datasets import mnist; "
    f"assert len(mnist.load({str(tmp_path)!r}, 'test')) == {ROWS}; "
    "sys.exit('tensorflow' in sys.modules)"
  )
  root = pathlib.Path(__file__).parents[3]
  subprocess.run([sys.executable, "-c", program], check=True, cwd=root)


def run_command(monkeypatch, *arguments: str, data_dir: str = "") -> None:
  """Runs the command without absl's parsing, which tests/utils/test_cli.py tests."""
  given = types.SimpleNamespace(data_dir=data_dir, traceback=False)
  monkeypatch.setattr(prepare, "flags", types.SimpleNamespace(FLAGS=given))
  prepare.main(["prepare", *arguments])


def test_preparing_needs_tensorflow_and_says_so(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, "tensorflow", None)  # makes its import fail
  with pytest.raises(ModuleNotFoundError, match=r"pip install -e '.\[tfds\]'"):
    prepare.prepare("mnist", str(tmp_path))
  with pytest.raises(SystemExit) as ended:
    run_command(monkeypatch, "svhn", data_dir=str(tmp_path))
  assert ended.value.code == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: ")
  assert "'.[tfds]'" in line


@pytest.mark.parametrize("arguments", [(), ("mnist", "svhn")])
def test_preparing_takes_one_data_set(monkeypatch, capsys, arguments):
  with pytest.raises(SystemExit) as ended:
    run_command(monkeypatch, *arguments)
  assert ended.value.code == 1
  assert capsys.readouterr().err.startswith("error: expected one data set, as in mnist")


def test_preparing_asks_tfds_for_array_record(tmp_path, monkeypatch):
  import tensorflow_datasets as tfds

  calls = []

  class Builder:
    def __init__(self, name, data_dir):
      calls.append((name, data_dir))

    def download_and_prepare(self, **arguments):
      calls.append(arguments)

  monkeypatch.setitem(sys.modules, "tensorflow", object())
  monkeypatch.setattr(tfds, "builder", Builder)
  run_command(monkeypatch, "svhn", data_dir=str(tmp_path))
  assert calls == [("svhn_cropped", str(tmp_path)), {"file_format": "array_record"}]


def test_preparing_an_unknown_data_set(tmp_path):
  with pytest.raises(ValueError, match=r"expected one of .*, svhn; got 'cifar100'"):
    prepare.prepare("cifar100", str(tmp_path))


def test_real_mnist(real_data):
  # The sizes of the classes in LeCun's t10k labels.
  dataset = mnist.load(real_data / "tfds", "test")
  assert dataset.images.shape == (10000, 32, 32, 1)
  assert dataset.class_counts.tolist() == [
    *(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
  ]


def test_real_cifar10(real_data):
  # Krizhevsky 2009: 1,000 test images of each class.
  dataset = cifar10.load(real_data / "tfds", "test")
  assert dataset.images.shape == (10000, 32, 32, 3)
  assert dataset.class_counts.tolist() == [1000] * 10
  # RGB, not BGR: the published channel means of the training images are 125.3, 123.0
  # and 113.9 (DeVries and Taylor 2017), red largest and blue smallest.
  means = dataset.images.mean((0, 1, 2))
  np.testing.assert_allclose(means, [125.3, 123.0, 113.9], atol=2.0)
