"""Trains a network, or evaluates a trained one.

  python -m emosynth_jax.main --config=configs/synthetic_faces.py:small
  python -m emosynth_jax.main --config=configs/fer2013.py:mam --workdir=runs/mam
  python -m emosynth_jax.main --workdir=runs/mam --mode=eval

Rerun the same command to resume an interrupted run. Settings are overridden as in
--config.optimizer.learning_rate=3e-4; each config file documents its variants, which
follow a colon, separated by commas, as in fer2013.py:small,mam.

With --seeds=0,1,2 the seeds run one after the other, or concurrently on several GPUs or
TPUs, and the command reports the metrics of each, their mean and standard deviation;
--compare=FOLDER compares them with those of another such command, paired by seed.

A run is data-parallel over all devices. In a multi-process job each process is started
with the same command: see docs/guides/distributed.md.
"""

import contextlib
import functools
import os
import pathlib
import shlex
import sys
import time
import traceback

from absl import flags, logging
from ml_collections import config_flags

from emosynth_jax import __version__
from emosynth_jax.config import command_line, recipes
from emosynth_jax.utils import cli, errors, log_file, stop_signal

_START = time.monotonic()

command_line.define_config("Config file, with variants after a colon.")
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder for checkpoints, metrics and the report. By default runs/ followed by the "
  "config's name, variants and seed. With --seeds, the folder of seedN/, seeds.txt "
  "and seeds.json; by default each seed is in the folder of a single run, and the two "
  "files are in runs/...-seeds.",
)
command_line.define_data_dir()
_SEEDS = flags.DEFINE_list(
  "seeds",
  [],
  "Seeds to run instead of config.seed, for example 0,1,2. They run concurrently "
  "on several GPUs or TPUs, else sequentially.",
)
_COMPARE = flags.DEFINE_string(
  "compare",
  None,
  "With --seeds: folder with the seeds.json of another config, to compare with.",
)
_MODE = flags.DEFINE_enum(
  "mode",
  "train",
  ["train", "eval"],
  "train: train or resume training, then evaluate the best checkpoint. eval: only "
  "evaluate the best checkpoint in the workdir, of which --config may then be omitted.",
)
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  None,
  "Run as one of several processes of a training. Detected by default in a step "
  "of Slurm or Open MPI with several tasks, on a TPU pod of GKE, where "
  "JAX_COORDINATOR_ADDRESS is set, and with --coordinator_address; required on other "
  "TPU pods and on Kubernetes without TPUs.",
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
  "coordinator_address",
  None,
  "HOST:PORT of the first process, where no cluster manager provides it. Requires "
  "--num_processes and --process_id.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Number of processes of a run with --coordinator_address.", 1
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id",
  None,
  "Index of this process, from 0, in a run with --coordinator_address.",
  0,
)
cli.define_traceback()
cli.define_trust()

_OUT_OF_MEMORY = (
  "out of device memory ({}). Reduce config.batch_size and config.eval_batch_size, or "
  "set config.data.pipeline=grain or config.model.dtype=bfloat16; rerun to resume "
  "from the last checkpoint."
)


def default_workdir(config_file: str, ending: str) -> pathlib.Path:
  """`runs/NAME-VARIANTS-ENDING` for `.../NAME.py:VARIANTS`."""
  file, _, variants = config_file.partition(":")
  parts = [pathlib.Path(file).stem, *filter(None, variants.split(",")), ending]
  return pathlib.Path("runs") / "-".join(parts)


def parse_seeds(texts: list[str]) -> list[int]:
  """Parses the numbers of --seeds.

  Raises:
    ValueError: for a value that is not a number, or is given twice.
  """
  seeds = [int(text) if text.isdecimal() else -1 for text in map(str.strip, texts)]
  if min(seeds, default=0) < 0 or len(set(seeds)) < len(seeds):
    raise ValueError(
      "--seeds: expected distinct non-negative integers, for example 0,1,2; got "
      f"{','.join(texts)}"
    )
  return seeds


