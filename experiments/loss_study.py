"""Study of margins and losses on seven classes, on all of FER-2013.

  python -m experiments.loss_study --stage=rates --data_dir=data/fer2013.csv
  python -m experiments.loss_study --stage=screen --data_dir=data/fer2013.csv
  python -m experiments.loss_study --stage=full --data_dir=data/fer2013.csv
  python -m experiments.loss_study --stage=fer_plus --data_dir=data
  python -m experiments.loss_study --stage=cifar10 --data_dir=data/tfds
  python -m experiments.loss_study --stage=report

Each stage trains FerVGG at an eighth of its width on two CPU cores, and writes
loss_study.md and loss_study.json into the study's folder; rerun a command to resume.
Runs that loss_study.json has are not trained again, also where their folders are gone.
Stages: "rates" gives each loss its learning rate on held-out training images; "screen"
trains cross-entropy at full length, which has to reach 60 %, and then all losses with
two seeds; "full" trains cross-entropy, the thesis's losses and the five best of the
screening until the intervals are narrow enough; "fer_plus" and "cifar10" train these on
other data with three seeds, and need "rates" and "screen". Cross-entropy and the
thesis's losses need their own rates alone, and can be trained before the screening:

  python -m experiments.loss_study --stage=full --losses=cross_entropy,mam_softmax

A run with a non-finite loss counts as diverged, and so does one that has collapsed.
docs/notes/loss_study.md is the protocol.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import flags, logging

from emosynth_jax import evaluate
from emosynth_jax.analysis import trained_run
from emosynth_jax.analysis.curvature import sharpness
from emosynth_jax.analysis.embeddings import embeddings, separation
from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.data import run_data
from emosynth_jax.metrics import batch_invariance, calibration
from emosynth_jax.parallel import mesh
from emosynth_jax.training import epoch, restore, seeds
from emosynth_jax.utils import cli, errors, files
from experiments.lib import (
  loss_study,
  loss_study_claims,
  loss_study_records,
  loss_study_report,
)
from experiments.lib.trainer import train_to_end

# Where a stage's data is, unless --data_dir says so.
_DATA_DIRS = {"fer_plus": "data", "cifar10": "data/tfds"}
_FER2013 = "data/fer2013.csv"
# Cross-entropy of the fixed training images at which sharpness is compared.
SHARPNESS_LOSS = 1.1


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_enum(
    "stage",
    "report",
    ["rates", "screen", *loss_study.COMPARISONS, "report"],
    "Stage of the study: screen needs rates, and the others need both, except for the "
    "losses that the screening does not choose. report: only write the tables.",
  )
  flags.DEFINE_string(
    "data_dir",
    "",
    "fer2013.csv, FER-2013's original pixels; in the stages fer_plus and cifar10 that "
    f"data set's folder. Empty: {_FER2013}; "
    + ", ".join(f"{folder} for {stage}" for stage, folder in _DATA_DIRS.items())
    + ".",
  )
  flags.DEFINE_string("workdir", "runs/loss_study", "Folder of the study.")
  flags.DEFINE_float("width", 0.125, "Width of FerVGG.", 0.0)
  flags.DEFINE_integer(
    "epochs",
    0,
    "Number of epochs instead of the stage's, for a rehearsal; 0: no change.",
    0,
  )
  flags.DEFINE_integer(
    "limit", 0, "Number of images in each split, for a rehearsal; 0: all.", 0
  )
  flags.DEFINE_list(
    "losses",
    [],
    "Losses to train, of those that the stage has; all if empty. A rehearsal has these "
    "alone.",
  )


def train(runs: list[loss_study.Run], args: Any) -> None:
  """Trains the runs that are not there yet; a training that diverges is recorded."""
  workdir = pathlib.Path(args.workdir)
  done = loss_study_records.read_results(workdir, runs)
  loads: dict[str, Any] = {}
  for number, run in enumerate(runs, start=1):
    folder = workdir / run.folder
    config = loss_study.build_config(
      run,
      data_dir=args.data_dir or _DATA_DIRS.get(run.stage, _FER2013),
      width=args.width,
      epochs=args.epochs,
      limit=args.limit,
    )
    if run in done and loss_study_records.is_complete(run, done[run]):
      # A folder may be of other settings, which the training refuses.
      has_report = (folder / "report.json").is_file()
      diverged = done[run]["state"] == "diverged"
      if (
        diverged or not has_report or seeds.finished_report(config, folder) is not None
      ):
        continue
    logging.info("Run %d of %d: %s.", number, len(runs), run.folder)

    # All runs of a stage read the data once.
    load = loads.setdefault(run.stage, run_data.shared_loader(config))
    try:
      train_to_end(config, folder, load=load)
      evaluate.evaluate_run(config, folder, load=load)
      if run.stage in loss_study.COMPARISONS:
        secondary = measure_secondary(config, folder, load)
        files.write_report(folder / loss_study_records.SECONDARY, secondary)
      if run.stage == "full" and run.loss in loss_study.MEASURED_SHARPNESS:
        files.write_report(
          folder / loss_study_records.SHARPNESS, measure_sharpness(folder)
        )
    except (epoch.NonFiniteError, batch_invariance.BatchDependenceError) as error:
      logging.warning("%s diverged: %s", run.folder, error)
      files.write_report(folder / "diverged.json", {"error": str(error)})
    loss_study_report.write_report(workdir, _settings(args))


def measure_secondary(
  config: Any, folder: pathlib.Path, load: Callable[..., run_data.RunData]
) -> dict[str, float]:
  """Measures a finished run's test split as the protocol's secondary metrics say.

  Args:
    config: the run's.
    folder: its workdir.
    load: of `run_data.shared_loader`.

  Returns:
    "calibrated_loss", the negative log-likelihood with the temperature of the
    validation split; "silhouette" and "angular_margin" (degrees) of the embeddings.
  """
  placement = mesh.build_placement(config.mesh.model)
  splits = ("validation", "test")
  best = restore.load_best(
    config, folder, splits, load=functools.partial(load, placement, splits)
  )
  apply_fn = gradcam_network.apply_fn_of(best.experiment, modules=False)
  (_, fitted_on), (found, logits) = (
    embeddings.compute_embeddings(
      apply_fn,
      best.state.evaluation_variables,
      best.state.input_scale,
      best.datasets[split].images,
      preprocess=best.experiment.preprocess,
    )
    for split in splits
  )

  labels = {split: best.datasets[split].labels for split in splits}
  temperature = calibration.fit_temperature(fitted_on, labels["validation"]).temperature
  separated = separation.separation(found, labels["test"])
  return {
    "calibrated_loss": calibration.negative_log_likelihood(
      logits, labels["test"], temperature
    ),
    **{measure: separated[measure] for measure in ("silhouette", "angular_margin")},
  }


def measure_sharpness(folder: pathlib.Path) -> dict[str, float]:
  """Measures a finished run's sharpness as the protocol says.

  Args:
    folder: its workdir.

  Returns:
    See `sharpness.measure_sharpness`.
  """
  run = trained_run.load_run(folder, num_images=1024)
  return sharpness.measure_sharpness(
    run.measure,
    run.params,
    run.constants,
    run.batches,
    target_loss=SHARPNESS_LOSS,
  )


def run_stage(args: Any) -> None:
  """Trains a stage's runs.

  Raises:
    ValueError: if a stage before it is not complete, or cross-entropy has no rate.
  """
  if args.stage == "rates":
    train(_asked_for(loss_study.rate_runs(), args), args)
  elif args.stage == "screen":
    rates = _choose_rates(loss_study.arguments(1), args)
    _check_strength(rates, args)
    train(_asked_for(loss_study.screen_runs(rates), args), args)
  elif args.losses and set(args.losses) <= set(loss_study.FIXED):
    # These wait neither for the screening, which does not choose them, nor for other
    # losses' rates.
    comparison = loss_study.COMPARISONS[args.stage]
    rates = _choose_rates(loss_study.FIXED, args)
    _check_strength(rates, args)
    _compare(loss_study.FIXED, rates, comparison.fewest_seeds, args)
  else:
    comparison = loss_study.COMPARISONS[args.stage]
    rates = _choose_rates(loss_study.arguments(1), args)
    screened = _complete(loss_study.screen_runs(rates), args, "screen")
    chosen = loss_study.choose_losses(screened)
    _compare(chosen, rates, comparison.most_seeds, args)


def _choose_rates(needed: Iterable[str], args: Any) -> dict[str, float]:
  """The learning rates of the losses that are needed, which all must have theirs."""
  names = set(needed)
  tried = [run for run in loss_study.rate_runs() if run.loss in names]
  rates = loss_study.choose_rates(_complete(tried, args, "rates"))
  if loss_study.BASELINE not in rates:
    raise ValueError(
      f"--stage: {loss_study.BASELINE}, with which all losses are compared, diverged "
      f"at all rates of {args.workdir}; lower those of experiments/lib/loss_study.py "
      "and use another --workdir"
    )
  return rates


def _compare(
  chosen: Sequence[str], rates: Mapping[str, float], most_seeds: int, args: Any
) -> None:
  """Trains the losses at full length, seed by seed, until the intervals are narrow."""
  workdir = pathlib.Path(args.workdir)
  fewest_seeds = loss_study.COMPARISONS[args.stage].fewest_seeds
  for number in range(fewest_seeds, most_seeds + 1):
    runs = _of_study(loss_study.full_runs(chosen, rates, number, args.stage), args)
    train(_asked_for(runs, args), args)

    finished = loss_study_records.read_results(workdir, runs)
    if missing := len(runs) - len(finished):
      logging.info(
        "%d runs of losses that --losses leaves out are missing; rerun without it.",
        missing,
      )
      return

    compared = loss_study_claims.compare(finished, loss_study_report.accuracy)
    if _is_rehearsal(args) or loss_study_claims.is_decided(compared):
      return


def _check_strength(rates: Mapping[str, float], args: Any) -> None:
  """Trains cross-entropy at full length, once, and checks its accuracy."""
  run = loss_study.strength_run(rates)
  train([run], args)
  result = loss_study_records.read_results(pathlib.Path(args.workdir), [run])[run]
  accuracy = 0.0
  if result["state"] == "finished":
    accuracy = result["validation"]["accuracy"]
  if accuracy < loss_study.STRENGTH and not _is_rehearsal(args):
    raise ValueError(
      f"--stage: {loss_study.BASELINE} has {100 * accuracy:.2f} % on PublicTest after "
      f"{loss_study.FULL_EPOCHS} epochs, and {100 * loss_study.STRENGTH:g} % "
      "are needed; raise FULL_EPOCHS of experiments/lib/loss_study.py and delete "
      f"{pathlib.Path(args.workdir) / 'strength'}"
    )


def _asked_for(runs: list[loss_study.Run], args: Any) -> list[loss_study.Run]:
  """The runs of --losses.

  Raises:
    ValueError: if the stage has no such loss; a rehearsal warns instead.
  """
  names = dict.fromkeys(run.loss for run in runs)
  if missing := sorted(set(args.losses) - set(names)):
    problem = (
      f"--losses: {', '.join(missing)}: diverged, or not chosen by the screening"
    )
    if not _is_rehearsal(args):
      raise ValueError(f"{problem}; the stage {args.stage} has {', '.join(names)}")
    logging.warning("%s; not trained.", problem)
  return [run for run in runs if not args.losses or run.loss in args.losses]


def _of_study(runs: list[loss_study.Run], args: Any) -> list[loss_study.Run]:
  """Those of --losses in a rehearsal; otherwise all, whatever is trained now."""
  if not (_is_rehearsal(args) and args.losses):
    return runs
  return [run for run in runs if run.loss in args.losses]


def _is_rehearsal(args: Any) -> bool:
  return bool(args.epochs or args.limit)


def _complete(runs: list[loss_study.Run], args: Any, stage: str) -> dict[Any, Any]:
  runs = _of_study(runs, args)
  found = loss_study_records.read_results(pathlib.Path(args.workdir), runs)
  if missing := len(runs) - len(found):
    raise ValueError(
      f"--stage: {missing} of the {len(runs)} runs of the stage {stage} are missing in "
      f"{args.workdir}; run --stage={stage} first"
    )
  return found


def _settings(args: Any) -> dict[str, Any]:
  """Settings that all runs of a study share; 0 stands for the stage's own number."""
  flags_of_all = {name: args[name].value for name in ("width", "epochs", "limit")}
  stages = {"epochs_by_stage": loss_study.EPOCHS, "rate_images": loss_study.RATE_IMAGES}
  return flags_of_all | stages


def run(args: Any) -> None:
  """Runs a stage and writes the tables."""
  errors.check_choices("--losses", args.losses, loss_study.arguments(1))
  workdir, settings = pathlib.Path(args.workdir), _settings(args)
  if not math.isfinite(args.width):  # absl accepts NaN
    raise ValueError(f"--width: expected a number above 0, got {args.width}")
  is_part = _is_rehearsal(args) and args.losses
  if is_part and loss_study.BASELINE not in args.losses:
    raise ValueError(
      f"--losses: expected {loss_study.BASELINE} among them, with which a rehearsal "
      "compares"
    )
  if args.stage == "report":
    if (stored := loss_study_records.read_settings(workdir)) is None:
      raise ValueError(f"--workdir: {workdir / loss_study_records.RESULTS} has no runs")
    settings = stored
  else:
    loss_study_records.check_settings(workdir, settings)
    run_stage(args)
  print(loss_study_report.write_report(workdir, settings), end="")


if __name__ == "__main__":
  cli.run(define_flags, run)
