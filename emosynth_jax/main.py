"""Trains a network, or evaluates one that was trained.

  python -m emosynth_jax.main --config=configs/synthetic_faces.py:small
  python -m emosynth_jax.main --config=configs/fer2013.py:mam --workdir=runs/mam
  python -m emosynth_jax.main --config=configs/fer2013.py:mam --workdir=runs/mam \\
      --mode=eval

The same command goes on where an interrupted run stopped. Settings are changed as in
--config.optimizer.learning_rate=3e-4; each config file names its variants, which
follow a colon and are joined by commas, as in fer2013.py:small,mam.

With --seeds=0,1,2 one seed runs after the other, and the end is each one's figures,
their mean and deviation; --compare=FOLDER sets them against those of another such
command, paired by seed.
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
  "name, variants and seed. With --seeds, the folder of seedN/, seeds.txt and "
  "seeds.json; by default the seeds lie where single runs do, and the two files in "
  "runs/...-seeds.",
)
_SEEDS = flags.DEFINE_list(
  "seeds", [], "Seeds to run one after the other, as 0,1,2, instead of config.seed."
)
_COMPARE = flags.DEFINE_string(
  "compare", None, "Folder with the seeds.json of another config, with --seeds."
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


def default_workdir(config_file: str, ending: str) -> pathlib.Path:
  """`runs/NAME-VARIANTS-ENDING` for `.../NAME.py:VARIANTS`."""
  file, _, variants = config_file.partition(":")
  parts = [pathlib.Path(file).stem, *filter(None, variants.split(",")), ending]
  return pathlib.Path("runs") / "-".join(parts)


def parse_seeds(texts: list[str]) -> list[int]:
  """The numbers of --seeds.

  Raises:
    ValueError: for one that is no number, or is there twice.
  """
  seeds = [int(text) if text.isdecimal() else -1 for text in map(str.strip, texts)]
  if min(seeds, default=0) < 0 or len(set(seeds)) < len(seeds):
    raise ValueError(
      f"--seeds: expected different whole numbers, as 0,1,2; got {','.join(texts)}"
    )
  return seeds


def main(argv: list[str]) -> None:
  """Runs the mode asked for."""
  if len(argv) > 1:
    fail(f"expected flags only, got the arguments {argv[1:]}")
  start_logging()
  use_compilation_cache()
  # After the flags: --help needs none of it.
  from emosynth_jax import checkpoints, default_config, epoch

  config = _CONFIG.value
  try:
    default_config.check_config(config)
    if seeds := parse_seeds(_SEEDS.value):
      _run_seeds(config, seeds)
    elif _COMPARE.value:
      raise ValueError("--compare: expected --seeds with it")
    else:
      _run_one(config, _workdir(f"seed{config.seed}"), began=_START)
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


def _workdir(ending: str) -> pathlib.Path:
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  return pathlib.Path(_WORKDIR.value or default_workdir(file, ending))


def _run_one(config, workdir, began=None):
  """The report; None where the training was stopped."""
  from emosynth_jax import evaluate, train

  if _MODE.value == "train" and not train.train(config, workdir, began=began):
    return None
  return evaluate.evaluate_run(config, workdir)


def _run_seeds(config, seeds):
  from emosynth_jax import results
  from emosynth_jax import seeds as several

  def workdir_of(seed):
    return _workdir("") / f"seed{seed}" if _WORKDIR.value else _workdir(f"seed{seed}")

  # What there is to compare with is looked for before hours of training.
  others = several.read_summary(_COMPARE.value) if _COMPARE.value else None
  reports = several.run_seeds(
    config, seeds, workdir_of, _run_one, again=_MODE.value == "eval"
  )
  if reports is None:
    return
  summary = several.summarize(reports, [workdir_of(seed) for seed in seeds])
  comparison = several.compare(summary, others) if others else None
  text = several.format_summary(summary, comparison, _COMPARE.value or "")
  folder = _workdir("seeds")
  results.write_report(folder / "seeds.json", summary | {"comparison": comparison})
  results.write_atomically(folder / "seeds.txt", text.encode())
  print(text, end="")


def run() -> None:
  """Entry point of the command line."""
  flags.mark_flag_as_required("config")
  app.run(main, flags_parser=parse_config_flags)


if __name__ == "__main__":
  run()
