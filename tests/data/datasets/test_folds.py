"""Folds by group, and the turns of a cross-validation."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from emosynth_jax.data.datasets.folds import rows_of_split, stratified_group_folds


def test_folds_by_hand():
  # Three groups of one class each come first, equals by name, and each goes to the
  # fold without its class or, where all are alike, to the smallest; "d" is even.
  groups = np.array(list("aabbccdd"))
  labels = np.array([0, 0, 0, 0, 1, 1, 0, 1])
  folds = stratified_group_folds(labels, groups, 2)
  # a -> 0 (all alike). b -> 1 (evens class 0 out). c -> 0 (alike, the first). Then d:
  # in 0 the classes stand 3:2 and 3:0, in 1 they stand 2:3 and 2:1.
  assert folds.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
  st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=20, max_size=80),
  st.integers(2, 5),
)
def test_groups_stay_whole_and_no_order_matters(rows, num_folds):
  labels, groups = (np.array(column) for column in zip(*rows, strict=True))
  hypothesis.assume(len(np.unique(groups)) >= num_folds)
  folds = stratified_group_folds(labels, groups, num_folds)
  for group in np.unique(groups):
    assert len(set(folds[groups == group])) == 1
  assert set(folds) <= set(range(num_folds))
  order = np.random.default_rng(0).permutation(len(labels))
  again = stratified_group_folds(labels[order], groups[order], num_folds)
  np.testing.assert_array_equal(again, folds[order])


def test_classes_are_in_proportion():
  rng = np.random.default_rng(0)
  groups = np.repeat(np.arange(100), 9)
  labels = rng.choice(3, 900, p=[0.7, 0.2, 0.1])
  folds = stratified_group_folds(labels, groups, 10)
  for label in range(3):
    counts = np.bincount(folds[labels == label], minlength=10)
    # Greedy, not optimal; names dealt out in turn miss it by 48 % in the rarest class.
    np.testing.assert_allclose(counts, counts.mean(), rtol=0.3)


def test_the_turns_take_each_example_once():
  folds = np.array([0, 1, 2, 3, 3, 2, 1, 0, 2])
  tests = []
  for fold in range(4):
    rows = {
      split: rows_of_split(folds, split, fold, 4)
      for split in ("train", "validation", "test")
    }
    assert sorted(np.concatenate(list(rows.values()))) == list(range(9))
    assert set(folds[rows["validation"]]) == {(fold + 1) % 4}
    tests += rows["test"].tolist()
  assert sorted(tests) == list(range(9))
  assert rows["test"].tolist() == [3, 4]
  assert rows["validation"].tolist() == [0, 7]  # after the last fold comes the first


def test_bad_arguments():
  labels, groups = np.zeros(6, int), np.array([1, 1, 2, 2, 3, 3])
  for num_folds in (1, 4):
    with pytest.raises(
      ValueError, match=rf"folds: expected 2 to 3, .* got {num_folds}"
    ):
      stratified_group_folds(labels, groups, num_folds)
  with pytest.raises(ValueError, match=r"folds: expected 3 or more .* got 2"):
    rows_of_split(labels, "test", 0, 2)
  for fold in (-1, 3):
    with pytest.raises(ValueError, match=rf"fold: expected 0\.\.2, got {fold}"):
      rows_of_split(labels, "test", fold, 3)
