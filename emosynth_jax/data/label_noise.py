"""Label noise on purpose: training labels changed in exact numbers, by a seed."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from emosynth_jax.data.dataset import Dataset


def transition_matrix(
  class_names: Sequence[str], *, rate: float = 0.0, confusion: Sequence[str] = ()
) -> np.ndarray:
  """Shares of each class's labels that become each class.

  Args:
    class_names: K names, in label order.
    rate: symmetric noise: this share of each class's labels becomes another class, all
      others alike.
    confusion: asymmetric noise: entries "FROM:TO:SHARE" such as "fear:surprise:0.2";
      the rest of a class keeps its label.

  Returns:
    float64 `(K, K)`, rows are true classes and sum to 1.

  Raises:
    ValueError: for both kinds at once, a rate outside [0, 1), an unknown class, or
      shares of a class that exceed 1.
  """
  if rate and confusion:
    raise ValueError(
      "config.data.label_noise: expected rate (symmetric noise) or confusion, got both"
    )
  if not 0 <= rate < 1:
    raise ValueError(
      f"config.data.label_noise.rate: expected at least 0 and less than 1, got {rate}"
    )
  size = len(class_names)
  if rate:
    others = np.ones((size, size)) - np.eye(size)
    return (1 - rate) * np.eye(size) + rate * others / (size - 1)
  matrix = np.zeros((size, size))
  for entry in confusion:
    row, column, share = _parse(entry, class_names)
    if matrix[row, column]:
      raise ValueError(f"config.data.label_noise.confusion: {entry!r} is there twice")
    matrix[row, column] = share
  sums = matrix.sum(axis=1)
  if (sums > 1 + 1e-9).any():
    name = class_names[int(sums.argmax())]
    raise ValueError(
      f"config.data.label_noise.confusion: the shares of {name!r} sum to "
      f"{sums.max():g}, expected at most 1"
    )
  return matrix + np.diag(np.maximum(1 - sums, 0))


def check_settings(*, rate: float, confusion: Sequence[str]) -> None:
  """Checks settings of label noise as far as possible without the data's classes.

  Args:
    rate, confusion: as for `transition_matrix`.

  Raises:
    ValueError: as `transition_matrix`, but for an unknown class.
  """
  named = {part.strip() for entry in confusion for part in str(entry).split(":")[:2]}
  transition_matrix(sorted(named), rate=rate, confusion=confusion)


def add_label_noise(dataset: Dataset, matrix: np.ndarray, seed: int) -> Dataset:
  """Changes labels in exact numbers.

  Of the n images of a class, n times the share that leaves it, rounded, get another
  label. These are shared out to the other classes in proportion, by the largest
  remainders. The seed draws the images, and which of equal remainders is larger.

  Args:
    dataset: the training split.
    matrix: of `transition_matrix`.
    seed: of the draw; the same seed gives the same labels, on every machine.

  Returns:
    The data set with changed `labels`, and the original ones as `clean_labels`.

  Raises:
    ValueError: if training uses soft labels, which it would not change.
  """
  if dataset.soft_labels is not None:
    raise ValueError(
      "config.data.label_noise changes labels, but training uses class probabilities; "
      "with FER+ use config.data.options.labels=majority, else no "
      "config.data.soft_labels"
    )
  # Raw bits of the generator, which NumPy promises never to change.
  generator = np.random.PCG64(seed)
  keys = generator.random_raw(len(dataset))
  labels = dataset.labels.copy()
  for k, row in enumerate(matrix):
    members = np.flatnonzero(dataset.labels == k)
    members = members[np.argsort(keys[members], kind="stable")]
    counts = _counts(row, k, len(members), generator.random_raw(len(row)))
    new = np.repeat(np.arange(len(row)), counts)
    labels[members[: len(new)]] = new
  return dataclasses.replace(
    dataset, labels=labels.astype(np.int32), clean_labels=dataset.labels
  )


def describe(
  *, rate: float, confusion: Sequence[str], seed: int, changed: int | None, total: int
) -> str:
  """Describes a run's label noise for its report; "" without noise.

  Args:
    rate, confusion, seed: of `config.data.label_noise`.
    changed: number of changed training labels, None if not recorded.
    total: number of training labels.
  """
  if not rate and not confusion:
    return ""
  kind = f"symmetric, {100 * rate:g} %" if rate else f"confusion {', '.join(confusion)}"
  counts = "" if changed is None else f": {changed:,} of {total:,} labels changed"
  return f"training only, {kind}, seed {seed}{counts}"


def _counts(row: np.ndarray, k: int, size: int, ties: np.ndarray) -> np.ndarray:
  """Number of images of class `k` that become each class, int `(K,)`, 0 at `k`."""
  leaving = np.delete(row, k)
  # Products like 0.07 * 100 are rounded to the whole number that they mean.
  total = int(np.rint(np.round(size * leaving.sum(), 9)))
  if not total:
    return np.zeros(len(row), int)
  shares = np.round(total * leaving / leaving.sum(), 9)
  counts = np.floor(shares).astype(int)
  order = np.lexsort((np.delete(ties, k), counts - shares))
  counts[order[: total - counts.sum()]] += 1
  return np.insert(counts, k, 0)


def _parse(entry: str, class_names: Sequence[str]) -> tuple[int, int, float]:
  """Row, column and share of an entry "FROM:TO:SHARE"."""
  where = "config.data.label_noise.confusion"
  parts = [part.strip() for part in str(entry).split(":")]
  try:
    first, second, share = parts[0], parts[1], float(parts[2])
    if len(parts) != 3:
      raise ValueError
  except (ValueError, IndexError):
    raise ValueError(
      f"{where}: expected FROM:TO:SHARE such as fear:surprise:0.2, got {entry!r}"
    ) from None
  for name in (first, second):
    if name not in class_names:
      raise ValueError(
        f"{where}: no class {name!r}; there are {', '.join(class_names)}"
      )
  if first == second or not 0 < share <= 1:
    raise ValueError(
      f"{where}: expected two classes and a share above 0 and at most 1, got {entry!r}"
    )
  return class_names.index(first), class_names.index(second), share
