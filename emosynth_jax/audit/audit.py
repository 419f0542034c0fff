"""Audits a data set: duplicates, label conflicts, class balance, damaged files.

  python -m emosynth_jax.audit --config=configs/fer2013.py --config.data.data_dir=data

Writes audit.json (with every group of duplicates), audit.txt and twins.png, a contact
sheet of pairs, those across splits first. Look at it: config.data.twins holds the
thresholds, and data unlike faces may need others. No data set is changed;
--config.data.drop_duplicates=True makes a training leave twins out, and
--config.evaluate_without_twins=True an evaluation.
"""

import pathlib
import time
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from emosynth_jax import command_line


def audit_config(config: Any, workdir: pathlib.Path, *, max_pairs: int) -> dict:
  """Audits the data set of a config and writes what it finds.

  Args:
    config: a checked config.
    workdir: the folder for audit.json, audit.txt and twins.png.
    max_pairs: how many pairs the contact sheet shows.

  Returns:
    The report, as it is in audit.json; see `audit_report.describe_datasets`.

  Raises:
    ValueError: if the loader refuses the data. The files that can't be decoded are
      then in audit.json and audit.txt.
  """
  import numpy as np

  from emosynth_jax import (
    audit_report,
    contact_sheet,
    duplicates,
    experiment,
    results,
  )
  from emosynth_jax.data import unreadable_files

  workdir.mkdir(parents=True, exist_ok=True)
  # What training would leave out is part of what there is.
  config = config.copy_and_resolve_references()
  config.data.drop_duplicates = False
  began = time.monotonic()
  report = {
    "data_set": config.data.name,
    "config": config.to_dict()["data"],
    "audited_by": results.provenance(),
  }
  try:
    datasets = experiment.load_data(config, experiment.splits(config))
  except ValueError as error:
    logging.info("The loader refuses the data; looking for damaged files.")
    files = unreadable_files.find_unreadable(config.data.data_dir)
    report |= {"refused": str(error), "unreadable_files": files}
    results.write_report(workdir / "audit.json", report)
    text = "\n".join([f"refused: {error}", "", f"unreadable: {len(files)}", *files])
    results.write_atomically(workdir / "audit.txt", f"{text}\n".encode())
    if not files:
      raise
    raise ValueError(
      f"{error}. In all, {len(files)} files can't be decoded; {workdir / 'audit.txt'} "
      "names them"
    ) from error

  images = np.concatenate([dataset.images for dataset in datasets.values()])
  twins = duplicates.find_twins(images, **config.data.twins)
  report |= audit_report.describe_datasets(datasets, twins)
  report["unreadable_files"] = []
  report["seconds"] = round(time.monotonic() - began, 1)
  results.write_report(workdir / "audit.json", report)
  text = audit_report.format_report(report)
  results.write_atomically(workdir / "audit.txt", text.encode())
  pairs = contact_sheet.choose_pairs(datasets, twins, max_pairs)
  contact_sheet.draw_pairs(datasets, pairs, workdir / "twins.png")
  print(text, end="")
  logging.info("audit.json, audit.txt and twins.png are in %s.", workdir)
  return report


def main(argv: list[str]) -> None:
  """Audits the data set of --config."""
  command_line.expect_flags_only(argv)
  command_line.start_logging()
  from emosynth_jax import default_config

  given = flags.FLAGS
  name = config_flags.get_config_filename(given["config"]).partition(":")[0]
  workdir = pathlib.Path(
    given.workdir or pathlib.Path("runs") / f"{pathlib.Path(name).stem}-audit"
  )
  try:
    default_config.check_config(given.config)
    audit_config(given.config, workdir, max_pairs=given.max_pairs)
  except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
    if given.traceback:
      raise
    command_line.fail(error)


def define_flags() -> None:
  """The flags of this command; not at import, as other commands have some of them."""
  config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, with variants after a colon; its data part is audited.",
    lock_config=False,
    accept_new_attributes=True,
  )
  flags.DEFINE_string(
    "workdir", None, "Folder for what is found. By default runs/NAME-audit."
  )
  flags.DEFINE_integer("max_pairs", 60, "Pairs on the contact sheet.", 1)
  command_line.define_traceback()
  flags.mark_flag_as_required("config")


def run() -> None:
  """Entry point of the command line."""
  define_flags()
  app.run(main, flags_parser=command_line.parse_config_flags)


if __name__ == "__main__":
  run()
