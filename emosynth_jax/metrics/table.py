"""Plain-text tables of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe_split(name: str, official_split: str) -> str:
  """Name of a split in the report's table.

  Args:
    name: "validation" or "test".
    official_split: see `Dataset`; "" if there is nothing to add to the name.

  Returns:
    For example, "test (PrivateTest)".
  """
  remarks = [official_split]
  if name == "validation":
    remarks.append("used for epoch selection")
  text = "; ".join(filter(None, remarks))
  return f"{name} ({text})" if text else name


def format_report(
  summaries: Mapping[str, Mapping[str, Any]],
  protocol: Mapping[str, Any],
  of_split: Mapping[str, Mapping[str, Any]],
) -> str:
  """Formats the evaluation of a run: its protocol once, then a table for each split.

  Args:
    summaries: by split, from `classification.summarize`.
    protocol: what all splits share, label to value.
    of_split: by split, what belongs to it alone, as its official name.

  Returns:
    Lines that end in a newline.
  """
  tables = [format_table(summaries[name], of_split[name]) for name in summaries]
  return "\n\n".join([_align(list(protocol.items())) + "\n", *tables])


def format_table(
  summary: Mapping[str, Any], protocol: Mapping[str, Any] | None = None
) -> str:
  """Formats an evaluation as a plain-text table.

  Args:
    summary: from `classification.summarize`.
    protocol: the protocol, label to value, printed above the metrics in this order:
      data set, split, selection split, seed, hardware, command, commit.

  Returns:
    Lines that end in a newline. All metrics are in percent except loss and support.
  """
  sections = []
  if protocol:
    sections.append(_align(list(protocol.items())))

  rows = list(summary["per_class"].items())
  macro = {**summary["macro"], "support": summary["num_examples"]}
  width = max(len(name) for name, _ in [("class", None), ("macro", None), *rows])
  header = f"{'class':{width}}  precision  recall      F1    support"
  rule = "-" * len(header)
  lines = [header, rule]
  lines += [_class_row(name, figures, width) for name, figures in rows]
  lines += [rule, _class_row("macro", macro, width)]
  sections.append("\n".join(lines))

  figures = [
    ("accuracy", _percent(summary["accuracy"])),
    ("balanced accuracy", _percent(summary["balanced_accuracy"])),
    ("calibration error, expected", _percent(summary["expected_calibration_error"])),
    ("calibration error, maximum", _percent(summary["max_calibration_error"])),
    ("loss", f"{summary['loss']:.4f}"),
  ]
  if rest := summary.get("deduplicated"):
    # Directly below the metric that it qualifies.
    label = f"accuracy, deduplicated ({rest['num_left_out']:,} images removed)"
    figures.insert(1, (label, _percent(rest["accuracy"])))
  if votes := summary.get("votes"):
    figures += [
      ("expected accuracy under the votes", _percent(votes["expected_accuracy"])),
      ("  maximum (most frequent votes)", _percent(votes["highest_expected_accuracy"])),
      *(
        [("  agreement of two raters", _percent(votes["rater_agreement"]))]
        if votes["rater_agreement"] is not None
        else []
      ),
      ("KL divergence from the votes", f"{votes['kl_divergence']:.4f}"),
    ]

  digits = max(len(text) for _, text in figures)
  sections.append(_align([(label, f"{text:>{digits}}") for label, text in figures]))
  if augmented := summary.get("test_time_augmentation"):
    sections.append(
      "With test-time augmentation "
      f"({augmented['views']}; not used for epoch selection): accuracy "
      f"{_percent(augmented['accuracy'])}, balanced accuracy "
      f"{_percent(augmented['balanced_accuracy'])}, loss {augmented['loss']:.4f}"
    )

  if summary["absent_classes"]:
    sections.append(
      "Classes without examples in this split, excluded from balanced accuracy: "
      + ", ".join(summary["absent_classes"])
    )

  return "\n\n".join(sections) + "\n"


def _align(rows: list[tuple[str, Any]]) -> str:
  width = max(len(label) for label, _ in rows)
  return "\n".join(f"{label:{width}}  {value}" for label, value in rows)


def _percent(fraction: float) -> str:
  return f"{100 * fraction:.2f} %"


def _class_row(name: str, figures: Mapping[str, Any], width: int) -> str:
  precision, recall, f1 = (100 * figures[key] for key in ("precision", "recall", "f1"))
  return (
    f"{name:{width}}  {precision:9.2f}  {recall:6.2f}  {f1:6.2f}  "
    f"{figures['support']:9,d}"
  )
