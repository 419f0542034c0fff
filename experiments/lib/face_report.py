"""Tables 5.1 to 5.3 as text, CSV and plot: claimed and measured."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from emosynth_jax.data.images import pixel_form
from emosynth_jax.metrics import statistics
from emosynth_jax.metrics.table import describe_split
from emosynth_jax.utils import plotting, text_table
from emosynth_jax.workdir import seed_summary
from experiments.lib import comparison_report
from experiments.lib.literature import Claim

# The baseline first: differences are the second minus the first.
LOSSES = {"cross-entropy": "ce", "MAM-SoftMax + SCE": "mam_sce"}

_METRICS = ("accuracy", "deduplicated accuracy", "balanced accuracy", "macro F1")
# The two metrics with columns and a paired comparison.
_COMPARED = _METRICS[:2]


class Run(NamedTuple):
  """A finished run.

  Attributes:
    loss: a key of `LOSSES`.
    unit: key of its pair, as "seed 0" or "fold 3, seed 0".
    report: of `evaluate.evaluate_run`.
    folder: its workdir.
  """

  loss: str
  unit: str
  report: Mapping[str, Any]
  folder: pathlib.Path

  @property
  def split(self) -> tuple[str, Mapping[str, Any]]:
    """Name of the reported split."""
    return list(self.report["splits"].items())[-1]

  @property
  def metrics(self) -> dict[str, float]:
    """Metrics in percent, those of `_METRICS` that the report has."""
    found = seed_summary.metrics_of(self.split[1])
    return {label: 100 * found[label] for label in _METRICS if label in found}


def mean_of(runs: Sequence[Run], loss: str, metric: str) -> tuple[float, float] | None:
  """Mean and standard deviation over a loss's runs; None if some lack the metric."""
  values = [run.metrics.get(metric, math.nan) for run in runs if run.loss == loss]
  if not values or any(map(math.isnan, values)):
    return None
  return statistics.mean_and_deviation(values)


def pairs_of(runs: Sequence[Run], metric: str) -> dict[str, tuple[float, float]]:
  """The metric of both losses by pair; the baseline first."""
  values: dict[str, dict[str, float]] = {}
  for run in runs:
    if metric in run.metrics:
      values.setdefault(run.unit, {})[run.loss] = run.metrics[metric]
  baseline, ours = LOSSES
  return {
    unit: (own[baseline], own[ours]) for unit, own in values.items() if len(own) == 2
  }


def format_markdown(
  title: str,
  claims: Sequence[Claim],
  runs: Sequence[Run],
  protocol: Mapping[str, Any],
  not_run: str = "",
) -> str:
  """Formats the table, every run's metrics, and the paired differences.

  Args:
    title: of the table.
    claims: published results.
    runs: measured runs.
    protocol: label to value, printed above the table.
    not_run: reason why runs are missing.

  Returns:
    Markdown.
  """
  lines = [f"# {title}", "", *(f"- {key}: {text}" for key, text in protocol.items())]
  columns = "method|source|claimed|measured|deduplicated|protocol|pretrained|caveats"
  lines += [
    "",
    'Accuracy in percent. "Claimed" is the published result, under its own protocol;',
    '"measured" is the mean ± standard deviation over the runs below. Only results',
    "under the same protocol are comparable.",
    "",
  ]
  rows = [
    [
      *(c.method, c.source, f"{c.accuracy:.2f}", "", ""),
      *(c.protocol, c.pretrained, c.caveats),
    ]
    for c in claims
  ]
  rows = [columns.split("|"), *rows, *_our_cells(runs, not_run)]
  lines += text_table.markdown(rows, left=(0, 1, 5, 6, 7))
  if not_run:
    lines += ["", f"Not run: {not_run}"]
  if runs:
    lines += ["", "## Runs", "", *_run_lines(runs)]
    lines += ["", "## Paired differences", "", *_paired_lines(runs)]
  return "\n".join(lines) + "\n"


def _our_cells(runs, not_run) -> list[list[str]]:
  rows = []
  for loss in LOSSES:
    own = [run for run in runs if run.loss == loss]
    cells = [f"EmoSynthNet, {loss}", "this table's command", ""]
    if not own:
      reason = "data set missing, see below" if not_run else "not yet run"
      rows.append([*cells, "not run", "", "", "", reason])
      continue
    metrics = [
      comparison_report.mean_text(mean_of(runs, loss, metric)) for metric in _COMPARED
    ]
    (name, summary), report = own[0].split, own[0].report
    official = report["official_splits"][name]
    where = describe_split(name, official)
    where += f", {summary['num_examples']:,} images"
    # Reports of earlier runs do not record the form.
    if counts := report.get("pixel_forms", {}).get(name):
      where += f", pixel form: {pixel_form.describe_counts(counts)}"
    if official.startswith("fold "):  # "fold 3 of 0..9, by subject"
      where = f"one fold per run, {official.partition(', ')[2]}"
    start = report["config"]["init_from"]
    rows.append(
      [
        *cells,
        *metrics,
        f"{where}; epoch chosen by {report['chosen_on']}",
        f"yes, from {pathlib.PurePath(start).name}" if start else "no",
        f"{len(own)} run{'s' if len(own) > 1 else ''}, "
        f"{report['num_parameters']:,} parameters",
      ]
    )
  return rows


