"""Reading of a data set that TFDS has prepared as array_record, without TensorFlow."""

import pathlib
from collections.abc import Sequence

import cv2
import numpy as np

from emosynth_jax.data.dataset import Dataset


def read(
  name: str,
  data_dir: str | pathlib.Path,
  split: str,
  *,
  command_name: str,
  image_shape: tuple[int, int, int],
  class_names: Sequence[str],
) -> Dataset:
  """Reads one split of a prepared TFDS data set of images and labels.

  TFDS hands out the raw records in one call and OpenCV decodes them: 60,000 MNIST
  images take 1 s, where TFDS's own decoding, one record a call, takes 6 s.

  Args:
    name: the name that TFDS gives the data set.
    data_dir: the folder that TFDS calls `data_dir`; the data set lies in
      `data_dir/name/version`.
    split: a split of the data set.
    command_name: the name by which `emosynth_jax.data.prepare` knows the data set.
    image_shape: `(height, width, channels)` that every image must have.
    class_names: the names of the classes in label order.

  Returns:
    A `Dataset`; `sources` are `name/split[index]`.

  Raises:
    FileNotFoundError: the data set isn't prepared there; the message says how to.
    ValueError: it has other splits, shapes or classes than expected, or is damaged.
  """
  # Importing tensorflow_datasets costs .4 s, which reading other data sets is spared.
  import tensorflow_datasets as tfds
  from tensorflow_datasets.proto import tf_example_pb2

  version = _version_folder(name, pathlib.Path(data_dir), command_name)
  source = _open(tfds, version, split)
  _check_features(source.dataset_info.features, version, image_shape, class_names)

  try:
    records = source.__getitems__(range(len(source)))
  except Exception as error:  # array_record raises its C++ status as it comes.
    raise ValueError(
      f"{version}: cannot read the records of split {split!r} ({error}); delete the "
      "folder and prepare the data set again"
    ) from error

  sources = tuple(f"{name}/{split}[{i}]" for i in range(len(records)))
  images = np.empty((len(records), *image_shape), np.uint8)
  labels = np.empty(len(records), np.int32)
  for i, record in enumerate(records):
    feature = tf_example_pb2.Example.FromString(record).features.feature
    images[i] = _decode(feature["image"].bytes_list.value[0], image_shape, sources[i])
    labels[i] = feature["label"].int64_list.value[0]
  return Dataset(images, labels, tuple(class_names), split, sources)


def _version_folder(
  name: str, data_dir: pathlib.Path, command_name: str
) -> pathlib.Path:
  """The newest prepared version of the data set."""
  versions = [path.parent for path in (data_dir / name).glob("*/dataset_info.json")]
  if not versions:
    raise FileNotFoundError(
      f"no data set {name!r} prepared in {data_dir} (looked for "
      f"{name}/<version>/dataset_info.json). Prepare it once, with the extra 'tfds' "
      "installed (it brings TensorFlow): python -m emosynth_jax.data.prepare "
      f"{command_name} --data_dir={data_dir}"
    )
  return max(versions, key=lambda path: _version_key(path.name))


def _version_key(version: str) -> list[int]:
  return [int(part) if part.isdecimal() else -1 for part in version.split(".")]


def _open(tfds, version: pathlib.Path, split: str):
  """The data source of raw records."""
  builder = tfds.builder_from_directory(version)
  if split not in builder.info.splits:
    raise ValueError(
      f"{version}: split: expected one of {list(builder.info.splits)}, got {split!r}"
    )
  return builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )


def _check_features(features, version, image_shape, class_names) -> None:
  for key in ("image", "label"):
    if key not in features:
      raise ValueError(
        f"{version}: expected the features image and label, got {list(features)}"
      )
  if features["image"].shape != image_shape:
    raise ValueError(
      f"{version}: images: expected shape {image_shape}, got {features['image'].shape}"
    )
  if features["label"].num_classes != len(class_names):
    raise ValueError(
      f"{version}: labels: expected {len(class_names)} classes, got "
      f"{features['label'].num_classes}"
    )


def _decode(content: bytes, shape: tuple[int, int, int], source: str) -> np.ndarray:
  flag = cv2.IMREAD_GRAYSCALE if shape[2] == 1 else cv2.IMREAD_COLOR_RGB
  image = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
  if image is None:
    raise ValueError(f"{source}: cannot decode this image")
  image = image.reshape(*image.shape[:2], shape[2])
  if image.shape != shape:
    raise ValueError(f"{source}: expected shape {shape}, got {image.shape}")
  return image