def main(argv: list[str]) -> None:
  """Runs the requested mode."""
  cli.expect_flags_only(argv)
  cli.start_logging()
  with stop_signal.StopSignal(ends_process=True) as stop:
    # In the phases without a training there is nothing to save.
    stop.at_once = lambda: None
    _run_mode(stop)
  if stop.number:
    import jax

    from emosynth_jax.parallel import distributed

    if distributed.is_joined():
      # The other processes are waited for only if they stop as well.
      if stop.by_all:
        jax.distributed.shutdown()
        os._exit(stop_signal.EXIT_CODE + stop.number)
      sys.exit(stop_signal.EXIT_CODE + stop.number)
    stop_signal.end_process(stop.number)


def _run_mode(stop: stop_signal.StopSignal) -> None:
  logging.info("emosynth_jax %s", __version__)
  cli.use_compilation_cache()
  # Imported after flag parsing: --help does not need it.
  from emosynth_jax.data import run_data
  from emosynth_jax.parallel import distributed, failures
  from emosynth_jax.training import build, epoch
  from emosynth_jax.workdir import own_parts

  with cli.mistakes_in_one_line(flags.FLAGS.traceback, epoch.NonFiniteError):
    config = command_line.config_of(flags.FLAGS)
    _join_job(config.batch_size)
    if distributed.is_joined():
      # The other processes have to hear of a stop.
      stop.at_once = None
    try:
      seeds = parse_seeds(_SEEDS.value)
      distributed.check_same(
        f"{_MODE.value} {seeds} {_COMPARE.value} {config.to_json()}", "the command"
      )
      # Training and evaluation, of all seeds, read the data once; a command that only
      # evaluates reads no training images.
      first = _workdir_of(seeds[0]) if seeds else _workdir(f"seed{config.seed}")
      own = own_parts.of_run(config, first)
      build.check_parts(own)
      run_one = functools.partial(_run_one, load=run_data.shared_loader(own))
      if seeds:
        _run_seeds(config, seeds, run_one, stop)
      elif _COMPARE.value:
        raise ValueError("--compare: requires --seeds")
      else:
        workdir = _workdir(f"seed{config.seed}")
        if run_one(config, workdir, began=_START, stop=stop) is not None:
          _log_next(workdir)
    except (RuntimeError, TimeoutError) as error:
      if flags.FLAGS.traceback:
        raise
      if failures.is_lost(error):
        cli.fail(failures.describe(error))
      if "RESOURCE_EXHAUSTED" in str(error):
        cli.fail(_OUT_OF_MEMORY.format(errors.reason_of(error)))
      raise


def _workdir(ending: str) -> pathlib.Path:
  file = recipes.typed(config_flags.get_config_filename(flags.FLAGS["config"]))
  return pathlib.Path(_WORKDIR.value or default_workdir(file, ending))


def _workdir_of(seed: int) -> pathlib.Path:
  """The workdir of one of several seeds."""
  return _workdir("") / f"seed{seed}" if _WORKDIR.value else _workdir(f"seed{seed}")


