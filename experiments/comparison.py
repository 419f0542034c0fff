"""Rows of a comparison table: train each, evaluate it, set it beside what was claimed.

Every row is a run of `emosynth_jax.main`'s own kind, in a folder of its own under the
table's, so that an interrupted table goes on where it stopped, row by row, and tables
that share a row share its run.
"""

import csv
import importlib
import io
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags, logging

from emosynth_jax import (
  command_line,
  default_config,
  epoch,
  evaluate,
  metric_writer,
  plots,
  results,
  statistics,
  train,
)
from emosynth_jax import seeds as several

_MEASURES = ("accuracy", "loss", "precision", "recall", "f1")


class Row(NamedTuple):
  """One line of a table.

  Attributes:
    label: how the table calls it.
    data: stem of a file in configs/, or "" for a row that is only quoted.
    variants: of that config: network and loss, as in "resnet50,mse".
    claimed: figures of the thesis, some of `_MEASURES`, in per cent but "loss".
    note: where the figure comes from, or a doubt about it.
    settings: further changes to the config, as {"data.options.fold": 3}; they are part
      of the folder's name.
    without_twins: whether the split is also evaluated without the images that have a
      twin in an earlier split.
  """

  label: str
  data: str = ""
  variants: str = ""
  claimed: Mapping[str, float] = {}
  note: str = ""
  settings: Mapping[str, Any] = {}
  without_twins: bool = False


def claimed(
  accuracy: float, error: float, precision: float, recall: float, f1: float
) -> dict[str, float]:
  """A line of tables 3.3 and 3.4, where F1 is a fraction and "error" the loss."""
  return {
    "accuracy": accuracy,
    "loss": error,
    "precision": precision,
    "recall": recall,
    "f1": 100 * f1,
  }


# What the small scale makes of a data set; the others have all of it in their configs.
_SMALL_EPOCHS = {"mnist": 4, "cifar10": 6, "svhn": 6}
_SMALL_IMAGES = {"mnist": 4000, "cifar10": 8000, "svhn": 8000}


def build_config(row: Row, seed: int, scale: str, data_dir: str | None):
  """The row's config at a scale.

  Args:
    row: of the table.
    seed: of the run.
    scale: "full" for the thesis's recipe, "small" for narrow networks and few epochs.
      Its comparison of networks has batch 96 and 50 epochs, or in the small scale a
      part of the images; on faces the config's own figures hold.
    data_dir: where the data sets lie; None for the config's own place.

  Returns:
    The config, checked.
  """
  module = importlib.import_module(f"configs.{row.data}")
  variants = [*row.variants.split(","), "small" if scale == "small" else ""]
  config = module.get_config(",".join(filter(None, variants)))
  config.seed = seed
  config.evaluate_without_twins = row.without_twins
  if row.data in _SMALL_EPOCHS:
    config.batch_size = 96 if scale == "full" else 64
    config.num_epochs = 50
    if scale == "small":
      config.num_epochs = _SMALL_EPOCHS[row.data]
      config.data.limit = _SMALL_IMAGES[row.data]
  for path, value in row.settings.items():
    part, _, key = path.rpartition(".")
    (default_config.get(config, part) if part else config)[key] = value
  if data_dir:
    config.data.data_dir = data_dir
  default_config.check_config(config)
  return config


def run_rows(
  rows: Sequence[Row],
  workdir: pathlib.Path,
  *,
  seeds: int,
  scale: str,
  data_dir: str | None,
  on_report: Callable[[dict[str, list[dict[str, Any]]]], object] | None = None,
) -> dict[str, list[dict[str, Any]]]:
  """Trains and evaluates what is not yet done.

  Args:
    rows: of the table.
    workdir: holds the runs.
    seeds: how many a row, counted from 0. The rows of one seed come before the next
      seed's, so that a table that is cut short has pairs.
    scale: as `build_config` takes it.
    data_dir: as `build_config` takes it.
    on_report: is given what there is whenever there is more of it.

  Returns:
    The reports of each trained row by its label, one a seed; a run that was stopped
    by a signal ends the command.
  """
  todo = [(row, seed) for seed in range(seeds) for row in rows if row.data]
  reports: dict[str, list[dict[str, Any]]] = {}
  for i, (row, seed) in enumerate(todo, start=1):
    folder = run_folder(workdir, row, seed)
    config = build_config(row, seed, scale, data_dir)
    report = several.finished_report(config, folder)
    state = "to run" if report is None else "finished before"
    logging.info(
      "Run %d of %d: %s, seed %d, in %s: %s.",
      *(i, len(todo), row.label, seed, folder, state),
    )
    if report is None:
      if not train.train(config, folder):
        raise SystemExit(1)
      report = results.to_jsonable(evaluate.evaluate_run(config, folder), "report")
    reports.setdefault(row.label, []).append(report)
    if on_report is not None:
      on_report(reports)
  return reports


