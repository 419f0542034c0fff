"""Required fields of a report, a summary of seeds and an audit."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emosynth_jax.config.settings import OPEN_PARTS, SETTINGS
from emosynth_jax.utils.json_files import check_fields

# A number that may not be finite, see `files.to_jsonable`.
_ANY_NUMBER = (float, "NaN", "Infinity", "-Infinity")

_PROVENANCE = {
  "command": str,
  "commit": str,
  "packages": {"*": str},
  "hardware": str,
  "date": str,
}
_METRICS = {"precision": float, "recall": float, "f1": float}
# Of `classification.summarize`.
_SUMMARY = {
  "num_examples": int,
  "accuracy": float,
  "balanced_accuracy": float,
  "loss": _ANY_NUMBER,
  "expected_calibration_error": float,
  "max_calibration_error": float,
  "macro": _METRICS,
  "per_class": {"*": _METRICS | {"support": int}},
  "class_names": [str],
  "absent_classes": [str],
  "confusion_matrix": [[int]],
  "calibration": {
    "bin_edges": [float],
    "confidence": [(float, None)],
    "accuracy": [(float, None)],
    "count": [int],
  },
}
# What a summary may have beside these.
_MORE: dict[str, Any] = {
  "deduplicated": ({"accuracy": float, "num_left_out": int}, None),
  "test_time_augmentation": {"accuracy": float},
  "votes": {"expected_accuracy": float},
}
# Of `evaluate.evaluate_run`.
_REPORT = {
  "data_set": str,
  "chosen_on": str,
  "best_epoch": int,
  "epochs_trained": int,
  "seed": int,
  "num_parameters": int,
  "config": {"model": {"name": str}, "loss": {"name": str}},
  "trained_by": [_PROVENANCE],
  "evaluated_by": _PROVENANCE,
  "official_splits": {"*": str},
  "batch_invariance": {
    "split": str,
    "passed": bool,
    "num_images": int,
    "batch_size": int,
    "num_images_one_at_a_time": int,
    "max_abs_difference_of_logits": {"*": _ANY_NUMBER},
    "max_abs_logit": _ANY_NUMBER,
    "tolerance": _ANY_NUMBER,
    "changed_predictions": int,
  },
  "splits": {"*": _SUMMARY},
}
# Of `seed_summary.summarize`.
_SEEDS = {
  "data_set": str,
  "chosen_on": str,
  "seeds": [int],
  "best_epochs": [int],
  "workdirs": [str],
  "commits": [str],
  "data": {"*": dict},
  "splits": {
    "*": {
      "official_split": str,
      "num_examples": int,
      "figures": {"*": {"values": [_ANY_NUMBER], "mean": _ANY_NUMBER}},
    }
  },
}
_CONFLICTS = {"groups": int, "images": int}
# Of `findings.describe_datasets`.
_AUDIT = {
  "config": {"near_duplicates": {"max_distance": float, "min_correlation": float}},
  "audited_by": _PROVENANCE,
  "splits": {
    "*": {
      "num_images": int,
      "class_counts": {"*": int},
      "blank_images": list,
      "images_with_near_duplicate": {"elsewhere": int, "*": int},
    }
  },
  "pairs": {kind: {"*": int} for kind in ("exact", "near", "mirrored")},
  "label_conflicts": {
    "exact": _CONFLICTS,
    "all": _CONFLICTS,
    "by_classes": {"*": int},
  },
  "unreadable_files": list,
}


def check_report(report: Any, problem: str) -> None:
  """Checks a report's fields, and that its numbers agree.

  Args:
    report: the content of report.json, under the names of today.
    problem: as `json_files.parse_json` takes it.

  Raises:
    ValueError: naming a field that is missing or wrong.
  """
  check_fields(report, problem, _REPORT)
  if not report["splits"]:
    raise ValueError(f"{problem} (it has no split)")
  if "pixel_forms" in report:
    check_fields(report, problem, {"pixel_forms": {"*": ({"*": int}, None)}})
  for name, summary in report["splits"].items():
    more = {key: fields for key, fields in _MORE.items() if key in summary}
    check_fields(report, problem, {"splits": {name: more}})
    if wrong := _disagreement(summary):
      raise ValueError(f"{problem} (splits.{name}: {wrong})")
  if wrong := _wrong_setting(report["config"]):
    raise ValueError(f"{problem} ({wrong})")


def check_seeds(summary: Any, problem: str) -> None:
  """Checks a summary of seeds, the content of seeds.json, as `check_report`."""
  check_fields(summary, problem, _SEEDS)
  count = len(summary["seeds"])
  for name, split in summary["splits"].items():
    for label, figure in split["figures"].items():
      if len(figure["values"]) != count:
        raise ValueError(
          f"{problem} (splits.{name}.figures.{label}: expected {count} values, got "
          f"{len(figure['values'])})"
        )


def check_audit(audit: Any, problem: str) -> None:
  """Checks an audit, the content of audit.json, as `check_report`."""
  check_fields(audit, problem, _AUDIT)
  splits = audit["splits"]
  for name, split in splits.items():
    where = f"splits.{name}"
    if missing := splits.keys() - split["images_with_near_duplicate"].keys():
      raise ValueError(
        f"{problem} ({where}.images_with_near_duplicate.{min(missing)}: missing)"
      )
    if split["num_images"] < 1:
      raise ValueError(f"{problem} ({where}.num_images: expected at least 1)")
  pairs = audit["pairs"]
  if any(kind.keys() != pairs["exact"].keys() for kind in pairs.values()):
    raise ValueError(f"{problem} (pairs: expected the same splits for each kind)")


def _disagreement(summary: Mapping[str, Any]) -> str:
  """Describes an inconsistency in the metrics of a split; "" if there is none."""
  names, rows = summary["class_names"], summary["confusion_matrix"]
  if len(rows) != len(names) or any(len(row) != len(names) for row in rows):
    return f"confusion_matrix: expected {len(names)} rows and columns"
  confusion = np.asarray(rows)
  if (confusion < 0).any() or confusion.sum() != summary["num_examples"]:
    return f"confusion_matrix: expected a sum of {summary['num_examples']}"
  if not summary["num_examples"]:
    return "num_examples: expected at least 1"
  if summary["per_class"].keys() != set(names) or len(set(names)) != len(names):
    return "per_class: expected the classes of class_names"
  for name, support in zip(names, confusion.sum(1).tolist(), strict=True):
    if summary["per_class"][name]["support"] != support:
      return f"per_class.{name}.support: expected {support}"

  calibration = summary["calibration"]
  lengths = {key: len(values) for key, values in calibration.items()}
  lengths["bin_edges"] -= 1
  if len(set(lengths.values())) > 1:
    return f"calibration: expected columns of one length, got {lengths}"
  for i, count in enumerate(calibration["count"]):
    for key in ("confidence", "accuracy"):
      if count and calibration[key][i] is None:
        return f"calibration.{key}[{i}]: expected a number, got nothing"
  if sum(calibration["count"]) != summary["num_examples"]:
    return f"calibration.count: expected a sum of {summary['num_examples']}"
  return ""


def _wrong_setting(config: Mapping[str, Any]) -> str:
  """A setting of another type or range than today's, in words; "" for none."""
  for path in (*SETTINGS, *(f"{part}.*" for part in OPEN_PARTS)):
    *sections, key = path.split(".")
    holder: Any = config
    for i, section in enumerate(sections):
      holder = holder.get(section, {})
      if not isinstance(holder, Mapping):
        return f"config.{'.'.join(sections[: i + 1])}: expected an object"
    if key in holder and not SETTINGS[path].check.accepts(holder[key]):
      allowed = SETTINGS[path].check.describe()
      return f"config.{path}: expected {allowed}, got {holder[key]!r:.40}"
  return ""
