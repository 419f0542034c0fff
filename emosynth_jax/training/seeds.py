"""Runs several seeds of one config."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
from absl import logging

from emosynth_jax.config import defaults, renamed
from emosynth_jax.parallel import concurrent_runs, distributed
from emosynth_jax.training import epoch
from emosynth_jax.utils import files
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.utils.stop_signal import StopSignal
from emosynth_jax.workdir import report_fields, seed_summary


def run_seeds(
  config: ml_collections.ConfigDict,
  seeds: Sequence[int],
  workdir_of: Callable[[int], pathlib.Path],
  run_one: Callable[..., dict[str, Any] | None],
  *,
  again: bool = False,
  groups_of: Callable[[int], Sequence[list[Any]]] = lambda count: (),
  stop: StopSignal | None = None,
) -> list[dict[str, Any]] | None:
  """Runs seeds, sequentially or concurrently; for a finished one reads the report.

  Args:
    config: config of all runs, except the seed.
    seeds: distinct.
    workdir_of: a seed to its own workdir.
    run_one: `(config, workdir)` trains and evaluates in a workdir, and returns the
      report, or None if it was interrupted. Concurrent runs also get `devices` and
      `stop`, as `train_loop.train` takes them.
    again: reruns finished ones too.
    groups_of: a function of the number of seeds to groups of devices, each of which
      runs one seed at a time; with fewer than two groups the seeds run sequentially.
    stop: an entered stop signal of the caller, which `run_one` also gets; None for one
      of each training's own.

  Returns:
    The reports; None if a run was interrupted.

  Raises:
    ValueError: for a seed out of range, before any run.
  """
  configs = [config.copy_and_resolve_references() for _ in seeds]
  for own, seed in zip(configs, seeds, strict=True):
    own.seed = seed
    defaults.check_config(own)

  def one(own, **where):
    number, workdir = list(seeds).index(own.seed) + 1, workdir_of(own.seed)
    logging.info("Seed %d (%d of %d) in %s.", own.seed, number, len(seeds), workdir)
    return run_one(own, workdir, **where)

  reports: dict[int, dict[str, Any] | None] = {}
  waiting = []
  for own in configs:
    report = None if again else finished_report(own, workdir_of(own.seed))
    # In a multi-process job, a report that is missing in one process is recomputed by
    # all.
    if distributed.largest(report is None)[0]:
      waiting.append(own)
    else:
      reports[own.seed] = report
      logging.info("Seed %d in %s is already finished.", own.seed, workdir_of(own.seed))

  groups = groups_of(len(waiting)) if len(waiting) > 1 else ()
  if len(groups) > 1:
    found = concurrent_runs.run_concurrently(
      lambda own, devices, stop: one(own, devices=devices, stop=stop),
      {f"seed {own.seed}": own for own in waiting},
      groups,
      stop,
    )
    reports |= zip((own.seed for own in waiting), found, strict=True)
  else:
    for own in waiting:
      reports[own.seed] = one(own, **({} if stop is None else {"stop": stop}))
      if reports[own.seed] is None:
        break

  if None in reports.values():
    return None
  return [files.to_jsonable(reports[seed], "report") for seed in seeds]


def finished_report(
  config: ml_collections.ConfigDict, workdir: str | os.PathLike
) -> dict[str, Any] | None:
  """The report of a workdir whose run is complete with the config's settings.

  Args:
    config: a checked config.
    workdir: the run's folder.

  Returns:
    The report; None if there is none yet, or one that was written before the training's
    end, with other settings, or although predictions depended on the batch.
  """
  path = pathlib.Path(workdir) / "report.json"
  try:
    report = renamed.with_new_names(read_json(path))
    report_fields.check_report(report, f"{path} is damaged")
  except (FileNotFoundError, ValueError):
    return None

  wanted = seed_summary.settings_of(files.to_jsonable(config.to_dict()))
  is_finished = (
    seed_summary.settings_of(report["config"]) == wanted
    and report["batch_invariance"]["passed"]
    and epoch.is_last(report["epochs_trained"], report["best_epoch"], config)
  )
  return report if is_finished else None
