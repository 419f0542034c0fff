"""Audits a data set: duplicates, label conflicts, class balance, damaged files.

  python -m emosynth_jax.audit --config=configs/fer2013.py --config.data.data_dir=data

Writes audit.json (with every group of duplicates), audit.txt and near_duplicates.png, a
contact sheet of pairs, those across splits first. Check it: config.data.near_duplicates
holds the thresholds, and data other than faces may need others. No data set is changed;
--config.data.drop_duplicates=True excludes near-duplicates from training, and
--config.evaluate_deduplicated=True from evaluation.
"""

import pathlib
from typing import Any

from absl import flags

from emosynth_jax.config import command_line
from emosynth_jax.utils import cli


def define_flags() -> None:
  """The flags of this command."""
  command_line.define_config(
    "Config file, with variants after a colon; its data set is audited."
  )
  command_line.define_data_dir()
  flags.DEFINE_string(
    "workdir", None, "Output folder of the audit. By default runs/DATA-audit."
  )
  flags.DEFINE_integer(
    "max_pairs", 60, "Maximum number of pairs on the contact sheet.", 1
  )


def audit_data(args: Any) -> None:
  """Audits the data set of --config."""
  from emosynth_jax import data
  from emosynth_jax.audit import audit
  from emosynth_jax.data.images import decoding

  decoding.log_warnings_by_file()
  config = command_line.config_of(args)
  data.check_options(config.data.name, config.data.options)
  name = pathlib.Path(config.data.name.partition(":")[0]).stem
  if name == "image_folder":
    name = pathlib.Path(config.data.data_dir).resolve().name
  workdir = pathlib.Path(args.workdir or f"runs/{name}-audit")
  audit.audit_config(config, workdir, max_pairs=args.max_pairs)


if __name__ == "__main__":
  cli.run(define_flags, audit_data, flags_parser=command_line.parse_config_flags)
