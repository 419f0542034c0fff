"""Report of the margin ablation: CSV files, a plain-text table and plots."""

import collections
import json
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from emosynth_jax.metrics import statistics
from emosynth_jax.utils import files, plotting, text_table
from experiments.lib import ablation_curves
from experiments.lib.ablation_records import AXES

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


def label(
  setting: dict[str, Any], axes: dict[str, Any] | None = None, *, hashes: bool = False
) -> str:
  """Formats a setting in one line, as in `arcface margin=0.3 scale=16`.

  Args:
    setting: of a record.
    axes: further values, as the epochs.
    hashes: whether own code is named with its hash.
  """

  def text(value):
    return f"{value:g}" if isinstance(value, float) else str(value)

  arguments = (
    text(value) if key in ("margin_fn", "reading") else f"{key}={text(value)}"
    for key, value in [*sorted(setting.items()), *(axes or {}).items()]
    if key != "loss"
  )
  line = " ".join([str(setting["loss"]), *arguments])
  return line if hashes else re.sub(r"@[0-9a-f]{8}\b", "", line)


def compare(
  records: Sequence[dict[str, Any]], num_classes: int
) -> list[dict[str, Any]]:
  """Compares each setting with cross-entropy, paired by seed.

  Cross-entropy is that of the same epochs, batch size, learning rate and label noise; a
  setting without it is left out.

  A seed has collapsed if its balanced accuracy is above chance by less than 1/4 of the
  excess of cross-entropy's, averaged over the seeds, if that is above chance.

  Args:
    records: one per member, of `margin_ablation.run_ablation`.
    num_classes: K; chance is 1 / K.

  Returns:
    One row a setting, in the order of the records: "setting", "axes", "label", "seeds",
    "accuracy" and "deviation", "balanced_accuracy", "difference" (of
    `statistics.paired_difference`), "p_holm", "collapsed" and "not_finite" (numbers of
    seeds), "bad_step" (the first that is not finite, -1 for none) and "verdict".

  Raises:
    ValueError: if there is no cross-entropy to compare with.
  """
  by_setting: dict[str, list[dict[str, Any]]] = {}
  for record in records:
    by_setting.setdefault(_key(record["setting"], record), []).append(record)

  rows = []
  for members in by_setting.values():
    found = by_setting.get(_key(_BASELINE, members[0]), [])
    baseline = {record["seed"]: record for record in found}
    members = [m for m in members if m["seed"] in baseline]
    if members:
      rows.append(_row(members, baseline, num_classes))
  if not rows:
    raise ValueError("no record of cross_entropy, the baseline of the comparison")

  # A loss without a value has not been compared.
  others = [r for r in rows if r["setting"] != _BASELINE and not r["not_finite"]]
  corrected = statistics.holm([row["difference"]["p_value"] for row in others])
  for row, p in zip(others, corrected, strict=True):
    row["p_holm"] = p
  for row in rows:
    row.setdefault("p_holm", math.nan)
    row["verdict"] = _verdict(row)
  _name(rows)
  return rows


def _key(setting: dict[str, Any], record: dict[str, Any]) -> str:
  """Identifies a setting under a record's values of `AXES`."""
  return json.dumps([setting, [record.get(axis) for axis in AXES]], sort_keys=True)


def _row(
  members: list[dict[str, Any]],
  baseline: dict[int, dict[str, Any]],
  num_classes: int,
) -> dict[str, Any]:
  """The row of a setting's members, each with its cross-entropy by seed."""
  chance = 1 / num_classes
  reference = [r["balanced_accuracy"] for r in baseline.values()]
  excess = sum(reference) / len(reference) - chance
  # Where cross-entropy itself is at chance, nothing can collapse.
  floor = chance + excess / 4 if excess > 0 else -math.inf

  accuracies = [m["accuracy"] for m in members]
  mean, deviation = statistics.mean_and_deviation(accuracies)
  balanced = [m["balanced_accuracy"] for m in members]
  bad_steps = [m["first_bad_step"] for m in members if m["first_bad_step"] >= 0]
  return {
    "setting": members[0]["setting"],
    "key": _key(members[0]["setting"], members[0]),
    "axes": {axis: members[0][axis] for axis in AXES if axis in members[0]},
    "seeds": len(members),
    "accuracy": mean,
    "deviation": deviation,
    "balanced_accuracy": sum(balanced) / len(balanced),
    "difference": statistics.paired_difference(
      accuracies, [baseline[m["seed"]]["accuracy"] for m in members]
    ),
    "collapsed": sum(b < floor for b in balanced),
    "not_finite": len(bad_steps),
    "bad_step": min(bad_steps, default=-1),
  }


