"""Comparison tables: trains and evaluates each row, and lists the claimed results.

Every row is a run as by `emosynth_jax.main`, in its own folder under the table's, so
that an interrupted table resumes row by row, and tables that share a row share its run.
"""

import contextlib
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from absl import flags, logging

from emosynth_jax.training import epoch
from emosynth_jax.utils import cli, files
from experiments.lib import comparison_report, comparison_runs, engines
from experiments.lib.comparison_rows import Row
from experiments.lib.comparison_runs import Run

# The flags are registered for the main module, so that its --help lists them.
flags.disclaim_key_flags()


def run_rows(
  rows: Sequence[Row],
  workdir: pathlib.Path,
  *,
  seeds: int,
  scale: str,
  data_dir: str | None,
  options: engines.Options | None = engines.LOCAL,
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
    options: where, and which of the runs; None to train nothing.
    on_report: is called with the reports so far, of earlier commands and after each
      new one.

  Returns:
    The reports of each trained row by its label, one per seed; a run that was
    interrupted by a signal ends the command.
  """
  every = [
    Run(row, seed, scale, data_dir, workdir)
    for seed in range(seeds)
    for row in rows
    if row.data
  ]
  runs = {run.name: run for run in every}
  found = {name: run.finished_report() for name, run in runs.items()}
  if options is None:
    return _by_label(runs, found)

  todo = [name for name in engines.select_shard(list(runs), options) if not found[name]]
  finished = len(runs) - list(found.values()).count(None)
  logging.info(
    "%d of %d runs are finished; to run: %d.", finished, len(runs), len(todo)
  )

  def report() -> None:
    if on_report is not None:
      on_report(_by_label(runs, found))

  if finished:
    report()
  with _visible_workdir(workdir, options) as token:
    groups = {
      name: runs[name]._replace(
        token=token, is_begun=(runs[name].folder() / "config.json").exists()
      )
      for name in todo
    }
    for i, (name, (own, archive)) in enumerate(
      engines.run_groups(groups, comparison_runs.train, options), start=1
    ):
      if archive:
        comparison_runs.unpack(archive, runs[name].folder())
      found[name] = own
      logging.info("Finished %d of %d: %s.", i, len(todo), name)
      report()
  return _by_label(runs, found)


@contextlib.contextmanager
def _visible_workdir(workdir: pathlib.Path, options: engines.Options) -> Iterator[str]:
  """Context with the name of a file in the workdir, for workers to look for."""
  if options.engine == "local":
    yield ""
    return
  workdir.mkdir(parents=True, exist_ok=True)
  with tempfile.NamedTemporaryFile(dir=workdir, prefix=".driver-") as file:
    yield pathlib.Path(file.name).name


def _by_label(
  runs: Mapping[str, Run], found: Mapping[str, dict[str, Any] | None]
) -> dict[str, list[dict[str, Any]]]:
  """The reports of each row, in order of the seeds."""
  reports: dict[str, list[dict[str, Any]]] = {}
  for name, run in runs.items():
    if (report := found[name]) is not None:
      reports.setdefault(run.row.label, []).append(report)
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
  engines.define_flags("run")


def run(name: str, title: str, rows: Sequence[Row]) -> None:
  """Runs the command of a table.

  Args:
    name: of its files, as "table_3_3".
    title: of the table.
    rows: its lines.
  """

  def write(args: Any) -> None:
    seeds, scale = args.seeds, args.scale
    workdir, selection = workdir_of(args), selection_of(args)
    options = engines.options_of(args) if args.train else None
    reports = run_rows(rows, workdir, **selection, options=options)
    if options is not None and options.shard:
      return

    output = workdir / name
    text = comparison_report.format_markdown(
      title, rows, reports, comparison_report.protocol(reports, scale, seeds)
    )
    files.write_atomically(output / f"{name}.md", text.encode())
    files.write_atomically(
      output / f"{name}.csv", comparison_report.format_csv(rows, reports).encode()
    )

    # Curves of the rows that are complete, with --notrain perhaps not all.
    complete = [row for row in rows if len(reports.get(row.label, ())) == seeds]
    for data in dict.fromkeys(row.data for row in complete):
      own = [row for row in complete if row.data == data]
      for split in ("train", "validation"):
        curves_title = f"{data}, {split}, {scale} scale"
        path = output / f"{data}-{split}.png"
        comparison_report.plot_curves(own, workdir, seeds, split, curves_title, path)
    logging.info("The table and its curves are in %s.", output)
    print(text, end="")

  cli.run(define_flags, write, epoch.NonFiniteError)


def selection_of(args: Any) -> dict[str, Any]:
  """The arguments of `run_rows` in the flags."""
  return {name: getattr(args, name) for name in ("seeds", "scale", "data_dir")}


def workdir_of(args: Any) -> pathlib.Path:
  """The folder of the runs and tables."""
  return pathlib.Path(args.workdir or f"runs/tables-{args.scale}")