def _run_lines(runs) -> list[str]:
  """A table of all runs by pair, with their differences."""
  shown = [f for f in _COMPARED if any(f in run.metrics for run in runs)]
  units = list(dict.fromkeys(run.unit for run in runs))
  values = {(run.unit, run.loss): run.metrics for run in runs}
  header = ["run"]
  for metric in shown:
    header += [f"{metric}, {loss}" for loss in LOSSES] + ["difference"]
  rows = [header]
  for unit in units:
    cells = [unit]
    for metric in shown:
      pair = [values.get((unit, loss), {}).get(metric) for loss in LOSSES]
      cells += ["" if value is None else f"{value:.2f}" for value in pair]
      cells.append("" if None in pair else f"{pair[1] - pair[0]:+.2f}")
    rows.append(cells)
  return text_table.markdown(rows)


def _paired_lines(runs) -> list[str]:
  baseline, ours = LOSSES
  lines = [f"{ours} minus {baseline}, in percentage points:", ""]
  for metric in _COMPARED:
    pairs = list(pairs_of(runs, metric).values())
    if not pairs:
      continue
    difference = paired_difference(pairs)
    text = f"- {metric}: {difference['mean']:+.2f}"
    if len(pairs) == 1:
      lines.append(
        f"{text}, one pair: no interval; the difference may be due to chance"
      )
      continue
    test = statistics.describe_p_value(difference["p_value"])
    low, high = difference["low"], difference["high"]
    lines.append(
      f"{text}, 95 % interval {low:+.2f} to {high:+.2f}, {test} ({len(pairs)} pairs)"
    )
  if len(lines) == 2:
    return ["No complete pair."]
  lines += [
    "",
    "Student's t interval and two-sided test. They cover the variation over these "
    "runs,",
    "not the sampling of test images. Accuracy is the primary metric of the "
    "comparison;",
    "deduplicated accuracy is a check of it.",
  ]
  if any("fold" in run.unit for run in runs):
    lines += [
      "The folds share training images, so the interval is too narrow and only",
      "descriptive.",
    ]
  return lines


def paired_difference(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
  """`statistics.paired_difference` of the second minus the first of each pair."""
  baseline, ours = zip(*pairs, strict=True)
  return statistics.paired_difference(ours, baseline)


def format_csv(claims: Sequence[Claim], runs: Sequence[Run]) -> str:
  """Writes one line per row of the table."""
  rows: list[list[Any]] = [
    [
      *("method", "source", "claimed", "measured", "std", "runs"),
      *("deduplicated", "deduplicated_std"),
      *("protocol", "pretrained", "caveats"),
    ]
  ]
  for c in claims:
    own = (c.method, c.source, c.accuracy, *[""] * 5)
    rows.append([*own, c.protocol, c.pretrained, c.caveats])
  # As in the Markdown, with all digits.
  for loss, cells in zip(LOSSES, _our_cells(runs, ""), strict=True):
    accuracy, rest = (
      # A single run has no deviation.
      ["" if math.isnan(value) else value for value in mean_of(runs, loss, f) or ()]
      or ["", ""]
      for f in _COMPARED
    )
    number = sum(run.loss == loss for run in runs)
    rows.append([*cells[:3], *accuracy, number, *rest, *cells[5:]])
  return text_table.to_csv(rows)


def format_runs_csv(runs: Sequence[Run]) -> str:
  """Writes one line per run: metrics of every seed and fold, in percent."""
  columns = [metric.replace(" ", "_") for metric in _METRICS]
  rows: list[list[Any]] = [
    ["loss", "run", *columns, "images_removed", "best_epoch", "batch_invariant"]
  ]
  for run in runs:
    rest = run.split[1].get("deduplicated") or {}
    rows.append(
      [
        run.loss,
        run.unit,
        *(run.metrics.get(metric, "") for metric in _METRICS),
        rest.get("num_left_out", ""),
        run.report["best_epoch"],
        run.report["batch_invariance"]["passed"],
      ]
    )
  return text_table.to_csv(rows)


def plot_pairs(runs: Sequence[Run], title: str, path: pathlib.Path) -> bool:
  """Plots paired differences with their mean and 95 % confidence interval, as PNG.

  Args:
    runs: of both losses.
    title: of the plot.
    path: the file.

  Returns:
    Whether there was a pair to plot.
  """
  found = {metric: pairs_of(runs, metric) for metric in _COMPARED}
  found = {metric: pairs for metric, pairs in found.items() if pairs}
  if not found:
    return False
  baseline, ours = LOSSES
  figure = plotting.new_figure(8, 1.6 + 0.28 * max(map(len, found.values())))
  axes = figure.subplots(1, len(found), squeeze=False, sharex=True, sharey=True)[0]
  for axis, (label, pairs) in zip(axes, found.items(), strict=True):
    places = range(len(pairs))
    values = [theirs[1] - theirs[0] for theirs in pairs.values()]
    axis.axvline(0, color=plotting.GRAY, linewidth=1)
    axis.plot(values, places, "o", color=plotting.BLUE)
    difference = paired_difference(list(pairs.values()))
    mean, place = difference["mean"], len(pairs)
    reach = [mean - difference["low"]] if len(pairs) > 1 else None
    axis.errorbar(
      [mean], [place], xerr=reach, fmt="D", color=plotting.ORANGE, capsize=4
    )
    name = "mean, 95 %\ninterval" if reach else "mean"
    axis.set_yticks([*places, place], [*pairs, name])
    axis.set_xlabel(f"{label},\n{ours} minus {baseline} (points)")
    plotting.clean(axis)
  axes[0].invert_yaxis()
  figure.suptitle(title, fontsize=11)
  plotting.save(figure, path)
  return True


def describe_invariance(runs: Sequence[Run]) -> str:
  """Returns whether all runs passed the batch invariance test."""
  failed = [
    run.folder.name for run in runs if not run.report["batch_invariance"]["passed"]
  ]
  if failed:
    return f"FAILED in {', '.join(failed)}: these results are invalid"
  return f"passed in all {len(runs)} runs" if runs else "not run"