def _verdict(row: dict[str, Any]) -> str:
  if row["not_finite"]:
    seeds = (
      ""
      if row["not_finite"] == row["seeds"]
      else f" ({row['not_finite']} of {row['seeds']} seeds)"
    )
    return f"not finite from step {row['bad_step']}{seeds}"
  if row["setting"] == _BASELINE:
    return "baseline"
  if row["collapsed"]:
    return "collapses"
  if not row["p_holm"] < 0.05:
    return "no difference shown"
  return "better" if row["difference"]["mean"] > 0 else "worse"


def _name(rows: list[dict[str, Any]]) -> None:
  """Adds each row's "label", with the values in which the rows differ."""
  differ = [axis for axis in AXES if len({row["axes"].get(axis) for row in rows}) > 1]
  noises = dict.fromkeys(row["axes"].get("label_noise", "") for row in rows)
  of_classes = [noise for noise in noises if ":" in noise]
  for row in rows:
    axes = {axis: row["axes"][axis] for axis in differ if axis in row["axes"]}
    # The table's head has all classes.
    if len(of_classes) == 1 and axes.get("label_noise") in of_classes:
      axes["label_noise"] = "classes"
    row["label"] = label(row["setting"], axes)
    row["with_hashes"] = label(row["setting"], axes, hashes=True)
  # Two versions of one file.
  times = collections.Counter(row["label"] for row in rows)
  for row in rows:
    with_hashes = row.pop("with_hashes")
    if times[row["label"]] > 1:
      row["label"] = with_hashes


def _describe_data(protocol: dict[str, Any]) -> str:
  """The data set and its options."""
  options = protocol.get("data_options", {})
  return ", ".join([protocol["data_set"], *(f"{k}={v}" for k, v in options.items())])


def format_table(
  rows: Sequence[dict[str, Any]], protocol: dict[str, Any], commit: str
) -> str:
  """Formats the protocol and the rows of `compare` as plain text."""
  source = protocol.get("provenance", {})

  def listed(axis):
    values = dict.fromkeys(row["axes"].get(axis, "unknown") for row in rows)
    return ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)

  head = [
    ("data set", _describe_data(protocol)),
    (
      "split",
      f"{protocol['validation_images']} validation images; test images are not used",
    ),
    (
      "training",
      f"{protocol['train_images']} images, {listed('epochs')} epochs, batches of "
      f"{listed('batch_size')}, learning rate {listed('learning_rate')}",
    ),
    ("network", protocol["network"]),
    ("seeds", ", ".join(sorted({str(row["seeds"]) for row in rows})) + " a setting"),
    ("hardware", source.get("hardware", "unknown")),
    ("command", source.get("command", "unknown")),
    ("commit", commit),
  ]
  if any("label_noise" in row["axes"] for row in rows):
    noises = [row["axes"].get("label_noise", "none") for row in rows]
    head.insert(3, ("labels", "noise: " + ", ".join(dict.fromkeys(noises))))
  width = max(len(row["label"]) for row in rows)
  lines = [f"{key:9} {value}" for key, value in head]
  title = (
    f"{'loss':{width}}  accuracy        balanced  difference [95 % interval]  "
    "p (Holm)  collapsed  verdict"
  )
  lines += ["", title, "-" * len(title)]
  for row in rows:
    d = row["difference"]
    if row["setting"] == _BASELINE or row["not_finite"]:
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
  if any(row["not_finite"] for row in rows):
    lines += [
      "A loss or gradient that is not finite changes nothing: the network is that of",
      "the other steps. Such a setting is not compared.",
    ]
  return "\n".join(lines) + "\n"


