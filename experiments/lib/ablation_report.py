"""Report of the margin ablation: a CSV, a plain-text table and a plot."""

import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

from emosynth_jax.metrics import statistics
from emosynth_jax.utils import files, plotting, text_table

_MEASURES = (
  "accuracy",
  "balanced_accuracy",
  "f1_macro",
  "loss",
  "train_accuracy",
  "train_loss",
  "first_bad_step",
  "seconds",
)
_BASELINE = {"loss": "cross_entropy"}


def label(setting: dict[str, Any]) -> str:
  """Formats a setting in one line, as in `arcface margin=0.3 scale=16`."""
  arguments = (
    f"{key}={value:g}"
    if isinstance(value, float)
    else str(value)
    if key in ("margin_fn", "reading")
    else f"{key}={value}"
    for key, value in sorted(setting.items())
    if key != "loss"
  )
  return " ".join([setting["loss"], *arguments])


def compare(
  records: Sequence[dict[str, Any]], num_classes: int
) -> list[dict[str, Any]]:
  """Compares each setting with cross-entropy, paired by seed.

  A seed has collapsed if its balanced accuracy is above chance by less than 1/4 of the
  excess of cross-entropy's, averaged over the seeds.

  Args:
    records: one per member, of `margin_ablation.run_ablation`.
    num_classes: K; chance is 1 / K.

  Returns:
    One row a setting, in the order of the records: "setting", "label", "seeds",
    "accuracy" and "deviation", "balanced_accuracy", "difference" (of
    `statistics.paired_difference`), "p_holm", "collapsed" (number of seeds) and
    "verdict".

  Raises:
    ValueError: if there is no cross-entropy to compare with.
  """
  by_setting: dict[str, list[dict[str, Any]]] = {}
  for record in records:
    key = json.dumps(record["setting"], sort_keys=True)
    by_setting.setdefault(key, []).append(record)
  baseline = {r["seed"]: r for r in by_setting.get(json.dumps(_BASELINE), [])}
  if not baseline:
    raise ValueError("no record of cross_entropy, the baseline of the comparison")
  chance = 1 / num_classes
  reference = [r["balanced_accuracy"] for r in baseline.values()]
  floor = chance + (sum(reference) / len(reference) - chance) / 4
  rows = []
  for members in by_setting.values():
    members = [m for m in members if m["seed"] in baseline]
    accuracies = [m["accuracy"] for m in members]
    mean, deviation = statistics.mean_and_deviation(accuracies)
    difference = statistics.paired_difference(
      accuracies, [baseline[m["seed"]]["accuracy"] for m in members]
    )
    balanced = [m["balanced_accuracy"] for m in members]
    rows.append(
      {
        "setting": members[0]["setting"],
        "label": label(members[0]["setting"]),
        "seeds": len(members),
        "accuracy": mean,
        "deviation": deviation,
        "balanced_accuracy": sum(balanced) / len(balanced),
        "difference": difference,
        "collapsed": sum(b < floor for b in balanced),
      }
    )
  others = [row for row in rows if row["setting"] != _BASELINE]
  corrected = statistics.holm([row["difference"]["p_value"] for row in others])
  for row, p in zip(others, corrected, strict=True):
    row["p_holm"] = p
    row["verdict"] = _verdict(row)
  for row in rows:
    row.setdefault("p_holm", math.nan)
    row.setdefault("verdict", "baseline")
  return rows


def _verdict(row: dict[str, Any]) -> str:
  if row["collapsed"]:
    return "collapses"
  if not row["p_holm"] < 0.05:
    return "no difference shown"
  return "better" if row["difference"]["mean"] > 0 else "worse"


def format_table(
  rows: Sequence[dict[str, Any]], protocol: dict[str, Any], commit: str
) -> str:
  """Formats the protocol and the rows of `compare` as plain text."""
  source = protocol.get("provenance", {})
  head = [
    ("data set", protocol["data_set"]),
    (
      "split",
      f"{protocol['validation_images']} validation images; test images are not used",
    ),
    ("training", f"{protocol['train_images']} images"),
    ("network", protocol["network"]),
    ("seeds", ", ".join(sorted({str(row["seeds"]) for row in rows})) + " a setting"),
    ("hardware", source.get("hardware", "unknown")),
    ("command", source.get("command", "unknown")),
    ("commit", commit),
  ]
  width = max(len(row["label"]) for row in rows)
  lines = [f"{key:9} {value}" for key, value in head]
  title = (
    f"{'loss':{width}}  accuracy        balanced  difference [95 % interval]  "
    "p (Holm)  collapsed  verdict"
  )
  lines += ["", title, "-" * len(title)]
  for row in rows:
    d = row["difference"]
    if row["verdict"] == "baseline":
      difference, p = "", ""
    else:
      difference = (
        f"{100 * d['mean']:+6.2f} [{100 * d['low']:+6.2f}, {100 * d['high']:+6.2f}]"
      )
      p = f"{row['p_holm']:.3f}"
    lines.append(
      f"{row['label']:{width}}  {100 * row['accuracy']:6.2f} "
      f"±{100 * row['deviation']:5.2f}    {100 * row['balanced_accuracy']:6.2f}  "
      f"{difference:26}  {p:8}  "
      f"{row['collapsed']:2d} of {row['seeds']:<2d}   {row['verdict']}"
    )
  lines += [
    "",
    "Percent of the validation images, after the last epoch; ± is the standard",
    "deviation over seeds. Differences from cross-entropy are paired by seed, with",
    "Student's t intervals; p has Holm's correction for the number of settings. A seed",
    "is collapsed if its balanced accuracy is above chance level by less than a "
    "quarter",
    "of cross-entropy's margin above it.",
  ]
  return "\n".join(lines) + "\n"


