"""Properties of held-out parts and subsets."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from emosynth_jax.data.dataset import Dataset, hold_out, subset


def make(labels, classes=None) -> Dataset:
  labels = np.asarray(labels, np.int32)
  count = len(labels)
  classes = classes or int(labels.max()) + 1
  return Dataset(
    images=np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1),
    labels=labels,
    class_names=tuple(f"class {k}" for k in range(classes)),
    split="train",
    sources=tuple(f"row {i}" for i in range(count)),
  )


LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=120)
SEEDS = st.integers(0, 2**32)


def rows(dataset: Dataset) -> list[int]:
  """The rows of the whole that a part holds; its three arrays must agree on them."""
  numbers = [int(source.removeprefix("row ")) for source in dataset.sources]
  np.testing.assert_array_equal(dataset.images.ravel(), numbers)
  return numbers


@hypothesis.given(labels=LABELS, fraction=st.floats(0.01, 0.99), seed=SEEDS)
def test_hold_out_partitions_each_class_in_proportion(labels, fraction, seed):
  counts = np.bincount(labels, minlength=5)
  hypothesis.assume(counts.max() > 1)
  whole = make(labels, classes=5)
  train, validation = hold_out(whole, fraction, seed)

  assert sorted(rows(train) + rows(validation)) == list(range(len(labels)))
  for part, name in ((train, "train"), (validation, "validation")):
    assert part.split == name
    assert rows(part) == sorted(rows(part))
    np.testing.assert_array_equal(part.labels, whole.labels[rows(part)])
  for held, count in zip(validation.class_counts, counts, strict=True):
    assert abs(held - fraction * count) <= 1
    if count > 1:
      assert 1 <= held <= count - 1
    else:
      assert held == 0


@hypothesis.given(labels=LABELS, limit=st.integers(1, 120), seed=SEEDS)
def test_subset_has_each_class_in_proportion(labels, limit, seed):
  whole = make(labels, classes=5)
  part = subset(whole, limit, seed)
  assert len(part) == min(limit, len(labels))
  assert rows(part) == sorted(set(rows(part)))
  np.testing.assert_array_equal(part.labels, whole.labels[rows(part)])
  shares = len(part) * whole.class_counts / len(whole)
  present = whole.class_counts > 0
  # A class with a share below one image may lose all; it keeps one.
  if limit >= present.sum():
    assert (part.class_counts[present] >= 1).all()
  if (shares[present] >= 1).all():
    assert (np.abs(part.class_counts - shares) < 1).all()


@pytest.mark.parametrize(
  ("counts", "limit", "expected", "said"),
  [
    # Every class has a share of an image, and gets what Hamilton's method gives it.
    ((300, 60, 30), 13, (10, 2, 1), "13 of the 390 images of train"),
    ((300, 3, 3), 10, (8, 1, 1), "at least one of each class"),
    ((300, 0, 3), 4, (3, 0, 1), "at least one of each class"),
    ((300, 2, 3), 2, (2, 0, 0), "none of class 1, class 2"),
  ],
)
def test_a_small_subset_keeps_rare_classes(counts, limit, expected, said):
  part = subset(make(np.repeat([0, 1, 2], counts), classes=3), limit, 0)
  assert tuple(part.class_counts) == expected
  assert part.official_split.endswith(said)


def test_the_seed_alone_decides():
  whole = make(np.arange(200) % 4)
  first = [rows(part) for part in hold_out(whole, 0.25, seed=3)]
  again = [rows(part) for part in hold_out(whole, 0.25, seed=3)]
  other = [rows(part) for part in hold_out(whole, 0.25, seed=4)]
  assert first == again
  assert first != other
  assert rows(subset(whole, 20, 3)) == rows(subset(whole, 20, 3))
  assert rows(subset(whole, 20, 3)) != rows(subset(whole, 20, 4))


def test_each_row_is_held_out_as_often_as_any_other():
  whole = make(np.arange(40) % 2)
  times = np.zeros(40)
  for seed in range(400):
    times[rows(hold_out(whole, 0.25, seed)[1])] += 1
  # Binomial(400, 1/4): mean 100, standard deviation 8.7; 4.6 of them is one failure
  # in some 6,000 sets of 40, and the seeds are fixed.
  assert (np.abs(times - 100) < 40).all()


def test_subset_of_no_more_than_the_limit_is_the_whole():
  whole = make([0, 1, 1])
  assert subset(whole, 3, 0) is whole


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_hold_out_refuses_a_fraction_outside(fraction):
  with pytest.raises(ValueError, match=r"fraction: expected a number in \(0, 1\)"):
    hold_out(make([0, 0, 1, 1]), fraction, 0)


def test_hold_out_refuses_a_data_set_too_small():
  with pytest.raises(ValueError, match="no class has two images"):
    hold_out(make([0, 1, 2]), 0.5, 0)


def test_subset_refuses_a_limit_of_nothing():
  with pytest.raises(ValueError, match="limit: expected a positive number"):
    subset(make([0, 1]), 0, 0)


def test_data_set_checks_its_arrays():
  whole = make([0, 1])
  for change, message in (
    ({"images": np.zeros((2, 1, 1, 1), np.float32)}, "images: expected uint8"),
    ({"images": np.zeros((2, 1, 1), np.uint8)}, "images: expected uint8"),
    ({"labels": np.zeros(2, np.int64)}, "labels: expected int32"),
    ({"labels": np.zeros(3, np.int32)}, "labels: expected int32 of shape"),
    ({"labels": np.array([0, 2], np.int32)}, r"labels: expected 0..1, got 0..2"),
    ({"sources": ("row 0",)}, "sources: expected 2 names, got 1"),
  ):
    with pytest.raises(ValueError, match=message):
      dataclasses.replace(whole, **change)
