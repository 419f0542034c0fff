"""Training and evaluation leave out exactly the images that are shown elsewhere."""

import numpy as np
import pytest

from emosynth_jax.config import defaults
from emosynth_jax.data import deduplicate, duplicates, run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.datasets import synthetic_faces


def _dataset(split, images, labels=None):
  images = np.asarray(images)
  return Dataset(
    images=images,
    labels=np.zeros(len(images), np.int32) if labels is None else labels,
    class_names=("a", "b"),
    split=split,
    sources=tuple(f"{split} {i}" for i in range(len(images))),
  )


@pytest.fixture(scope="module")
def originals():
  return np.random.default_rng(0).integers(0, 256, (12, 24, 24, 1), np.uint8)


@pytest.fixture(scope="module")
def splits(originals):
  """Train 0..5; validation has train's 1; test has train's 2, 3 and validation's 7."""
  return {
    "train": _dataset("train", originals[:6]),
    "validation": _dataset("validation", originals[[6, 1, 7]]),
    "test": _dataset(
      "test", [originals[2], originals[8], originals[3][:, ::-1], originals[7]]
    ),
  }


def test_groups_join_the_same_images_of_all_splits(splits):
  train, validation, test = deduplicate.duplicate_groups(list(splits.values()))
  assert (len(train), len(validation), len(test)) == (6, 3, 4)
  assert len(set(train)) == 6
  np.testing.assert_array_equal(np.isin(validation, train), [False, True, False])
  # The third one is mirrored.
  np.testing.assert_array_equal(np.isin(test, train), [True, False, True, False])
  assert test[3] == validation[2]


def test_training_leaves_out_what_validation_and_test_show(splits):
  train, *others = splits.values()
  rest = deduplicate.drop_duplicates(train, others)
  assert rest.sources == ("train 0", "train 4", "train 5")
  assert rest.split == "train"
  np.testing.assert_array_equal(rest.images, train.images[[0, 4, 5]])
  # Without the test split, its near-duplicates stay.
  assert len(deduplicate.drop_duplicates(train, others[:1])) == 5


def test_nothing_left_to_train_on_is_an_error(originals):
  train, test = _dataset("train", originals[:2]), _dataset("test", originals[:4])
  with pytest.raises(ValueError, match="drop_duplicates leaves no training image"):
    deduplicate.drop_duplicates(train, [test])


def test_evaluation_leaves_out_what_was_trained_or_chosen_on(splits):
  train, validation, test = splits.values()
  summaries = deduplicate.evaluate_deduplicated(
    lambda dataset: {"sources": dataset.sources},
    train,
    {"validation": validation, "test": test},
  )
  assert summaries == {
    "validation": {"num_left_out": 1, "sources": ("validation 0", "validation 2")},
    "test": {"num_left_out": 3, "sources": ("test 1",)},
  }


def test_a_split_of_duplicates_alone_has_no_figures(splits, originals):
  summaries = deduplicate.evaluate_deduplicated(
    lambda dataset: pytest.fail("nothing to evaluate"),
    splits["train"],
    {"validation": _dataset("validation", originals[:2])},
  )
  assert summaries == {"validation": None}


@pytest.fixture
def config(tmp_path, monkeypatch):
  """A config of synthetic faces whose test split has two of the training faces."""
  load = synthetic_faces.load

  def leaky(data_dir, split, *, seed=0, num_examples=None):
    dataset = load(data_dir, split, seed=seed, num_examples=num_examples)
    if split == "test":
      dataset.images[:2] = load(data_dir, "train", num_examples=14).images[[3, 9]]
    return dataset

  monkeypatch.setattr(synthetic_faces, "load", leaky)
  config = defaults.get_default_config()
  config.data.options.num_examples = 14
  return config


def test_data_are_deduplicated_where_the_config_says_so(config):
  wanted = ("train", "validation", "test")
  assert len(run_data.load_data(config, wanted)["train"]) == 14
  config.data.drop_duplicates = True
  loaded = run_data.load_data(config, wanted)
  assert [len(loaded[split]) for split in wanted] == [12, 14, 14]
  gone = {"train 3 of seed 0", "train 9 of seed 0"}
  assert not gone & set(loaded["train"].sources)
  # The training split is the same, whichever splits are asked for beside it.
  alone = run_data.load_data(config, ("train",))
  assert list(alone) == ["train"]
  assert alone["train"].sources == loaded["train"].sources
  assert len(run_data.load_data(config, ("validation",))["validation"]) == 14
  # A run that reports no test split has none whose near-duplicates to drop.
  config.data.test_split = ""
  assert len(run_data.load_data(config, ("train",))["train"]) == 14


def test_the_configs_thresholds_are_those_chosen_on_faces_and_reach_the_search(config):
  assert config.data.near_duplicates.to_dict() == {
    "max_distance": duplicates.MAX_DISTANCE,
    "min_correlation": duplicates.MIN_CORRELATION,
  }
  config.data.drop_duplicates = True
  config.data.near_duplicates.min_correlation = 2.0
  with pytest.raises(ValueError, match=r"min_correlation: .* got 2.0"):
    run_data.load_data(config, ("train",))