def read_finished(
  rows: Sequence[Row],
  workdir: pathlib.Path,
  *,
  seeds: int,
  scale: str,
  data_dir: str | None,
) -> dict[str, list[dict[str, Any]]]:
  """The reports of `run_rows` that are there already; its arguments, too."""
  reports: dict[str, list[dict[str, Any]]] = {}
  for row in rows:
    for seed in range(seeds) if row.data else ():
      config = build_config(row, seed, scale, data_dir)
      report = several.finished_report(config, run_folder(workdir, row, seed))
      if report is not None:
        reports.setdefault(row.label, []).append(report)
  return reports


def run_folder(workdir: pathlib.Path, row: Row, seed: int) -> pathlib.Path:
  """Where a row's run of a seed lies."""
  parts = [row.data, *filter(None, row.variants.split(","))]
  for path, value in row.settings.items():
    # Of a path, the last part: the run itself remembers all of it.
    value = pathlib.PurePath(value).name if isinstance(value, str) else value
    parts.append(f"{path.rpartition('.')[2]}_{value}")
  return workdir / "-".join([*parts, f"seed{seed}"])


def summarize_row(reports: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
  """Mean and deviation over the seeds of each measure on the reported split.

  Args:
    reports: of `evaluate.evaluate_run`, one a seed.

  Returns:
    By name of the measure; per cent but "loss", macro means but "accuracy".
  """
  values: dict[str, list[float]] = {name: [] for name in _MEASURES}
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
  """The table in Markdown, claimed beside ours."""
  lines = [f"# {title}", ""]
  lines += [f"- {key}: {value}" for key, value in protocol.items()]
  lines += [
    '- Percentages, but the loss (the thesis\'s "error"). Ours: mean ± deviation over',
    "  the seeds, of the split named; the epoch was chosen on validation data.",
    "",
    "| row | "
    + " | ".join(f"{m}, claimed | {m}, ours" for m in _MEASURES)
    + " | note |",
    "|---|" + "---:|" * (2 * len(_MEASURES)) + "---|",
  ]
  for row in rows:
    ours = summarize_row(reports[row.label]) if row.label in reports else {}
    cells = []
    for name in _MEASURES:
      cells.append(f"{row.claimed[name]:.2f}" if name in row.claimed else "")
      cells.append(_measured(ours[name]) if ours else "not run" if row.data else "")
    lines.append(f"| {row.label} | {' | '.join(cells)} | {row.note} |")
  return "\n".join(lines) + "\n"


def _measured(figure: tuple[float, float]) -> str:
  mean, deviation = figure
  return f"{mean:.2f}" + (f" ± {deviation:.2f}" if deviation == deviation else "")


def format_csv(
  rows: Sequence[Row], reports: Mapping[str, Sequence[dict[str, Any]]]
) -> str:
  """One line a row: claimed, and ours with its deviation."""
  content = io.StringIO()
  writer = csv.writer(content, lineterminator="\n")
  columns = [f"{m}_{k}" for m in _MEASURES for k in ("claimed", "ours", "deviation")]
  writer.writerow(["row", "data", "variants", "seeds", *columns, "note"])
  for row in rows:
    own = reports.get(row.label, [])
    ours = summarize_row(own) if own else {}
    cells: list[Any] = []
    for name in _MEASURES:
      cells += [row.claimed.get(name, ""), *ours.get(name, ("", ""))]
    writer.writerow([row.label, row.data, row.variants, len(own), *cells, row.note])
  return content.getvalue()


def plot_curves(
  rows: Sequence[Row],
  workdir: pathlib.Path,
  seeds: int,
  split: str,
  title: str,
  path: pathlib.Path,
) -> None:
  """Accuracy by epoch of every row, the mean over seeds, as figures 3.8 to 3.11.

  Args:
    rows: those that were trained.
    workdir: holds the runs.
    seeds: how many a row.
    split: "train" or "validation".
    title: of the picture.
    path: the PNG file.
  """
  figure = plots.new_figure(8, 5)
  axis = figure.subplots()
  for i, row in enumerate(rows):
    curves = [
      [
        100 * record[f"{split}/accuracy"]
        for record in metric_writer.read_records(
          run_folder(workdir, row, seed) / "metrics.jsonl"
        )
      ]
      for seed in range(seeds)
    ]
    # A run that was stopped early is shorter: the mean goes as far as all of them.
    length = min(map(len, curves))
    mean = [sum(c[e] for c in curves) / len(curves) for e in range(length)]
    style = ("-", "--", ":", "-.")[i // 8 % 4]
    axis.plot(range(1, length + 1), mean, style, label=row.label, linewidth=1.6)
  axis.set_xlabel("epoch")
  axis.set_ylabel(f"{split} accuracy (%)")
  axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
  figure.suptitle(title, fontsize=11)
  plots.clean(axis)
  plots.save(figure, path)


def define_flags(seeds: int = 3) -> dict[str, Any]:
  """The flags that every table's command has; `seeds` is the default of one."""
  defined = {
    "scale": flags.DEFINE_enum(
      "scale",
      "full",
      ["full", "small"],
      "full: the thesis's recipe, for a GPU. small: parts of the data, narrow "
      "networks, few epochs, for two CPU cores.",
    ),
    "seeds": flags.DEFINE_integer("seeds", seeds, "Seeds a row, counted from 0.", 1),
    "data_dir": flags.DEFINE_string(
      "data_dir", None, "Where the data sets lie; by default where the configs say."
    ),
    "workdir": flags.DEFINE_string(
      "workdir",
      None,
      "Output folder. By default runs/tables-SCALE, which tables share.",
    ),
  }
  command_line.show_in_help(defined)
  return defined


def main(
  name: str, title: str, rows: Sequence[Row], given: Mapping[str, Any]
) -> Callable[[list[str]], None]:
  """The command of a table.

  Args:
    name: of its files, as "table_3_3".
    title: of the table.
    rows: its lines.
    given: of `define_flags`.

  Returns:
    A function for `absl.app.run`.
  """

  def write(workdir: pathlib.Path, where: Mapping[str, Any]) -> str:
    seeds, scale = where["seeds"], where["scale"]
    reports = run_rows(rows, workdir, **where)
    output = workdir / name
    output.mkdir(parents=True, exist_ok=True)
    text = format_markdown(title, rows, reports, protocol(reports, scale, seeds))
    results.write_atomically(output / f"{name}.md", text.encode())
    results.write_atomically(output / f"{name}.csv", format_csv(rows, reports).encode())
    for data in dict.fromkeys(row.data for row in rows if row.data):
      own = [row for row in rows if row.data == data]
      for split in ("train", "validation"):
        curves_title = f"{data}, {split}, {scale} scale"
        path = output / f"{data}-{split}.png"
        plot_curves(own, workdir, seeds, split, curves_title, path)
    logging.info("The table and its curves are in %s.", output)
    return text

  return command(write, given)


def command(
  write: Callable[[pathlib.Path, Mapping[str, Any]], str], given: Mapping[str, Any]
) -> Callable[[list[str]], None]:
  """What the tables' commands share: flags in, the table printed, errors as one line.

  Args:
    write: from the workdir and `run_rows`'s seeds, scale and data_dir to the table.
    given: of `define_flags`.

  Returns:
    A function for `absl.app.run`.
  """

  def run(argv: list[str]) -> None:
    command_line.expect_flags_only(argv)
    command_line.start_logging()
    command_line.use_compilation_cache()
    where = {name: given[name].value for name in ("seeds", "scale", "data_dir")}
    workdir = pathlib.Path(given["workdir"].value or f"runs/tables-{where['scale']}")
    with command_line.mistakes_in_one_line(False, epoch.NonFiniteError):
      text = write(workdir, where)
    print(text, end="")

  return run


def protocol(
  reports: Mapping[str, Sequence[dict[str, Any]]], scale: str, seeds: int
) -> dict[str, Any]:
  """By what the runs of a table were made, as label to value."""
  everything = [report for own in reports.values() for report in own]
  trained = [record for report in everything for record in report["trained_by"]]

  def each_once(key: str) -> str:
    return ", ".join(dict.fromkeys(str(record[key]) for record in trained)) or "not run"

  reported = [
    f"{report['data_set']}: {list(report['official_splits'].values())[-1]}, after "
    f"{report['epochs_trained']} epochs"
    for report in everything
  ]
  return {
    "scale": scale,
    "split": "; ".join(dict.fromkeys(reported)) or "not run",
    "seeds": ", ".join(map(str, range(seeds))),
    "hardware": each_once("hardware"),
    "command": each_once("command"),
    "commit": each_once("commit"),
  }
