"""Reading of a data set that TFDS has prepared as array_record, without TensorFlow."""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import _counts
from emosynth_jax.data.images.lazy import LazyImages
from emosynth_jax.utils import errors

# TFDS's name of each data set.
NAMES = {"cifar10": "cifar10", "mnist": "mnist", "svhn": "svhn_cropped"}

# The files in which the authors publish each data set; they are read as they are.
ORIGINAL_FILES = {
  "cifar10": "cifar-10-batches-py/ or cifar-10-python.tar.gz",
  "mnist": "train-images-idx3-ubyte and the other three IDX files, gzipped or not",
  "svhn": "train_32x32.mat and test_32x32.mat",
}

_RECORDS_AT_A_TIME = 1 << 16

# Images, labels and sources.
Original = tuple[np.ndarray, np.ndarray, Sequence[str]]
Share = Callable[[int, Callable[[range], np.ndarray]], np.ndarray]


def read(
  name: str,
  data_dir: str | pathlib.Path,
  split: str,
  *,
  image_shape: tuple[int, int, int],
  class_names: Sequence[str],
  counts: Mapping[str, int],
  read_original: Callable[[pathlib.Path, str], Original | None],
  share: Share | None = None,
) -> Dataset:
  """Reads one split of images and labels, as TFDS has prepared it, or as published.

  TFDS hands out the raw records in one call and OpenCV decodes them: 60,000 MNIST
  images take 1 s, where TFDS's own decoding, one record a call, takes 6 s.

  Args:
    name: a key of `NAMES`.
    data_dir: the folder that TFDS calls `data_dir`; the data set lies in
      `data_dir/NAMES[name]/version`, and the newest version is read.
    split: a key of `counts`.
    image_shape: `(height, width, channels)` that every image must have.
    class_names: the names of the classes in label order.
    counts: how many images each split has; a different number is logged as a warning.
    read_original: reads the authors' files from `data_dir`, None where they are not;
      called where TFDS has prepared nothing.
    share: if given, each image of TFDS is read on access only, and the labels, for
      which all records are scanned once, by several processes a part each: `(number of
      records, function of a range of them to their labels) -> labels of all`.

  Returns:
    A `Dataset`, with a `share` of `LazyImages`; `sources` are `name/split[index]`,
    of the authors' files what `read_original` returns.

  Raises:
    FileNotFoundError: the data set isn't prepared there; the message says how to.
    ValueError: it has other splits, shapes or classes than expected, or is damaged.
  """
  errors.check_choice(f"{name}: split", split, counts)
  data_dir = pathlib.Path(data_dir)
  images: Any
  if not _versions(name, data_dir) and (found := read_original(data_dir, split)):
    _counts.warn_if_partial(
      f"{name}: {data_dir}", len(found[0]), f"{split} images", counts[split]
    )
    images, labels, names = found
    return Dataset(images, labels, tuple(class_names), split, tuple(names))
  folder = _newest_version(name, data_dir)
  source = _open(folder, split)
  _check_features(source.dataset_info.features, folder, image_shape, class_names)
  _counts.warn_if_partial(
    f"{name}: {folder}", len(source), f"{split} images", counts[split]
  )
  sources = tuple(f"{name}/{split}[{i}]" for i in range(len(source)))

  def read_rows(rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty((len(rows), *image_shape), np.uint8)
    labels = np.empty(len(rows), np.int32)
    for i, (row, feature) in enumerate(zip(rows, _features(source, rows), strict=True)):
      content = feature["image"].bytes_list.value[0]
      images[i] = _decode(content, image_shape, sources[row])
      labels[i] = feature["label"].int64_list.value[0]
    return images, labels

  def read_labels(rows: range) -> np.ndarray:
    labels = (f["label"].int64_list.value[0] for f in _features(source, rows))
    return np.fromiter(labels, np.int32, len(rows))

  if share is None:
    images, labels = read_rows(range(len(source)))
  else:
    images = LazyImages(
      lambda rows: read_rows(rows.tolist())[0], (len(source), *image_shape)
    )
    labels = share(len(source), read_labels)
  return Dataset(images, labels, tuple(class_names), split, sources)


def _features(source, rows: Sequence[int]):
  """The features of some records, which TFDS hands out in one call."""
  # Imported here: tensorflow_datasets takes 0.4 s, which other data sets do not need.
  from tensorflow_datasets.proto import tf_example_pb2

  # Limits the memory used at a time.
  for start in range(0, len(rows), _RECORDS_AT_A_TIME):
    try:
      records = source.__getitems__(rows[start : start + _RECORDS_AT_A_TIME])
    except Exception as error:  # array_record raises its C++ status unchanged.
      info = source.dataset_info
      raise ValueError(
        f"{info.data_dir}: damaged: cannot read split {source.split!r} ({error}); "
        "delete this folder and prepare the data set again"
      ) from error
    for record in records:
      yield tf_example_pb2.Example.FromString(record).features.feature


def _versions(name: str, data_dir: pathlib.Path) -> list[pathlib.Path]:
  # A preparation that was cut short leaves a folder like 3.0.1.incompleteABCDEF.
  return [
    path.parent
    for path in (data_dir / NAMES[name]).glob("*/dataset_info.json")
    if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
  ]


def _newest_version(name: str, data_dir: pathlib.Path) -> pathlib.Path:
  versions = _versions(name, data_dir)
  if not versions:
    raise FileNotFoundError(
      f"no data set {NAMES[name]!r} prepared in {data_dir} (looked for "
      f"{NAMES[name]}/<version>/dataset_info.json), and none of its original files: "
      f"{ORIGINAL_FILES[name]}. Put those there, or prepare it once, with the extra "
      f"'tfds' (TensorFlow) installed: python -m emosynth_jax.data.prepare {name} "
      f"--data_dir={data_dir}"
    )

  return max(versions, key=lambda path: [int(part) for part in path.name.split(".")])


def _open(folder: pathlib.Path, split: str):
  """The data source of a split's raw records."""
  import tensorflow_datasets as tfds

  try:
    builder = tfds.builder_from_directory(folder)
    file_format = builder.info.file_format.value
  except Exception as error:  # Each damaged file of the folder has its own type.
    raise ValueError(
      f"{folder}: damaged: cannot read dataset_info.json or features.json ({error}); "
      "delete this folder and prepare the data set again"
    ) from error

  if file_format != "array_record":
    raise ValueError(
      f"{folder}: prepared as {file_format}, a format that only TensorFlow reads; "
      "delete this folder and prepare the data set with emosynth_jax.data.prepare"
    )
  if split not in builder.info.splits:
    raise ValueError(
      f"{folder}: no split {split!r}; it has {list(builder.info.splits)}"
    )

  return builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )


def _check_features(
  features,
  folder: pathlib.Path,
  image_shape: tuple[int, int, int],
  class_names: Sequence[str],
) -> None:
  if not {"image", "label"} <= set(features):
    raise ValueError(
      f"{folder}: expected the features image and label, got {sorted(features)}"
    )
  if features["image"].shape != image_shape:
    raise ValueError(
      f"{folder}: images: expected shape {image_shape}, got {features['image'].shape}"
    )
  if features["label"].num_classes != len(class_names):
    raise ValueError(
      f"{folder}: labels: expected {len(class_names)} classes, got "
      f"{features['label'].num_classes}"
    )


def _decode(content: bytes, shape: tuple[int, int, int], source: str) -> np.ndarray:
  # Records carry checksums, so OpenCV's laxity about damaged files does no harm here.
  flag = cv2.IMREAD_GRAYSCALE if shape[2] == 1 else cv2.IMREAD_COLOR_RGB
  image = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
  if image is None:
    raise ValueError(f"{source}: cannot decode this image")
  image = image.reshape(*image.shape[:2], shape[2])
  if image.shape != shape:
    raise ValueError(f"{source}: expected an image of shape {shape}, got {image.shape}")
  return image
