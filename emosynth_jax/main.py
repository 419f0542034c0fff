"""Trains a network, or evaluates one that was trained.

  python -m emosynth_jax.main --config=configs/synthetic_faces.py:small
  python -m emosynth_jax.main --config=configs/fer2013.py:mam --workdir=runs/mam
  python -m emosynth_jax.main --config=configs/fer2013.py:mam --workdir=runs/mam \\
      --mode=eval

The same command goes on where an interrupted run stopped. Settings are changed as in
--config.optimizer.learning_rate=3e-4; each config file names its variants, which
follow a colon and are joined by commas, as in fer2013.py:small,mam.
"""

import pathlib
import time

from absl import app, flags
from ml_collections import config_flags

from emosynth_jax.command_line import (
  fail,
  parse_config_flags,
  start_logging,
  use_compilation_cache,
)

_START = time.monotonic()

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "Config file, with variants after a colon.",
  # get_config leaves those parts open that take any argument, as a loss does.
  lock_config=False,
  accept_new_attributes=True,
)
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder for checkpoints, metrics and the report. By default runs/ and the config's "
  "name, variants and seed.",
)
_MODE = flags.DEFINE_enum(
  "mode",
  "train",
  ["train", "eval"],
  "train: train or go on training, then evaluate the best checkpoint. eval: only "
  "evaluate the best checkpoint in the workdir.",
)
_TRACEBACK = flags.DEFINE_bool(
  "traceback", False, "Show where in the code an error about the input came from."
)


def default_workdir(config_file: str, seed: int) -> pathlib.Path:
  """`runs/NAME-VARIANTS-seedN` for `.../NAME.py:VARIANTS`."""
  file, _, variants = config_file.partition(":")
  parts = [pathlib.Path(file).stem, *filter(None, variants.split(",")), f"seed{seed}"]
  return pathlib.Path("runs") / "-".join(parts)


def main(argv: list[str]) -> None:
  """Runs the mode asked for."""
  if len(argv) > 1:
    fail(f"expected flags only, got the arguments {argv[1:]}")
  start_logging()
  use_compilation_cache()
  # After the flags: --help needs none of it.
  from emosynth_jax import checkpoints, default_config, epoch, evaluate, train

  config = _CONFIG.value
  workdir = pathlib.Path(
    _WORKDIR.value
    or default_workdir(
      config_flags.get_config_filename(flags.FLAGS["config"]), config.seed
    )
  )
  try:
    default_config.check_config(config)
    if _MODE.value == "train" and not train.train(config, workdir, began=_START):
      return
    evaluate.evaluate_run(config, workdir)
  except (
    ValueError,
    TypeError,
    OSError,
    ModuleNotFoundError,
    checkpoints.CheckpointError,
    epoch.NonFiniteError,
  ) as error:
    if _TRACEBACK.value:
      raise
    fail(error)


def run() -> None:
  """Entry point of the command line."""
  flags.mark_flag_as_required("config")
  app.run(main, flags_parser=parse_config_flags)


if __name__ == "__main__":
  run()
