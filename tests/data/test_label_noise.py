"""Label noise: exact counts, training labels alone, the same for the same seed."""

import numpy as np
import pytest

from emosynth_jax.config import defaults
from emosynth_jax.data import fingerprints, run_data
from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.data.label_noise import add_label_noise, describe, transition_matrix

_NAMES = ("a", "b", "c", "d")
_COUNTS = (100, 40, 10, 3)


@pytest.fixture(scope="module")
def dataset():
  labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), _COUNTS))
  return from_arrays(np.zeros((len(labels), 2, 2), np.uint8), labels, _NAMES)


def _confusion(noisy):
  """Clean against noisy labels, counts `(K, K)`."""
  table = np.zeros((4, 4), int)
  np.add.at(table, (noisy.clean_labels, noisy.labels), 1)
  return table


def test_symmetric_noise_changes_exactly_its_share_of_each_class(dataset):
  matrix = transition_matrix(_NAMES, rate=0.3)
  noisy = add_label_noise(dataset, matrix, seed=5)
  table = _confusion(noisy)
  # 30, 12, 3 and 0.9, rounded, leave; the others share them to within one.
  assert (table.sum(axis=1) - table.diagonal()).tolist() == [30, 12, 3, 1]
  assert table[0].tolist() == [70, 10, 10, 10]
  assert table[1].tolist() == [4, 28, 4, 4]
  assert sorted(table[3]) == [0, 0, 1, 2]
  np.testing.assert_array_equal(noisy.clean_labels, dataset.labels)
  assert noisy.images is dataset.images


def test_a_confusion_changes_the_classes_that_it_names_alone(dataset):
  matrix = transition_matrix(_NAMES, confusion=["a:b:0.07", "a:c:0.5", "b:a:1"])
  np.testing.assert_allclose(matrix[0], [0.43, 0.07, 0.5, 0])
  table = _confusion(add_label_noise(dataset, matrix, seed=0))
  assert table.tolist() == [[43, 7, 50, 0], [40, 0, 0, 0], [0, 0, 10, 0], [0, 0, 0, 3]]


def test_the_seed_alone_draws_the_images(dataset):
  matrix = transition_matrix(_NAMES, rate=0.3)
  first, again, other = (
    add_label_noise(dataset, matrix, seed).labels for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()
  # NumPy never changes PCG64's raw bits: the lowest of a class are drawn, everywhere.
  members = np.flatnonzero(dataset.labels == 0)
  keys = np.random.PCG64(0).random_raw(len(dataset))[members]
  drawn = members[np.argsort(keys)[:30]]
  changed = np.flatnonzero((first != dataset.labels) & (dataset.labels == 0))
  np.testing.assert_array_equal(changed, np.sort(drawn))


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"rate": 0.1, "confusion": ["a:b:0.1"]}, "got both"),
    ({"rate": 1.0}, "expected at least 0 and less than 1, got 1"),
    ({"confusion": ["a:b"]}, "expected FROM:TO:SHARE .* got 'a:b'"),
    ({"confusion": ["a:x:0.1"]}, "no class 'x'; there are a, b, c, d"),
    ({"confusion": ["a:a:0.1"]}, "expected two classes and a share"),
    ({"confusion": ["a:b:0.1", "a:b:0.2"]}, "'a:b:0.2' is there twice"),
    ({"confusion": ["a:b:0.6", "a:c:0.5"]}, "shares of 'a' sum to 1.1"),
  ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    transition_matrix(_NAMES, **settings)


def test_a_run_gets_noise_in_its_training_labels_alone():
  config = defaults.get_default_config()
  config.data.options.num_examples = 42
  splits = run_data.splits(config)
  clean = run_data.load_data(config, splits)
  config.data.label_noise.rate = 0.25
  defaults.check_config(config)
  noisy = run_data.load_data(config, splits)

  changed = int((clean["train"].labels != noisy["train"].labels).sum())
  expected = int(np.rint(0.25 * clean["train"].class_counts).sum())
  assert changed == expected > 0
  for name in ("validation", "test"):
    np.testing.assert_array_equal(clean[name].labels, noisy[name].labels)
    assert noisy[name].clean_labels is None
  found = run_data.fingerprint(noisy)
  assert found["train"]["labels_changed"] == changed
  assert fingerprints.different_data(
    found["train"], run_data.fingerprint(clean)["train"]
  ) == ["labels_crc32"]


def test_a_report_names_the_noise():
  text = describe(rate=0.2, confusion=(), seed=3, changed=5742, total=28709)
  assert text == (
    "training only, symmetric, 20 %, seed 3: 5,742 of 28,709 labels changed"
  )
  assert describe(rate=0.0, confusion=(), seed=3, changed=None, total=0) == ""
