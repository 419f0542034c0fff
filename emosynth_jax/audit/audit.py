"""Audits the data set of a config."""

import pathlib
import time
from typing import Any

import numpy as np
from absl import logging

from emosynth_jax.audit import contact_sheet, findings
from emosynth_jax.data import duplicates, run_data
from emosynth_jax.data.datasets import fer_plus
from emosynth_jax.data.images import unreadable
from emosynth_jax.training.run_header import describe_splits
from emosynth_jax.utils import files as file_utils
from emosynth_jax.workdir import provenance


def audit_config(config: Any, workdir: pathlib.Path, *, max_pairs: int) -> dict:
  """Audits the data set of a config and writes the report.

  Args:
    config: a checked config.
    workdir: the folder for audit.json, audit.txt and near_duplicates.png.
    max_pairs: maximum number of pairs on the contact sheet.

  Returns:
    The report, as it is in audit.json; see `findings.describe_datasets`.

  Raises:
    ValueError: if the loader rejects the data. The files that cannot be decoded are
      then listed in audit.json and audit.txt.
  """

  logging.info(
    "auditing %s from %s, results in %s",
    config.data.name,
    config.data.data_dir,
    workdir,
  )
  # All images with the labels of their source: those that training would exclude, too.
  config = run_data.for_images(config)
  config.data.drop_duplicates = False
  config.data.folds.file = ""
  began = time.monotonic()
  report = {
    "data_set": config.data.name,
    "config": config.to_dict()["data"],
    "audited_by": provenance.provenance(),
  }

  try:
    datasets = run_data.load_data(config, run_data.splits(config))
  except ValueError as error:
    logging.info("The loader failed; searching for damaged files.")
    workdir.mkdir(parents=True, exist_ok=True)
    files = unreadable.find_unreadable(config.data.data_dir)
    (workdir / "near_duplicates.png").unlink(missing_ok=True)
    report |= {"refused": str(error), "unreadable_files": files}
    file_utils.write_report(workdir / "audit.json", report)
    text = "\n".join([f"refused: {error}", "", f"unreadable: {len(files)}", *files])
    file_utils.write_atomically(workdir / "audit.txt", f"{text}\n".encode())
    if not files:
      raise
    number = f"{len(files)} image file" + ("s" if len(files) > 1 else "")
    raise ValueError(
      f"{error}. By their names, {number} cannot be decoded, listed in "
      f"{workdir / 'audit.txt'}"
    ) from error

  # Before the search, which takes minutes.
  workdir.mkdir(parents=True, exist_ok=True)
  logging.info("data: %s", describe_splits(datasets))
  logging.info("searching for near-duplicates")
  images = np.concatenate([dataset.images for dataset in datasets.values()])
  found = duplicates.find_duplicates(images, **config.data.near_duplicates)
  report |= findings.describe_datasets(datasets, found)
  if config.data.name == "fer2013":
    report["fer_plus"] = fer_plus.compare_with_fer2013(config.data.data_dir)
  report["unreadable_files"] = []
  report["seconds"] = round(time.monotonic() - began, 1)
  file_utils.write_report(workdir / "audit.json", report)
  text = findings.format_report(report)
  file_utils.write_atomically(workdir / "audit.txt", text.encode())
  pairs = contact_sheet.choose_pairs(datasets, found, max_pairs)
  contact_sheet.draw_pairs(datasets, pairs, workdir / "near_duplicates.png")
  print(text, end="")
  logging.info("Wrote audit.json, audit.txt and near_duplicates.png to %s.", workdir)
  return report
