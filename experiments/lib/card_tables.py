"""The tables of a model card, computed from a network's logits by `model_card`."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import special

from emosynth_jax.metrics import calibration, classification, votes
from emosynth_jax.utils import text_table

THRESHOLDS = (0.0, 0.4, 0.5, 0.6, 0.8)

# Rows of the table of accuracies, by their names in `votes.summarize_votes`.
_VOTES = {
  "expected accuracy under the votes": "expected_accuracy",
  "the same of the most frequent votes": "highest_expected_accuracy",
  "agreement of two raters": "rater_agreement",
}


class Split(NamedTuple):
  """A network's predictions on a split.

  Attributes:
    name: name by the data set's authors.
    logits: float `(N, K)`.
    labels: int `(N,)`.
    deduplicated: a summary as `classification.summarize` has it, of the images without
      a near-duplicate in an earlier split; None if not requested, or if none is left.
    mirrored: float `(N, K)`, logits of the mirrored images; None if the network was not
      trained on such.
    votes: int `(N, K)`, the raters' votes; None if there are none.
  """

  name: str
  logits: np.ndarray
  labels: np.ndarray
  deduplicated: Mapping[str, Any] | None = None
  mirrored: np.ndarray | None = None
  votes: np.ndarray | None = None


def coverage(
  logits: np.ndarray,
  labels: np.ndarray,
  temperature: float,
  thresholds: Sequence[float] = THRESHOLDS,
) -> list[tuple[float, float | None]]:
  """Coverage and accuracy by minimum confidence, as in `predict.Predictor`.

  Args:
    logits: `(N, K)`.
    labels: integers `(N,)`.
    temperature: probabilities are softmax(logits / temperature).
    thresholds: minimum confidences.

  Returns:
    For each, the coverage (share of images with a label) and the accuracy on these;
    None for the accuracy if there are none.
  """
  probabilities = special.softmax(np.asarray(logits, float) / temperature, -1)
  confidences = probabilities.max(-1)
  right = probabilities.argmax(-1) == labels
  rows: list[tuple[float, float | None]] = []
  for threshold in thresholds:
    kept = confidences >= threshold
    rows.append((float(kept.mean()), float(right[kept].mean()) if kept.any() else None))
  return rows


def format_card(
  splits: Sequence[Split], class_names: Sequence[str], temperature: float
) -> str:
  """Formats all tables.

  Args:
    splits: the split that the temperature was fitted on and, if there is one, the
      reported split, last.
    class_names: K names, in label order.
    temperature: the network's.

  Returns:
    Markdown that ends in a newline.

  Raises:
    ValueError: for labels that do not match the names.
  """
  summaries = [summarize(split.logits, split.labels, class_names) for split in splits]
  last, summary = splits[-1], summaries[-1]
  parts = [
    _accuracy(splits, summaries),
    f"{last.name} by class, in percent:",
    _classes(summary),
    f"{last.name}, most frequent confusions of each class, in percent of its images:",
    _confusions(summary),
    f"Temperature {temperature:.3f}, fitted on {splits[0].name}'s "
    f"{len(splits[0].labels):,} images:",
    _calibration(splits, temperature),
    "By minimum confidence:",
    _coverage(splits, temperature),
  ]
  return "\n\n".join(parts) + "\n"


def summarize(
  logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> dict[str, Any]:
  """Computes a split's metrics, as `classification.summarize` does.

  Args:
    logits: `(N, K)`.
    labels: integers `(N,)`.
    class_names: K names.

  Returns:
    The metrics.

  Raises:
    ValueError: for labels that do not match the names, or no image.
  """
  statistics = classification.batch_statistics(
    jnp.asarray(logits), jnp.asarray(labels), None, len(class_names)
  )
  return classification.summarize(statistics, class_names)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  return "\n".join(text_table.markdown([header, *rows]))


def percent(share: float | None, digits: int = 2) -> str:
  """Formats a fraction in percent; "none" for None."""
  return "none" if share is None else f"{100 * share:.{digits}f} %"


def _accuracy(splits: Sequence[Split], summaries: Sequence[Mapping[str, Any]]) -> str:
  rows = [
    ["images", *[f"{x['num_examples']:,}" for x in summaries]],
    ["accuracy", *[percent(x["accuracy"]) for x in summaries]],
    ["balanced accuracy", *[percent(x["balanced_accuracy"]) for x in summaries]],
  ]
  if all(split.mirrored is not None for split in splits):
    shares = []
    for x in splits:
      # The mean of the probabilities, as in an evaluation with views.
      total = special.softmax(x.logits, -1) + special.softmax(x.mirrored, -1)
      shares.append(percent(float((total.argmax(-1) == x.labels).mean())))
    rows.append(["accuracy, mirror image added", *shares])

  found = [
    votes.summarize_votes(x.logits, x.votes) for x in splits if x.votes is not None
  ]
  if len(found) == len(splits):
    for name, key in _VOTES.items():
      rows.append([name, *[percent(x[key]) for x in found]])
    divergences = [f"{x['kl_divergence']:.3f}" for x in found]
    rows.append(["KL divergence from the votes", *divergences])

  rest = [split.deduplicated for split in splits]
  if any(rest):
    rows.append(
      [
        "accuracy, deduplicated (without near-duplicates of earlier splits)",
        *[
          f"{percent(x['accuracy'])} of {x['num_examples']:,}" if x else "none"
          for x in rest
        ],
      ]
    )
  return _table(["", *[split.name for split in splits]], rows)


def _classes(summary: Mapping[str, Any]) -> str:
  per_class = summary["per_class"]
  rows = [
    [name, *[f"{100 * x[name]:.1f}" for x in per_class.values()]]
    for name in ("recall", "precision", "f1")
  ]
  rows.append(["images", *[f"{x['support']:,}" for x in per_class.values()]])
  return _table(["", *per_class], rows)


def _confusions(summary: Mapping[str, Any]) -> str:
  names = summary["class_names"]
  rows = []
  for k, counts in enumerate(np.array(summary["confusion_matrix"])):
    if not counts.sum():
      continue
    shares = 100 * counts / counts.sum()
    others = [j for j in np.argsort(-shares, kind="stable") if j != k and counts[j]]
    taken = ", ".join(f"{names[j]} {shares[j]:.0f}" for j in others[:3])
    rows.append([names[k], f"{shares[k]:.0f}", taken or "none"])
  return _table(["", "right", "predicted as"], rows)


def _calibration(splits: Sequence[Split], temperature: float) -> str:
  header, losses, errors = [""], [], []
  for split in splits:
    header += [f"{split.name}, before", "after"]
    for t in (1.0, temperature):
      given = split.logits, split.labels, t
      losses.append(f"{calibration.negative_log_likelihood(*given):.4f}")
      errors.append(percent(calibration.expected_calibration_error(*given)))
  return _table(
    header,
    [
      ["negative log-likelihood", *losses],
      ["expected calibration error (15 bins)", *errors],
    ],
  )


def _coverage(splits: Sequence[Split], temperature: float) -> str:
  header, columns = ["minimum confidence"], []
  for split in splits:
    header += [f"{split.name}, faces with a label", "accuracy on these"]
    found = coverage(split.logits, split.labels, temperature)
    columns += [[percent(x, 1) for x in column] for column in zip(*found, strict=True)]
  rows = [
    [f"{threshold:g}", *cells]
    for threshold, *cells in zip(THRESHOLDS, *columns, strict=True)
  ]
  return _table(header, rows)
