"""What several seeds say together, as lines to read."""

import os
from collections.abc import Mapping
from typing import Any

from emosynth_jax import text_table


def format_summary(
  summary: Mapping[str, Any],
  comparison: Mapping[str, Any] | None = None,
  others: str | os.PathLike = "",
) -> str:
  """The text of seeds.txt.

  Args:
    summary: of `seeds.summarize`.
    comparison: of `seeds.compare`, if there is one.
    others: where the other seeds are.

  Returns:
    Lines that end in a newline. All figures are in per cent but the loss.
  """
  lines = [
    f"{summary['data_set']}, epoch chosen by {summary['chosen_on']}: epochs "
    f"{_listed(summary['best_epochs'])} of seeds {_listed(summary['seeds'])}",
    f"commit {_listed(summary['commits'])}",
  ]
  for name, split in summary["splits"].items():
    official = f" ({split['official_split']})" if split["official_split"] else ""
    lines += ["", f"{name}{official}, {split['num_examples']} images"]
    labels = list(split["figures"])
    rows = [["seed", *labels]]
    for i, seed in enumerate(summary["seeds"]):
      rows.append(
        [str(seed), *(_number(f, split["figures"][f]["values"][i]) for f in labels)]
      )
    rows.append(["mean", *(_number(f, split["figures"][f]["mean"]) for f in labels)])
    if len(summary["seeds"]) > 1:
      deviations = (_number(f, split["figures"][f]["deviation"]) for f in labels)
      rows.append(["deviation", *deviations])
    lines += text_table.align(rows)
  lines.append("")
  if len(summary["seeds"]) == 1:
    lines.append("One seed: no deviation, and nothing is known of the spread.")
  else:
    lines.append(
      f"The deviation is that of the sample of {len(summary['seeds'])} seeds, with "
      "n - 1; it is not the error of the mean, and says nothing of another sample of "
      "images."
    )
  if comparison:
    lines += ["", *_comparison_lines(comparison, others)]
  return "\n".join(lines) + "\n"


def _comparison_lines(comparison, others):
  seeds = comparison["seeds"]
  lines = [f"Less {others}, paired by seeds {_listed(seeds)}:"]
  for name, figures in comparison["splits"].items():
    for label, difference in figures.items():
      text = f"{name}, {label}: {_number(label, difference['mean'], sign='+')}"
      if difference["low"] is not None:
        low, high = (_number(label, difference[k], sign="+") for k in ("low", "high"))
        p = difference["p_value"]
        test = "no test, as all differences are equal" if p != p else f"p = {p:.2g}"
        text += f", 95 % interval {low} to {high}, {test}"
      lines.append(text)
  if len(seeds) == 1:
    lines.append("One pair: no interval. Chance alone may well be the reason.")
  else:
    lines.append(
      "Student's interval and two-sided test over the seeds; of so many figures, "
      "some pass a test by chance."
    )
  return lines


def _number(label, value, sign=""):
  scale, digits = (1, 4) if label == "loss" else (100, 2)
  return f"{scale * value:{sign}.{digits}f}"


def _listed(values):
  return ", ".join(map(str, values))
