"""Cross-validation: folds that keep groups whole and classes in proportion."""

import numpy as np


def stratified_group_folds(
  labels: np.ndarray, groups: np.ndarray, num_folds: int
) -> np.ndarray:
  """Stratified group folds: keeps groups (such as subjects) whole, balances classes.

  The groups are processed in the order of their class imbalance, the most imbalanced
  first, ties by name. Each is assigned to the fold for which the class shares
  `n_kf / n_k` vary least over the folds f (standard deviation over f, mean over the
  classes k); ties go to the smallest fold, then to the first. This is the rule of
  scikit-learn's `StratifiedGroupKFold` without shuffling, where rounding may break
  ties; here ties are exact, so that the folds are the same in every run.

  Args:
    labels: int `(N,)`, classes from 0.
    groups: `(N,)`, names or numbers.
    num_folds: F.

  Returns:
    int `(N,)`, the fold 0..F-1 of each example.

  Raises:
    ValueError: if there are fewer than two folds, or fewer groups than folds.
  """
  names, members = np.unique(groups, return_inverse=True)
  if not 2 <= num_folds <= len(names):
    raise ValueError(
      f"folds: expected 2 to {len(names)}, the number of groups, got {num_folds}"
    )

  counts = np.zeros((len(names), int(labels.max()) + 1), np.int64)
  np.add.at(counts, (members, labels), 1)
  counts = counts[:, counts.any(axis=0)]
  # F^2 times the variance: in whole numbers, so that equal is equal on any machine.
  unevenness = counts.shape[1] * (counts**2).sum(axis=1) - counts.sum(axis=1) ** 2
  held = np.zeros((num_folds, counts.shape[1]), np.int64)
  fold_of_group = np.zeros(len(names), np.int64)

  for group in np.argsort(-unevenness, kind="stable"):
    more = counts[group]
    totals = held.sum(axis=0) + more
    # For each fold, the sum of squares over the folds if this one took the group.
    squares = (held**2).sum(axis=0) + 2 * held * more + more**2
    spread = np.sqrt(num_folds * squares - totals**2) / counts.sum(axis=0)
    spread = spread.mean(axis=1)
    best = np.flatnonzero(spread <= spread.min() * (1 + 1e-9))
    fold = best[np.argmin(held[best].sum(axis=1))]
    held[fold] += more
    fold_of_group[group] = fold

  return fold_of_group[members]


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
