"""Separation of several runs, side by side and paired by seed, as metrics and text."""

from collections.abc import Mapping, Sequence
from typing import Any

from emosynth_jax.analysis import cli
from emosynth_jax.metrics import statistics
from emosynth_jax.utils import text_table
from emosynth_jax.workdir import seed_summary

# The metrics by which networks are compared, invariant to the embeddings' scale: name
# in a text, number of decimals, unit.
METRICS = {
  "accuracy": ("accuracy", 4, ""),
  "silhouette": ("silhouette", 4, ""),
  "silhouette_macro": ("silhouette, mean of classes", 4, ""),
  "intra_inter_ratio": ("distance within / between classes", 4, ""),
  "fisher_ratio": ("Fisher ratio", 4, ""),
  "angle_to_own": ("angle to own class mean", 2, "°"),
  "angle_to_other": ("angle to nearest other mean", 2, "°"),
  "angular_margin": ("angular margin", 2, "°"),
  "nearest_own": ("share nearest to own mean", 4, ""),
  "center_angle": ("angle between nearest means", 2, "°"),
}


def group_runs(records: Sequence[Mapping[str, Any]]) -> list[list[int]]:
  """Groups runs that differ only in the seed.

  Args:
    records: of `command.embed_runs`.

  Returns:
    Indices of the runs of each kind, kinds and runs in the order given.

  Raises:
    ValueError: if one kind has a seed twice, or the runs were evaluated on different
      images, or have other labels or classes.
  """
  first = records[0]["settings"]
  cli.check_same_images([record["settings"] for record in records], "workdir")
  for record in records:
    settings = record["settings"]
    if record["class_names"] != records[0]["class_names"]:
      raise ValueError(
        f"--workdir: {settings['workdir']} has the classes "
        f"{', '.join(record['class_names'])}, {first['workdir']} has "
        f"{', '.join(records[0]['class_names'])}"
      )

  return seed_summary.group_by_settings(
    [record["config"] for record in records],
    [record["settings"]["workdir"] for record in records],
  )


def compare(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
  """Differences of each other kind of run from the first kind, paired by seed.

  Args:
    records: of `command.embed_runs`.

  Returns:
    For each other kind "name", "baseline", "differs_in" (names of settings), "seeds"
    (those that both have) and "figures": by name a `statistics.paired_difference`;
    empty without a common seed.

  Raises:
    ValueError: as `group_runs`.
  """
  groups = group_runs(records)

  def of_seed(group):
    return {records[i]["settings"]["training_seed"]: records[i] for i in group}

  baseline, comparisons = of_seed(groups[0]), []
  for group in groups[1:]:
    own = of_seed(group)
    seeds = [seed for seed in baseline if seed in own]
    old, new = (_kind(records[g[0]]) for g in (groups[0], group))
    figures = {
      metric: statistics.paired_difference(
        [_value(own[seed], metric) for seed in seeds],
        [_value(baseline[seed], metric) for seed in seeds],
      )
      for metric in (METRICS if seeds else ())
    }
    comparisons.append(
      {
        "name": records[group[0]]["name"],
        "baseline": records[groups[0][0]]["name"],
        "differs_in": sorted(
          key for key in old.keys() | new.keys() if old.get(key) != new.get(key)
        ),
        "seeds": seeds,
        "figures": figures,
      }
    )

  return comparisons


def format_runs(records: Sequence[Mapping[str, Any]]) -> str:
  """Formats the metrics of runs side by side, then by class.

  Args:
    records: of `command.embed_runs`, on the same images.

  Returns:
    Lines that end in a newline.
  """
  first = records[0]["settings"]
  official = f" ({first['official_split']})" if first["official_split"] else ""
  lines = [
    f"{first['data_set']}, {first['split']}{official}, {first['num_images']:,} of "
    f"{first['of']:,} images; embeddings of the best epoch, not projected"
  ]
  heads = [
    f"{r['name']}, seed {r['settings']['training_seed']}, epoch "
    f"{r['settings']['best_epoch']}"
    for r in records
  ]
  lines += [f"  {i}  {head}" for i, head in enumerate(heads, 1)]
  rows = [["", *map(str, range(1, len(records) + 1))]]
  rows += [
    [name, *(_number(metric, _value(r, metric)) for r in records)]
    for metric, (name, *_) in METRICS.items()
  ]
  rows += [
    [
      f"{method}: {name}",
      *(f"{float(r['projections'][method][name]):.3f}" for r in records),
    ]
    for method in records[0]["projections"]
    for name in records[0]["projections"][method]
  ]
  lines += ["", *text_table.align(rows)]

  for i, record in enumerate(records, 1):
    per_class = record["separation"]["per_class"]
    names = [record["class_names"][k] for k in per_class["label"]]
    columns = ("silhouette", "angle_to_own", "angle_to_other", "center_angle")
    rows = [[f"{i}: class", "images", *(METRICS[c][0] for c in columns)]]
    for j, name in enumerate(names):
      cells = (_number(c, float(per_class[c][j])) for c in columns)
      rows.append([name, f"{per_class['count'][j]:,}", *cells])
    lines += ["", *text_table.align(rows)]

  return "\n".join(lines) + "\n"


def format_comparison(comparisons: Sequence[Mapping[str, Any]]) -> str:
  """Formats the differences of `compare`; lines that end in a newline."""
  lines = []
  for one in comparisons:
    lines.append(
      f"{one['name']} minus {one['baseline']} (other settings: "
      f"{', '.join(one['differs_in'])})"
    )
    if not one["seeds"]:
      lines += ["  no common seed: no paired comparison", ""]
      continue

    lines.append(f"  paired by seeds {', '.join(map(str, one['seeds']))}")
    rows = [["  metric", "mean", "95 % interval"]]
    for metric, difference in one["figures"].items():
      low, high = (difference[k] for k in ("low", "high"))
      known = len(one["seeds"]) > 1
      ends = (_number(metric, end, "+") for end in (low, high))
      interval = " to ".join(ends) if known else "unknown"
      mean = _number(metric, difference["mean"], "+")
      rows.append([f"  {METRICS[metric][0]}", mean, interval])

    lines += text_table.align(rows)
    if len(one["seeds"]) == 1:
      lines.append("  One pair: no interval; the difference may be due to chance.")
    else:
      lines.append(
        "  Student's t intervals over seeds, not corrected for multiple comparisons: "
        "some exclude 0 by chance."
      )

    lines.append("")

  return "\n".join(lines)


def _kind(record: Mapping[str, Any]) -> dict[str, Any]:
  settings = seed_summary.settings_of(record["config"])
  return {path: value for path, value in settings.items() if path != "seed"}


def _value(record: Mapping[str, Any], name: str) -> float:
  # In JSON, NaN and infinity are text.
  return float(record["separation"][name])


def _number(metric: str, value: float, sign: str = "") -> str:
  _, digits, unit = METRICS[metric]
  return f"{value:{sign}.{digits}f}{unit}"
