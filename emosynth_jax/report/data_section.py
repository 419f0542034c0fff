"""Data section of a report: class balance and audit."""

from collections.abc import Mapping
from typing import Any

from emosynth_jax.data import fingerprints
from emosynth_jax.data.images import pixel_form
from emosynth_jax.report import tables
from emosynth_jax.report.run_files import RunFiles

_KINDS = ("exact", "near", "mirrored")


def balance(run: RunFiles, audit: Mapping[str, Any] | None) -> dict[str, Any]:
  """Images by class, of all audited splits, or else of the reported splits.

  Args:
    run: the run.
    audit: of its data set, if there is one.

  Returns:
    "splits" (their names), "rows" and "totals", see `tables.class_balance`.
  """
  if audit is None:
    counts = {
      name: {label: row["support"] for label, row in summary["per_class"].items()}
      for name, summary in run.report["splits"].items()
    }
  else:
    counts = {name: split["class_counts"] for name, split in audit["splits"].items()}

  rows, totals = tables.class_balance(counts)
  return {"splits": list(counts), "rows": rows, "totals": totals}


def forms(run: RunFiles) -> list[tuple[str, str]]:
  """Formats each split's images by pixel form; empty if not recorded."""
  counts = run.report.get("pixel_forms", {})
  if run.data is not None:
    counts = counts | fingerprints.form_counts(run.data)
  order = ("train", *(name for name in counts if name != "train"))
  return [
    (name, pixel_form.describe_counts(counts[name]))
    for name in order
    if counts.get(name)
  ]


def findings(audit: Mapping[str, Any] | None) -> dict[str, Any] | None:
  """Counts of an audit, in the order of the page's tables; None for None."""
  if audit is None:
    return None
  splits = audit["splits"]
  return {
    "thresholds": audit["config"]["near_duplicates"],
    "kinds": _KINDS,
    "pairs": [
      (where, [audit["pairs"][kind][where] for kind in _KINDS])
      for where in audit["pairs"]["exact"]
    ],
    "near_duplicates": [
      {
        "name": name,
        "counts": [split["images_with_near_duplicate"][other] for other in splits],
        "elsewhere": split["images_with_near_duplicate"]["elsewhere"],
        "share": split["images_with_near_duplicate"]["elsewhere"] / split["num_images"],
      }
      for name, split in splits.items()
    ],
    "conflicts": audit["label_conflicts"],
    "by_classes": list(audit["label_conflicts"]["by_classes"].items())[:3],
    "blank": sum(len(split["blank_images"]) for split in splits.values()),
    "unreadable": len(audit["unreadable_files"]),
    "by": audit["audited_by"],
  }
