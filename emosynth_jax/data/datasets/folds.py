"""Cross-validation: folds that keep groups whole and classes in proportion."""

import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold


def stratified_group_folds(
  labels: np.ndarray, groups: np.ndarray, num_folds: int
) -> np.ndarray:
  """Stratified group folds: keeps groups (such as subjects) whole, balances classes.

  They are those of scikit-learn's `StratifiedGroupKFold` without shuffling, for the
  examples sorted by group and label, so that their order makes no difference.

  Args:
    labels: int `(N,)`.
    groups: `(N,)`, names or numbers.
    num_folds: F.

  Returns:
    int `(N,)`, the fold 0..F-1 of each example.

  Raises:
    ValueError: if there are fewer than two folds, or fewer groups than folds.
  """
  num_groups = len(np.unique(groups))
  if not 2 <= num_folds <= num_groups:
    raise ValueError(
      f"folds: expected 2 to {num_groups}, the number of groups, got {num_folds}"
    )

  order = np.lexsort((labels, groups))
  splits = StratifiedGroupKFold(num_folds).split(order, labels[order], groups[order])

  folds = np.zeros(len(labels), np.int64)
  with warnings.catch_warnings():
    # Of a class with fewer examples than folds, which some folds then lack.
    warnings.simplefilter("ignore", UserWarning)
    for fold, (_, rows) in enumerate(splits):
      folds[order[rows]] = fold

  return folds


def rows_of_split(
  folds: np.ndarray, split: str, fold: int, num_folds: int
) -> np.ndarray:
  """Indices of a split's examples for one fold of the cross-validation.

  Args:
    folds: int `(N,)`, from `stratified_group_folds`.
    split: "test" for `fold` itself, "validation" for the next one (after the last
      comes the first), "train" for all others.
    fold: the test fold, 0..F-1.
    num_folds: F, at least 3.

  Returns:
    int `(M,)`, their indices in order.

  Raises:
    ValueError: if the fold is out of range, or no fold is left to train on.
  """
  if num_folds < 3:
    raise ValueError(
      f"folds: expected 3 or more (test, validation and train), got {num_folds}"
    )
  if not 0 <= fold < num_folds:
    raise ValueError(f"fold: expected 0..{num_folds - 1}, got {fold}")

  is_test, is_validation = folds == fold, folds == (fold + 1) % num_folds
  masks = {"test": is_test, "validation": is_validation}
  masks["train"] = ~(is_test | is_validation)
  return np.flatnonzero(masks[split])
