"""Comparison table as text and CSV, and its curves."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from emosynth_jax.metrics import plots, statistics
from emosynth_jax.utils import plotting, text_table
from emosynth_jax.workdir import metric_writer, provenance
from experiments.lib.comparison_rows import MEASURES, Row, run_folder


def summarize_row(reports: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
  """Mean and standard deviation of each metric over seeds, on the reported split.

  Args:
    reports: of `evaluate.evaluate_run`, one per seed.

  Returns:
    By metric; in percent except "loss", macro means except "accuracy".
  """
  values: dict[str, list[float]] = {name: [] for name in MEASURES}
  for report in reports:
    split = list(report["splits"].values())[-1]
    values["accuracy"].append(100 * split["accuracy"])
    values["loss"].append(split["loss"])
    for name in ("precision", "recall", "f1"):
      values[name].append(100 * split["macro"][name])
  return {name: statistics.mean_and_deviation(v) for name, v in values.items()}


def format_markdown(
  title: str,
  rows: Sequence[Row],
  reports: Mapping[str, Sequence[dict[str, Any]]],
  protocol: Mapping[str, Any],
) -> str:
  """Formats the table as Markdown, claimed and measured."""
  lines = [f"# {title}", ""]
  lines += [f"- {key}: {value}" for key, value in protocol.items()]
  lines += [
    '- In percent, except the loss (the thesis\'s "error"). Measured on the split',
    "  above: mean over seeds, ± standard deviation where there are several; the epoch",
    "  was selected on validation.",
    "",
  ]
  columns = [f"{m}, {whose}" for m in MEASURES for whose in ("claimed", "measured")]
  table = [["row", *columns, "note"]]
  for row in rows:
    ours = summarize_row(reports[row.label]) if row.label in reports else {}
    cells = []
    for name in MEASURES:
      cells.append(f"{row.claimed[name]:.2f}" if name in row.claimed else "")
      cells.append(mean_text(ours[name]) if ours else "not run" if row.data else "")
    table.append([row.label, *cells, row.note])
  lines += text_table.markdown(table, left=(0, len(columns) + 1))
  return "\n".join(lines) + "\n"


def mean_text(figure: tuple[float, float] | None, digits: int = 2) -> str:
  """A mean ± its deviation, which a single value has not; "" for None."""
  if figure is None:
    return ""
  mean, deviation = (f"{number:.{digits}f}" for number in figure)
  return mean if math.isnan(figure[1]) else f"{mean} ± {deviation}"


def format_csv(
  rows: Sequence[Row], reports: Mapping[str, Sequence[dict[str, Any]]]
) -> str:
  """Writes one line per row: claimed, and measured with its standard deviation."""
  columns = [f"{m}_{k}" for m in MEASURES for k in ("claimed", "measured", "std")]
  lines: list[list[Any]] = [["row", "data", "variants", "seeds", *columns, "note"]]
  for row in rows:
    own = reports.get(row.label, [])
    ours = summarize_row(own) if own else {}
    cells: list[Any] = []
    for name in MEASURES:
      cells += [row.claimed.get(name, ""), *ours.get(name, ("", ""))]
    lines.append([row.label, row.data, row.variants, len(own), *cells, row.note])
  return text_table.to_csv(lines)


def plot_curves(
  rows: Sequence[Row],
  workdir: pathlib.Path,
  seeds: int,
  split: str,
  title: str,
  path: pathlib.Path,
) -> None:
  """Plots accuracy by epoch of every row, mean over seeds, as figures 3.8 to 3.11.

  Args:
    rows: those that were trained.
    workdir: holds the runs.
    seeds: number of seeds per row.
    split: "train" or "validation".
    title: of the plot.
    path: the PNG file.
  """
  figure = plotting.new_figure(8, 5)
  axis = figure.subplots()
  for i, row in enumerate(rows):
    # A run with early stopping is shorter: the mean covers the common epochs.
    runs = [_read_all_epochs(run_folder(workdir, row, seed)) for seed in range(seeds)]
    epochs, mean = plots.mean_series(runs, f"{split}/accuracy")
    style = ("-", "--", ":", "-.")[i // 8 % 4]
    axis.plot(epochs, 100 * mean, style, label=row.label, linewidth=1.6)
  axis.set_xlabel("epoch")
  axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
  axis.set_ylabel(f"{split} accuracy (%)")
  axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
  figure.suptitle(title, fontsize=11)
  plotting.clean(axis)
  plotting.save(figure, path)


def _read_all_epochs(folder: pathlib.Path) -> list[dict[str, Any]]:
  """A run's records, of which none may be missing: values are averaged by place."""
  path = folder / "metrics.jsonl"
  records = metric_writer.read_epochs(path)
  if not records:
    raise ValueError(f"{path} has no record of an epoch")
  if missing := metric_writer.missing_epochs(records):
    raise ValueError(f"{path} has no record of epochs {missing}")
  return records


def protocol(
  reports: Mapping[str, Sequence[dict[str, Any]]], scale: str, seeds: int
) -> dict[str, Any]:
  """Provenance of a table's runs, as label to value."""
  everything = [report for own in reports.values() for report in own]
  trained = [record for report in everything for record in report["trained_by"]]
  reported = [
    f"{report['data_set']}: {list(report['official_splits'].values())[-1]}, after "
    f"{report['epochs_trained']} epochs"
    for report in everything
  ]
  return {
    "scale": scale,
    "split": "; ".join(dict.fromkeys(reported)) or "not run",
    "seeds": ", ".join(map(str, range(seeds))),
    **{
      key: ", ".join(provenance.each_once(trained, key)) or "not run"
      for key in ("hardware", "command", "commit")
    },
  }