def _join_job(batch_size: int) -> None:
  """Connects to the other processes of the run, or divides the cores of a CPU."""
  from emosynth_jax.parallel import cpu_devices, distributed

  address = (_COORDINATOR_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  wanted = _DISTRIBUTED.value
  if wanted is None:
    wanted = distributed.is_cluster(os.environ) or address != (None, None, None)
  if wanted:
    distributed.initialize(*address)
  cpu_devices.split_cores(batch_size)
  distributed.check_joined()


def _run_one(config, workdir, *, load, **where):
  """Trains and evaluates; returns the report, or None if training was interrupted."""
  from emosynth_jax import evaluate, train_loop
  from emosynth_jax.parallel import distributed

  is_eval = _MODE.value == "eval"
  filename = config_flags.get_config_filename(flags.FLAGS["config"])
  # A recipe of the package is identified by its commit.
  file = None if recipes.typed(filename) != filename else filename.partition(":")[0]
  if not is_eval and not train_loop.train(
    config, workdir, load=load, config_file=file, **where
  ):
    return None
  with contextlib.ExitStack() as stack:
    if workdir.is_dir() and distributed.is_first():
      stack.enter_context(log_file.kept_in(workdir))
    logging.info("evaluating the best checkpoint of %s", workdir)
    return evaluate.evaluate_run(
      config,
      workdir,
      devices=where.get("devices"),
      load=load,
    )


def _run_seeds(config, seeds, run_one, stop):
  import jax

  from emosynth_jax.parallel import concurrent_runs, cpu_devices, distributed
  from emosynth_jax.training import seeds as training_seeds
  from emosynth_jax.utils import files
  from emosynth_jax.workdir import seed_summary

  def groups_of(count):
    # Each seed runs on all the cores of a CPU, as it does alone, and in a multi-process
    # job on all processes.
    on_cores = jax.default_backend() == "cpu" and not cpu_devices.chosen_by_user()
    if on_cores or jax.process_count() > 1:
      return ()
    return concurrent_runs.device_groups(
      jax.devices(), count, config.batch_size, config.mesh.model
    )

  # The comparison's folder is checked before hours of training.
  others = seed_summary.read_summary(_COMPARE.value) if _COMPARE.value else None
  reports = training_seeds.run_seeds(
    config,
    seeds,
    _workdir_of,
    run_one,
    again=_MODE.value == "eval",
    groups_of=groups_of,
    stop=stop,
  )
  if reports is None:
    return

  summary = seed_summary.summarize(reports, [_workdir_of(seed) for seed in seeds])
  comparison = seed_summary.compare(summary, others) if others else None
  text = seed_summary.format_summary(summary, comparison, _COMPARE.value or "")
  if not distributed.is_first():
    return

  folder = _workdir("seeds")
  files.write_report(folder / "seeds.json", summary | {"comparison": comparison})
  files.write_atomically(folder / "seeds.txt", text.encode())
  print(text, end="")
  _log_next(folder)


def _log_next(folder: pathlib.Path) -> None:
  """Logs what can be done with a finished run, or with the folder of its seeds."""
  from emosynth_jax.parallel import distributed

  if not distributed.is_first():
    return
  workdir = shlex.quote(f"--workdir={folder}")
  logging.info("HTML report: emosynth report %s", workdir)
  if not _SEEDS.value:
    logging.info("prediction: emosynth predict photo.jpg %s", workdir)


def run() -> None:
  """Entry point of the command line."""
  try:
    cli.run_app(
      _main_of_a_job, stops_at_once=False, flags_parser=command_line.parse_config_flags
    )
  finally:
    if {"--help", "-help"} & set(sys.argv[1:]):
      with contextlib.suppress(BrokenPipeError):
        _print_settings()


def _print_settings() -> None:
  """Prints all settings with their defaults, before the flags."""
  from emosynth_jax.config import defaults

  print(
    "\nSettings, with the package's defaults, which recipes change; `python -m "
    "emosynth_jax.config RECIPE` prints a recipe's and what they mean:\n"
  )
  for path, value in defaults.flatten(defaults.get_default_config().to_dict()).items():
    print(f"  --config.{path}={value}")
  print()


def _main_of_a_job(argv: list[str]) -> None:
  """Runs `main`; after a failure, exits without waiting for the job's other processes.

  Python's normal exit would wait: the others may be waiting for this one, or have
  exited.
  """
  try:
    main(argv)
  except BaseException as error:
    from emosynth_jax.parallel import distributed, failures

    if not distributed.is_joined():
      raise
    if isinstance(error, SystemExit):
      failures.leave(int(error.code or 0))
    traceback.print_exc()
    if isinstance(error, Exception):
      print(f"error: {failures.describe_own(error)}", file=sys.stderr)
    failures.leave(1)


if __name__ == "__main__":
  run()