def format_csv(records: Sequence[dict[str, Any]]) -> str:
  """Writes one line per member."""
  arguments = sorted({k for r in records for k in r["setting"]} - {"loss"})
  # The first column holds the loss's name: a second one of that name would hide it.
  measures = ["validation_loss" if m == "loss" else m for m in _MEASURES]
  rows = [["loss", *arguments, "seed", *measures]]
  for record in records:
    setting = record["setting"]
    rows.append(
      [
        setting["loss"],
        *(setting.get(name, "") for name in arguments),
        record["seed"],
        *(record[name] for name in _MEASURES),
      ]
    )
  return text_table.to_csv(rows)


def plot(
  rows: Sequence[dict[str, Any]], protocol: dict[str, Any], path: pathlib.Path
) -> None:
  """Plots differences from cross-entropy with their intervals, one row per setting."""
  others = [row for row in rows if row["verdict"] != "baseline"]
  colours = {
    "better": plotting.GREEN,
    "worse": plotting.ORANGE,
    "no difference shown": plotting.GREY,
  }
  figure = plotting.new_figure(8.5, 1.6 + 0.22 * len(others))
  axis = figure.subplots()
  # A collapsed training would compress the scale of all others.
  shown = [row for row in others if row["verdict"] != "collapses"]
  bounds = [100 * row["difference"][k] for row in shown for k in ("low", "high")]
  bounds = [b for b in bounds if math.isfinite(b)] or [-1.0, 1.0]
  low, high = min(*bounds, 0.0), max(*bounds, 0.0)
  space = 0.05 * (high - low) or 0.1
  axis.set_xlim(low - 3 * space, high + space)
  for y, row in enumerate(others):
    d = row["difference"]
    if row["verdict"] == "collapses":
      axis.text(
        low - 2.7 * space,
        y,
        f"◀ {100 * d['mean']:+.1f}, {row['collapsed']} of {row['seeds']} seeds "
        "collapse",
        va="center",
        fontsize=8,
        color=plotting.ORANGE,
      )
      continue
    colour = colours[row["verdict"]]
    axis.plot([100 * d["low"], 100 * d["high"]], [y, y], color=colour, linewidth=2)
    axis.plot(100 * d["mean"], y, "o", color=colour, markersize=5)
  axis.axvline(0, color=plotting.GREY, linewidth=1)
  axis.set_yticks(range(len(others)), [row["label"] for row in others], fontsize=8)
  axis.set_ylim(len(others) - 0.4, -0.6)
  axis.set_xlabel("accuracy minus cross-entropy's, points (95 % interval over seeds)")
  for verdict, colour in colours.items():
    axis.plot([], [], "o-", color=colour, label=verdict)
  axis.legend(
    frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1)
  )
  baseline = next(row for row in rows if row["verdict"] == "baseline")
  figure.suptitle(
    f"{protocol['data_set']}: cross-entropy {100 * baseline['accuracy']:.1f} %, "
    f"{protocol['train_images']} training images",
    fontsize=11,
  )
  plotting.clean(axis)
  plotting.save(figure, path)


def write(
  records: Sequence[dict[str, Any]], protocol: dict[str, Any], workdir: pathlib.Path
) -> str:
  """Writes results.csv, table.txt and ablation.png.

  Args:
    records: one per member.
    protocol: the common protocol, with "num_classes".
    workdir: the folder.

  Returns:
    The table.
  """
  rows = compare(records, protocol["num_classes"])
  # A run that was resumed after a change of the code lists both.
  first = protocol.get("provenance", {}).get("commit", "unknown")
  commits = dict.fromkeys(record.get("commit", first) for record in records)
  text = format_table(rows, protocol, ", ".join(commits))
  files.write_atomically(workdir / "results.csv", format_csv(records).encode())
  files.write_atomically(workdir / "table.txt", text.encode())
  plot(rows, protocol, workdir / "ablation.png")
  return text