def format_csv(records: Sequence[dict[str, Any]]) -> str:
  """Writes one line per member."""
  arguments = sorted({k for r in records for k in r["setting"]} - {"loss"})
  # The first column holds the loss's name: a second one of that name would hide it.
  measures = ["validation_loss" if m == "loss" else m for m in _MEASURES]
  # Of wrong labels alone.
  some = [name for name in ("memorized",) if any(name in r for r in records)]
  rows = [["loss", *arguments, *AXES, "seed", *measures, *some]]
  for record in records:
    setting = record["setting"]
    rows.append(
      [
        setting["loss"],
        *(setting.get(name, "") for name in arguments),
        *(record.get(axis, "") for axis in AXES),
        record["seed"],
        *(record[name] for name in _MEASURES),
        *(record.get(name, "") for name in some),
      ]
    )
  return text_table.to_csv(rows)


def plot(
  rows: Sequence[dict[str, Any]], protocol: dict[str, Any], path: pathlib.Path
) -> None:
  """Plots differences from cross-entropy with their intervals, one row per setting."""
  others = [row for row in rows if row["setting"] != _BASELINE]
  colors = {
    "better": plotting.GREEN,
    "worse": plotting.ORANGE,
    "no difference shown": plotting.GRAY,
  }
  figure = plotting.new_figure(8.5, 1.6 + 0.22 * len(others))
  axis = figure.subplots()
  # A collapsed training would compress the scale of all others.
  shown = [row for row in others if row["verdict"] in colors]
  bounds = [100 * row["difference"][k] for row in shown for k in ("low", "high")]
  bounds = [b for b in bounds if math.isfinite(b)] or [-1.0, 1.0]
  low, high = min(*bounds, 0.0), max(*bounds, 0.0)
  space = 0.05 * (high - low) or 0.1
  axis.set_xlim(low - 3 * space, high + space)
  for y, row in enumerate(others):
    d = row["difference"]
    if row["verdict"] not in colors:
      collapse = (
        f"{100 * d['mean']:+.1f}, {row['collapsed']} of {row['seeds']} seeds collapse"
      )
      axis.text(
        low - 2.7 * space,
        y,
        "◀ " + (row["verdict"] if row["not_finite"] else collapse),
        va="center",
        fontsize=8,
        color=plotting.ORANGE,
      )
      continue
    color = colors[row["verdict"]]
    axis.plot([100 * d["low"], 100 * d["high"]], [y, y], color=color, linewidth=2)
    axis.plot(100 * d["mean"], y, "o", color=color, markersize=5)
  axis.axvline(0, color=plotting.GRAY, linewidth=1)
  axis.set_yticks(range(len(others)), [row["label"] for row in others], fontsize=8)
  axis.set_ylim(len(others) - 0.4, -0.6)
  axis.set_xlabel("accuracy minus cross-entropy's, points (95 % interval over seeds)")
  for verdict, color in colors.items():
    axis.plot([], [], "o-", color=color, label=verdict)
  axis.legend(
    frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1)
  )
  accuracies = [
    f"{100 * row['accuracy']:.1f} %{row['label'].removeprefix('cross_entropy')}"
    for row in rows
    if row["setting"] == _BASELINE
  ]
  figure.suptitle(
    plotting.wrap_title(
      f"{_describe_data(protocol)}: cross-entropy {', '.join(accuracies)}, "
      f"{protocol['train_images']:,} training images",
      8.5,
    ),
    fontsize=11,
  )
  plotting.clean(axis)
  plotting.save(figure, path)


def write(
  records: Sequence[dict[str, Any]], protocol: dict[str, Any], workdir: pathlib.Path
) -> str:
  """Writes results.csv, table.txt and ablation.png, and the curves by epoch.

  Args:
    records: one per member.
    protocol: the common protocol, with "num_classes".
    workdir: the folder.

  Returns:
    The table.
  """
  rows = compare(records, protocol["num_classes"])
  # A run that was resumed after a change of the code lists both.
  source = {"commit": "unknown", "hardware": "unknown"}
  source |= protocol.get("provenance", {})
  commits, hardware = (
    ", ".join(dict.fromkeys(record.get(key, source[key]) for record in records))
    for key in ("commit", "hardware")
  )
  protocol = dict(protocol, provenance=source | {"hardware": hardware})
  text = format_table(rows, protocol, commits)
  files.write_atomically(workdir / "results.csv", format_csv(records).encode())
  files.write_atomically(workdir / "table.txt", text.encode())
  plot(rows, protocol, workdir / "ablation.png")
  ablation_curves.write(
    [
      (row, [r for r in records if _key(r["setting"], r) == row["key"]]) for row in rows
    ],
    workdir,
  )
  return text
