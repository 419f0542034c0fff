"""Comparison tables: trains and evaluates each row, and lists the claimed results.

Every row is a run as by `emosynth_jax.main`, in its own folder under the table's, so
that an interrupted table resumes row by row, and tables that share a row share its run.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

from emosynth_jax import evaluate, train_loop
from emosynth_jax.data import run_data
from emosynth_jax.training import epoch
from emosynth_jax.training import seeds as training_seeds
from emosynth_jax.utils import cli, files
from experiments.lib import comparison_report
from experiments.lib.comparison_rows import Row, build_config, run_folder

# The flags are registered for the main module, so that its --help lists them.
flags.disclaim_key_flags()


def run_rows(
  rows: Sequence[Row],
  workdir: pathlib.Path,
  *,
  seeds: int,
  scale: str,
  data_dir: str | None,
  on_report: Callable[[dict[str, list[dict[str, Any]]]], object] | None = None,
) -> dict[str, list[dict[str, Any]]]:
  """Trains and evaluates the missing runs.

  Args:
    rows: of the table.
    workdir: holds the runs.
    seeds: number of seeds per row, counted from 0. All rows of a seed run before the
      next seed, so that an incomplete table has pairs.
    scale: as `build_config` takes it.
    data_dir: as `build_config` takes it.
    on_report: is called with the reports so far after each new one.

  Returns:
    The reports of each trained row by its label, one per seed; a run that was
    interrupted by a signal ends the command.
  """
  todo = [(row, seed) for seed in range(seeds) for row in rows if row.data]
  reports: dict[str, list[dict[str, Any]]] = {}
  for i, (row, seed) in enumerate(todo, start=1):
    folder = run_folder(workdir, row, seed)
    config = build_config(row, seed, scale, data_dir)
    report = training_seeds.finished_report(config, folder)
    state = "to run" if report is None else "already finished"
    logging.info(
      "Run %d of %d: %s, seed %d, in %s: %s.",
      *(i, len(todo), row.label, seed, folder, state),
    )
    if report is None:
      load = run_data.share(config)
      if not train_loop.train(config, folder, load=load):
        raise SystemExit(1)
      report = files.to_jsonable(
        evaluate.evaluate_run(config, folder, load=load), "report"
      )
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
  """The existing reports of `run_rows`, with the same arguments."""
  reports: dict[str, list[dict[str, Any]]] = {}
  for row in rows:
    for seed in range(seeds) if row.data else ():
      config = build_config(row, seed, scale, data_dir)
      report = training_seeds.finished_report(config, run_folder(workdir, row, seed))
      if report is not None:
        reports.setdefault(row.label, []).append(report)
  return reports


def define_scale() -> None:
  """The flag --scale of the tables and figures."""
  flags.DEFINE_enum(
    "scale",
    "full",
    ["full", "small"],
    "full: the config's own network, for a GPU. small: subsets of the data, narrow "
    "networks and few epochs, for two CPU cores.",
  )


def define_flags(seeds: int = 3) -> None:
  """Defines the common flags of the tables; `seeds` is a flag's default."""
  define_scale()
  cli.define_seeds(seeds, "Seeds of each row.")
  flags.DEFINE_string(
    "data_dir", None, "Data set directory. By default the configs' own."
  )
  flags.DEFINE_string(
    "workdir",
    None,
    "Output folder. By default runs/tables-SCALE, shared by all tables.",
  )


def run(name: str, title: str, rows: Sequence[Row]) -> None:
  """Runs the command of a table.

  Args:
    name: of its files, as "table_3_3".
    title: of the table.
    rows: its lines.
  """

  def write(given: Any) -> None:
    seeds, scale = given.seeds, given.scale
    workdir = workdir_of(given)
    reports = run_rows(rows, workdir, **selection_of(given))
    output = workdir / name
    output.mkdir(parents=True, exist_ok=True)
    text = comparison_report.format_markdown(
      title, rows, reports, comparison_report.protocol(reports, scale, seeds)
    )
    files.write_atomically(output / f"{name}.md", text.encode())
    files.write_atomically(
      output / f"{name}.csv", comparison_report.format_csv(rows, reports).encode()
    )

    for data in dict.fromkeys(row.data for row in rows if row.data):
      own = [row for row in rows if row.data == data]
      for split in ("train", "validation"):
        curves_title = f"{data}, {split}, {scale} scale"
        path = output / f"{data}-{split}.png"
        comparison_report.plot_curves(own, workdir, seeds, split, curves_title, path)
    logging.info("The table and its curves are in %s.", output)
    print(text, end="")

  cli.run(define_flags, write, epoch.NonFiniteError)


def selection_of(given: Any) -> dict[str, Any]:
  """The arguments of `run_rows` in the flags."""
  return {name: given[name].value for name in ("seeds", "scale", "data_dir")}


def workdir_of(given: Any) -> pathlib.Path:
  """The folder of the runs and tables."""
  return pathlib.Path(given.workdir or f"runs/tables-{given.scale}")
