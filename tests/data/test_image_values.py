"""Files of class probabilities and folds, matched to images by name."""

import numpy as np
import pytest

from emosynth_jax.config import defaults
from emosynth_jax.data import image_values, run_data
from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.utils import npz

_ROWS = 12


@pytest.fixture
def dataset():
  images = np.arange(_ROWS * 4, dtype=np.uint8).reshape(_ROWS, 2, 2)
  return from_arrays(images, np.arange(_ROWS) % 3, ("a", "b", "c"))


@pytest.fixture
def path(dataset, tmp_path):
  soft = np.random.default_rng(0).dirichlet(np.ones(3), _ROWS)
  folds = np.arange(_ROWS) // 4
  file = tmp_path / "values.npz"
  image_values.write_values(file, dataset, {"soft_labels": soft, "folds": folds})
  return file


def test_rows_are_found_by_name_whatever_their_order(dataset, path):
  soft = npz.read_npz(path)["soft_labels"].astype(np.float32)
  rows = np.array([7, 2, 11])
  found = image_values.with_soft_labels(dataset.take(rows), path)
  np.testing.assert_array_equal(found.soft_labels, soft[rows])
  np.testing.assert_array_equal(found.targets, soft[rows])
  np.testing.assert_array_equal(found.labels, dataset.labels[rows])


def test_each_fold_leaves_out_its_images(dataset, path):
  left = []
  for fold in range(3):
    kept = image_values.without_fold(dataset, path, fold).sources
    left += [source for source in dataset.sources if source not in kept]
    assert len(kept) == 8
  assert sorted(left) == sorted(dataset.sources)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"sources": np.array(["x"] * _ROWS)}, "lacks 12 of the 12 .* train.0."),
    (
      {"labels": np.zeros(_ROWS, np.int32)},
      "another label for 8 of the 12 .* train.1.",
    ),
    ({"class_names": np.array(["a", "b", "z"])}, "of the classes a, b, z"),
    ({"soft_labels": np.ones((_ROWS, 3))}, "that sum to 1"),
    ({"soft_labels": np.full((_ROWS, 3), np.nan)}, "that sum to 1"),
    ({"soft_labels": np.ones((_ROWS, 1))}, r"of shape \(12, 3\), got \(12, 1\)"),
    ({"soft_labels": np.ones((3, 3)) / 3}, "different lengths"),
  ],
)
def test_a_file_of_other_images_is_refused(dataset, path, change, message):
  npz.write_npz(path, npz.read_npz(path) | change)
  with pytest.raises(ValueError, match=rf"config\.data\.soft_labels: .*{message}"):
    image_values.with_soft_labels(dataset, path)


def test_what_is_missing_is_named(dataset, path, tmp_path):
  with pytest.raises(FileNotFoundError, match="soft_labels: no file"):
    image_values.with_soft_labels(dataset, tmp_path / "none.npz")
  with pytest.raises(ValueError, match=r"left_out: expected one of \[0, 1, 2\].*got 3"):
    image_values.without_fold(dataset, path, 3)
  npz.write_npz(path, {"soft_labels": np.ones(1)})
  with pytest.raises(ValueError, match="has no sources, labels, class_names; expected"):
    image_values.with_soft_labels(dataset, path)


def test_training_alone_learns_them(tmp_path):
  config = defaults.get_default_config()
  config.data.options.num_examples = 60
  before = run_data.load_data(config, ("train", "validation"))
  train = before["train"]
  uniform = np.full((len(train), len(train.class_names)), 1 / len(train.class_names))
  file = tmp_path / "values.npz"
  image_values.write_values(
    file, train, {"soft_labels": uniform, "folds": np.arange(len(train)) % 2}
  )
  config.data.soft_labels = str(file)
  config.data.folds.update({"file": str(file), "left_out": 1})
  after = run_data.load_data(config, ("train", "validation"))

  assert after["train"].sources == train.sources[::2]
  np.testing.assert_allclose(after["train"].targets, uniform[::2], rtol=1e-6)
  assert after["validation"].soft_labels is None
  assert after["validation"].sources == before["validation"].sources
