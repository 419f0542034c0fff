"""Tables 5.1 to 5.3: claimed results on a face data set, and two measured losses.

The network and the recipe are the same for both losses, and their runs are paired: a
pair shares the seed, and thus initialization and order of images, and on CK+ the fold.
The reported split is not used for selection, and each image is evaluated once, without
test-time augmentation.
"""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags, logging

from emosynth_jax.data import run_data
from emosynth_jax.training import epoch
from emosynth_jax.utils import cli, files
from emosynth_jax.utils.json_files import read_json
from experiments.lib import (
  comparison,
  comparison_report,
  comparison_rows,
  engines,
  face_report,
)
from experiments.lib.comparison_rows import Row
from experiments.lib.face_report import LOSSES, Run
from experiments.lib.literature import Claim

# The flags are registered for the main module, so that its --help lists them.
flags.disclaim_key_flags()


def measured_rows(
  data: str,
  *,
  folds: int = 0,
  settings: Mapping[str, Any] | None = None,
  init_from: str = "",
  deduplicated: bool = False,
) -> list[Row]:
  """Builds the rows to train.

  Args:
    data: stem of a file in configs/.
    folds: number of folds of the data set's cross-validation; 0 if there is none.
    settings: changes to the config for both losses.
    init_from: workdir of the run to start from; "{loss}" in it stands for the loss's
      variant, "{seed}" for the seed.
    deduplicated: as for `Row`.

  Returns:
    One row a loss and fold, the losses of a fold together.
  """
  rows = []
  for fold in range(folds) if folds else (None,):
    for loss, variant in LOSSES.items():
      own = dict(settings or {})
      if fold is not None:
        own["data.options.fold"] = fold
      if init_from:
        own["init_from"] = init_from.replace("{loss}", variant)
      label = loss if fold is None else f"{loss}, fold {fold}"
      rows.append(Row(label, data, variant, settings=own, deduplicated=deduplicated))
  return rows


def pretraining_rows(
  data_sets: Sequence[str], workdir: pathlib.Path
) -> tuple[list[Row], str]:
  """Builds the rows that train a network on one data set after the other.

  Each loss has a chain of its own: a run starts from the run of the same loss and seed
  on the data set before. The first is a run of that data set's own table.

  Args:
    data_sets: stems of files in configs/, in the order of training.
    workdir: holds the runs.

  Returns:
    The rows in the order of training, and the `init_from` of what comes after them.
  """
  rows: list[Row] = []
  init_from = ""
  for data in data_sets:
    rows += measured_rows(data, init_from=init_from, deduplicated=True)
    settings = {"init_from": init_from} if init_from else {}
    pattern = Row(data, data, "{loss}", settings=settings)
    init_from = str(comparison_rows.run_folder(workdir, pattern, "{seed}"))
  return rows, init_from


def collect(
  rows: Sequence[Row],
  reports: Mapping[str, Sequence[Mapping[str, Any]]],
  workdir: pathlib.Path,
) -> list[Run]:
  """Collects the runs of the rows.

  Args:
    rows: of `measured_rows`.
    reports: of `comparison.run_rows`.
    workdir: holds the runs.

  Returns:
    Runs in the order of the rows.

  Raises:
    ValueError: if the two runs of a pair had different data.
  """
  runs = []
  for row in rows:
    for report in reports.get(row.label, ()):
      fold = row.settings.get("data.options.fold")
      unit = f"seed {report['seed']}"
      unit = unit if fold is None else f"fold {fold}, {unit}"
      folder = comparison_rows.run_folder(workdir, row, report["seed"])
      runs.append(Run(row.label.partition(", fold")[0], unit, report, folder))
  data: dict[str, Any] = {}
  for run in runs:
    own = read_json(run.folder / "data.json")
    if data.setdefault(run.unit, own) != own:
      raise ValueError(
        f"{run.folder} was trained on different data than its pair: delete the older "
        "of the two, or use another --workdir"
      )
  return runs


def define_flags(seeds: int = 3, pretraining: Sequence[str] = ()) -> None:
  """Defines the flags of tables 5.1 to 5.3.

  Args:
    seeds: a flag's default.
    pretraining: stems of the files in configs/ that --pretrain accepts; without any,
      the table has no such flag.
  """
  if pretraining:
    flags.DEFINE_list(
      "pretrain",
      [],
      f"Data sets to train on before, in this order: {','.join(pretraining)} in the "
      "thesis. Their runs start from each other by loss and seed, and are those of "
      "their own tables in the same --workdir. The table's name then ends in "
      "_pretrained.",
    )
    flags.register_validator(
      "pretrain",
      lambda names: set(names) <= set(pretraining) and len(set(names)) == len(names),
      message=f"expected some of {', '.join(pretraining)}, each once",
    )
  flags.DEFINE_integer(
    "num_epochs", 0, "Maximum number of epochs; 0 for the scale's default.", 0
  )
  comparison.define_flags(seeds)


