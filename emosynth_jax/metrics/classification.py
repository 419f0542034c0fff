"""Classification metrics: additive sums on the device, metrics on the host.

:func:`batch_statistics` is jittable and turns one batch into sums, so that batches
and devices add up; :func:`summarize` turns the sums into plain Python numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# The rank of each statistic of one batch; further leading axes are batches or devices.
_RANKS = {
  "confusion_matrix": 2,
  "loss_sum": 0,
  "count": 0,
  "bin_confidence": 1,
  "bin_correct": 1,
  "bin_count": 1,
}


def batch_statistics(
  logits: jax.Array,
  labels: jax.Array,
  mask: jax.Array | None,
  num_classes: int,
  num_bins: int = 15,
) -> dict[str, jax.Array]:
  r"""Sums of one batch from which every metric of :func:`summarize` follows.

  The prediction is the class of the largest logit, the first of them in a tie. Its
  confidence is its softmax probability, and bin b of B holds the confidences in
  :math:`(b/B, (b+1)/B]`. A row outside ``mask`` contributes nothing, whatever its
  content.

  Args:
    logits: scores without margin, ``(N, num_classes)``, floating.
    labels: classes from 0 to ``num_classes - 1``, ``(N,)``, integer.
    mask: True where the row is a real example, ``(N,)``, bool; None where all are.
    num_classes: K, at least 2; static under jit.
    num_bins: B, the number of equal-width confidence bins; static under jit.

  Returns:
    A dictionary of sums over the real examples:

    - ``confusion_matrix``, ``(K, K)`` int32, rows are true classes;
    - ``loss_sum``, ``()``, the sum of the negative log-likelihoods;
    - ``count``, ``()`` int32;
    - ``bin_confidence``, ``(B,)``, the sum of the confidences in each bin;
    - ``bin_correct`` and ``bin_count``, ``(B,)`` int32.

    Floats are float32 (float64 for float64 logits), which is sufficient within a batch;
    between batches add with :func:`sum_statistics`. A label out of range is counted in
    ``count`` only, so that :func:`summarize` can reject it; a NaN in the logits makes
    ``loss_sum`` NaN.

  Raises:
    TypeError: where a dtype is wrong.
    ValueError: where a shape or a number is wrong.
  """
  logits, labels = jnp.asarray(logits), jnp.asarray(labels)
  mask = jnp.ones(labels.shape, bool) if mask is None else jnp.asarray(mask)
  _check_batch(logits, labels, mask, num_classes, num_bins)

  logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
  labels = labels.astype(jnp.int32)
  known = mask & (labels >= 0) & (labels < num_classes)
  safe_labels = jnp.where(known, labels, 0)
  predictions = jnp.argmax(logits, axis=-1)

  label_logits = jnp.take_along_axis(logits, safe_labels[:, None], axis=-1)[:, 0]
  losses = jax.nn.logsumexp(logits, axis=-1) - label_logits
  # Not exp(log-softmax): this form is exact for ties (1/2, 1/4) and at probability 1.
  confidences = 1 / jnp.sum(
    jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True)), axis=-1
  )

  # Comparisons with fixed edges, as ceil(B * confidence) rounds across an edge.
  edges = jnp.asarray(np.arange(1, num_bins) / num_bins, confidences.dtype)
  bins = jnp.sum(confidences[:, None] > edges[None, :], axis=-1)
  # A sum over a one-hot, as a scatter of floats on a GPU adds in no fixed order.
  in_bin = (bins[:, None] == jnp.arange(num_bins)[None, :]) & known[:, None]
  correct = predictions == labels
  cells = jnp.where(known, safe_labels * num_classes + predictions, num_classes**2)
  confusion = jnp.zeros(num_classes**2, jnp.int32).at[cells].add(1, mode="drop")
  return {
    "confusion_matrix": confusion.reshape(num_classes, num_classes),
    "loss_sum": jnp.sum(jnp.where(known, losses, 0)),
    "count": jnp.sum(mask, dtype=jnp.int32),
    "bin_confidence": jnp.sum(jnp.where(in_bin, confidences[:, None], 0), axis=0),
    "bin_correct": jnp.sum(in_bin & correct[:, None], axis=0, dtype=jnp.int32),
    "bin_count": jnp.sum(in_bin, axis=0, dtype=jnp.int32),
  }


def sum_statistics(
  statistics: Mapping[str, Any] | Iterable[Mapping[str, Any]],
) -> dict[str, np.ndarray]:
  """Adds statistics on the host, in float64 and int64.

  Args:
    statistics: the result of :func:`batch_statistics`, with any number of leading
      axes (as ``lax.scan``, ``vmap`` and devices stack them), or several of these.

  Returns:
    The sums, with the shapes of a single batch, as NumPy arrays.

  Raises:
    ValueError: where a key is missing or too many, a rank is too small, or the
      parts differ in their number of classes or bins.
  """
  parts = [statistics] if isinstance(statistics, Mapping) else list(statistics)
  if not parts:
    raise ValueError("statistics: expected those of at least one batch, got none")

  totals = [_sum_leading_axes(part) for part in parts]
  for total in totals[1:]:
    for name, value in total.items():
      if value.shape != totals[0][name].shape:
        raise ValueError(
          f"statistics differ in the shape of {name!r}: "
          f"{totals[0][name].shape} and {value.shape}"
        )

  return {name: np.sum([total[name] for total in totals], axis=0) for name in _RANKS}


def summarize(
  statistics: Mapping[str, Any] | Iterable[Mapping[str, Any]],
  class_names: Sequence[str],
) -> dict[str, Any]:
  r"""Computes the metrics of an evaluation, as plain Python numbers.

  With :math:`TP_k, FP_k, FN_k` from the confusion matrix, precision is
  :math:`TP/(TP+FP)`, recall :math:`TP/(TP+FN)` and F1 :math:`2TP/(2TP+FP+FN)`. A
  quotient with denominator 0 is 0. Macro metrics are unweighted means over the classes
  that occur in the split or are predicted (they are undefined for any other class),
  balanced accuracy is the mean recall over the classes that occur. These are
  scikit-learn's rules (``zero_division=0`` and ``labels=None``).

  Calibration is that of the predicted class (top-label): with mean confidence
  :math:`c_b`, accuracy :math:`a_b` and :math:`n_b` of N examples in bin b, the
  expected error is :math:`\sum_b n_b |a_b - c_b| / N`, and the maximum error is the
  largest :math:`|a_b - c_b|` among the bins that hold examples.

  Args:
    statistics: as :func:`sum_statistics` takes them.
    class_names: K distinct names, in the order of the labels.

  Returns:
    A dictionary with ``num_examples``, ``accuracy``, ``balanced_accuracy``, ``loss``
    (the mean negative log-likelihood), ``expected_calibration_error``,
    ``max_calibration_error``, ``macro`` (``precision``, ``recall``, ``f1``),
    ``per_class`` (by name: the same three and ``support``), ``class_names``,
    ``absent_classes`` (left out of the balanced accuracy), ``confusion_matrix`` (a
    list of rows, each a true class) and ``calibration`` (lists ``bin_edges``,
    ``confidence``, ``accuracy`` and ``count``; None where a bin is empty).

  Raises:
    ValueError: where there is no example, a label was out of range, or the names do
      not fit the statistics.

  References:
    Guo et al., `On Calibration of Modern Neural Networks
    <https://arxiv.org/abs/1706.04599>`_, 2017
  """
  sums = sum_statistics(statistics)
  confusion, count = sums["confusion_matrix"], int(sums["count"])
  names = _check_sums(confusion, count, class_names)

  hits = np.diag(confusion)
  support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
  precision = _divide(hits, predicted)
  recall = _divide(hits, support)
  f1 = _divide(2 * hits, support + predicted)
  occurs, involved = support > 0, (support > 0) | (predicted > 0)

  bin_count, occupied = sums["bin_count"], sums["bin_count"] > 0
  bin_confidence = _divide(sums["bin_confidence"], bin_count)
  bin_accuracy = _divide(sums["bin_correct"], bin_count)
  gaps = np.abs(bin_accuracy - bin_confidence)
  num_bins = len(bin_count)
  return {
    "num_examples": count,
    "accuracy": float(hits.sum() / count),
    "balanced_accuracy": float(recall[occurs].mean()),
    "loss": float(sums["loss_sum"] / count),
    "expected_calibration_error": float(np.sum(bin_count * gaps) / count),
    "max_calibration_error": float(gaps[occupied].max()),
    "macro": {
      "precision": float(precision[involved].mean()),
      "recall": float(recall[involved].mean()),
      "f1": float(f1[involved].mean()),
    },
    "per_class": {
      name: {
        "precision": float(precision[k]),
        "recall": float(recall[k]),
        "f1": float(f1[k]),
        "support": int(support[k]),
      }
      for k, name in enumerate(names)
    },
    "class_names": names,
    "absent_classes": [name for k, name in enumerate(names) if not occurs[k]],
    "confusion_matrix": confusion.tolist(),
    "calibration": {
      "bin_edges": (np.arange(num_bins + 1) / num_bins).tolist(),
      "confidence": _none_where_empty(bin_confidence, occupied),
      "accuracy": _none_where_empty(bin_accuracy, occupied),
      "count": bin_count.tolist(),
    },
  }


def _check_batch(
  logits: jax.Array,
  labels: jax.Array,
  mask: jax.Array,
  num_classes: int,
  num_bins: int,
) -> None:
  """Checks arguments that would otherwise silently give wrong sums."""
  if not jnp.issubdtype(logits.dtype, jnp.floating):
    raise TypeError(f"logits: expected a floating dtype, got {logits.dtype}")
  if not jnp.issubdtype(labels.dtype, jnp.integer):
    raise TypeError(f"labels: expected an integer dtype, got {labels.dtype}")
  if mask.dtype != jnp.bool_:
    raise TypeError(f"mask: expected dtype bool, got {mask.dtype}")
  if num_classes < 2:
    raise ValueError(f"num_classes: expected at least 2, got {num_classes}")
  if num_bins < 1:
    raise ValueError(f"num_bins: expected at least 1, got {num_bins}")
  if logits.ndim != 2 or logits.shape[1] != num_classes:
    raise ValueError(f"logits: expected shape (N, {num_classes}), got {logits.shape}")

  for name, array in (("labels", labels), ("mask", mask)):
    if array.shape != logits.shape[:1]:
      raise ValueError(f"{name}: expected shape {logits.shape[:1]}, got {array.shape}")


def _sum_leading_axes(part: Mapping[str, Any]) -> dict[str, np.ndarray]:
  if set(part) != set(_RANKS):
    raise ValueError(
      f"statistics: expected the keys {sorted(_RANKS)}, got {sorted(part)}"
    )
  total = {}
  for name, rank in _RANKS.items():
    value = np.asarray(part[name])
    if value.ndim < rank:
      raise ValueError(f"{name}: expected at least {rank} axes, got {value.shape}")
    exact = np.int64 if np.issubdtype(value.dtype, np.integer) else np.float64
    axes = tuple(range(value.ndim - rank))
    total[name] = np.asarray(value.astype(exact).sum(axis=axes))
  return total


def _check_sums(
  confusion: np.ndarray, count: int, class_names: Sequence[str]
) -> list[str]:
  names = [str(name) for name in class_names]
  if len(names) != len(confusion):
    raise ValueError(
      f"class_names: expected {len(confusion)} as the confusion matrix has, "
      f"got {len(names)}"
    )
  if len(set(names)) != len(names):
    raise ValueError(f"class_names: expected distinct names, got {names}")
  if count == 0:
    raise ValueError("no examples: every row of every batch is masked out")
  if confusion.sum() != count:
    raise ValueError(
      f"labels: {count - confusion.sum()} of {count} are outside "
      f"0..{len(confusion) - 1}: check the labels or the number of classes"
    )

  return names


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
  """The quotient in float64, and 0 where the denominator is 0."""
  quotient = np.zeros(np.shape(denominator), np.float64)
  return np.divide(numerator, denominator, out=quotient, where=denominator > 0)


def _none_where_empty(values: np.ndarray, occupied: np.ndarray) -> list[float | None]:
  return [float(v) if o else None for v, o in zip(values, occupied, strict=True)]