def write(
  name: str, title: str, claims: Sequence[Claim], data: str, args: Any, **rows: Any
) -> None:
  """Writes and prints a table.

  Args:
    name: of its files, as "table_5_1".
    title: of the table.
    claims: published results.
    data: stem of a file in configs/.
    args: the flags.
    **rows: further arguments of `measured_rows`.
  """
  settings = dict(rows.pop("settings", {}))
  if args.num_epochs:
    settings["num_epochs"] = args.num_epochs
  workdir, selection = comparison.workdir_of(args), comparison.selection_of(args)
  options = engines.options_of(args) if args.train else None

  before: list[Row] = []
  if names := "pretrain" in args and args.pretrain:
    if rows.get("init_from"):
      raise ValueError("--pretrain and --init_from exclude each other: give one")
    before, rows["init_from"] = pretraining_rows(names, workdir)
    name, title = f"{name}_pretrained", f"{title}, pretrained on {' and '.join(names)}"

  todo = measured_rows(data, settings=settings, **rows)
  text = write_table(
    *(name, title, claims, todo, workdir), before=before, options=options, **selection
  )
  print(text, end="")


def run(
  name: str,
  title: str,
  claims: Sequence[Claim],
  data: str,
  pretraining: Sequence[str] = (),
) -> None:
  """Runs the command of a table.

  Args:
    name: of its files, as "table_5_1".
    title: of the page.
    claims: published results.
    data: stem of the data set's file in configs/.
    pretraining: data sets that --pretrain may name, see `define_flags`.
  """
  define = functools.partial(define_flags, pretraining=pretraining)
  action = functools.partial(write, name, title, claims, data, deduplicated=True)
  cli.run(define, action, epoch.NonFiniteError)


def write_table(
  name: str,
  title: str,
  claims: Sequence[Claim],
  rows: Sequence[Row],
  workdir: pathlib.Path,
  *,
  seeds: int,
  scale: str,
  data_dir: str | None,
  before: Sequence[Row] = (),
  options: engines.Options | None = engines.LOCAL,
) -> str:
  """Trains the missing runs and rewrites the table after every run.

  If the data set is missing, the table has the runs finished before, and states it.

  Args:
    name: of the files, and of their folder in the workdir.
    title: of the table.
    claims: published results.
    rows: of `measured_rows`.
    workdir: holds the runs.
    seeds: as `comparison.run_rows` takes it, and so on.
    scale: likewise.
    data_dir: likewise.
    before: of `pretraining_rows`, which the rows start from.
    options: as `comparison.run_rows` takes it; None to train nothing.

  Returns:
    The table in Markdown; "" if only a shard of the runs was to be trained.
  """
  where: dict[str, Any] = {"seeds": seeds, "scale": scale, "data_dir": data_dir}

  def write(reports: Mapping[str, Sequence[Any]], not_run: str = "") -> str:
    runs = collect(rows, reports, workdir)
    folder = workdir / name
    config = comparison_rows.build_config(rows[0], 0, scale, data_dir)
    protocol = {
      "data set": f"{config.data.name}; the reported split was not used for selection",
      "epochs": f"at most {config.num_epochs}, batch {config.batch_size}",
      "class weights in the training loss": config.class_weights,
      "test-time augmentation": "none",
      **comparison_report.protocol(reports, scale, seeds),
      "batch invariance": face_report.describe_invariance(runs),
    }
    text = face_report.format_markdown(title, claims, runs, protocol, not_run)
    for file, content in (
      (f"{name}.md", text),
      (f"{name}.csv", face_report.format_csv(claims, runs)),
      (f"{name}_runs.csv", face_report.format_runs_csv(runs)),
    ):
      files.write_atomically(folder / file, content.encode())
    face_report.plot_pairs(
      runs, f"{title}, {scale} scale", folder / f"{name}_pairs.png"
    )
    logging.info("Finished %d of %d runs, in %s.", len(runs), len(rows) * seeds, folder)
    return text

  reports = comparison.run_rows(rows, workdir, **where, options=None)
  if options is not None and sum(map(len, reports.values())) < len(rows) * seeds:
    # One row a data set.
    for row in {row.data: row for row in (*before, rows[0])}.values():
      if missing := missing_data(row, scale, data_dir):
        return write(reports, missing)
    # One data set after the other: its runs start from those before.
    for data in dict.fromkeys(row.data for row in before):
      own = [row for row in before if row.data == data]
      found = comparison.run_rows(own, workdir, **where, options=options)
      if sum(map(len, found.values())) < len(own) * seeds:
        logging.info("Submit again when all runs on %s are finished.", data)
        return ""
    reports = comparison.run_rows(
      rows,
      workdir,
      **where,
      options=options,
      # Jobs of several shards would write one file.
      on_report=None if options.shard else write,
    )
  return "" if options is not None and options.shard else write(reports)


def missing_data(row: Row, scale: str, data_dir: str | None) -> str:
  """Reason why a row's data set cannot be read; "" if it can."""
  config = comparison_rows.build_config(row, 0, scale, data_dir)
  try:
    run_data.load_data(config, ("test",))
  except FileNotFoundError as error:
    return str(error)
  return ""
