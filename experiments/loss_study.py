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
from collections.abc import Callable, Iterable, Mapping
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
from emosynth_jax.utils import cli, errors, files, text_table
from experiments.lib import comparison_report, loss_study
from experiments.lib.trainer import train_to_end

# Where a stage's data is, unless --data_dir says so.
_DATA_DIRS = {"fer_plus": "data", "cifar10": "data/tfds"}
_FER2013 = "data/fer2013.csv"

Results = dict[loss_study.Run, Any]


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_enum(
    "stage",
    "report",
    ["rates", "screen", *loss_study.COMPARED, "report"],
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
  done = loss_study.read_results(workdir, runs)
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
    if run in done and loss_study.is_complete(run, done[run]):
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
      if run.stage in loss_study.COMPARED:
        secondary = measure_secondary(config, folder, load)
        files.write_report(folder / loss_study.SECONDARY, secondary)
      if run.stage == "full" and run.loss in loss_study.MEASURED_SHARPNESS:
        files.write_report(folder / loss_study.SHARPNESS, measure_sharpness(folder))
    except (epoch.NonFiniteError, batch_invariance.BatchDependenceError) as error:
      logging.warning("%s diverged: %s", run.folder, error)
      files.write_report(folder / "diverged.json", {"error": str(error)})
    write_report(workdir, _settings(args))


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
    target_loss=loss_study.SHARPNESS_LOSS,
  )


def run_stage(args: Any) -> None:
  """Trains a stage's runs.

  Raises:
    ValueError: if a stage before it is not complete, or cross-entropy has no rate.
  """
  if args.stage == "rates":
    train(_asked_for(loss_study.rate_runs(), args), args)
    return
  # Losses that the screening does not choose wait neither for it nor for other rates.
  fixed = {loss_study.BASELINE, *loss_study.FIXED}
  only_fixed = (
    args.stage != "screen" and bool(args.losses) and fixed >= set(args.losses)
  )
  needed = fixed if only_fixed else loss_study.arguments(1)
  tried = [run for run in loss_study.rate_runs() if run.loss in needed]
  rates = loss_study.choose_rates(_complete(tried, args, "rates"))
  if loss_study.BASELINE not in rates:
    raise ValueError(
      f"--stage: {loss_study.BASELINE}, with which all losses are compared, diverged "
      f"at all rates of {args.workdir}; lower those of experiments/lib/loss_study.py "
      "and use another --workdir"
    )

  runs = loss_study.screen_runs(rates)
  if args.stage == "screen" or only_fixed:
    _check_strength(rates, args)
  if args.stage == "screen":
    train(_asked_for(runs, args), args)
    return

  if only_fixed:
    screened = loss_study.read_results(pathlib.Path(args.workdir), runs)
  else:
    screened = _complete(runs, args, "screen")
  chosen = loss_study.choose_losses(screened)
  if only_fixed or args.stage in loss_study.OTHER_DATA:
    number = loss_study.COMPARED[args.stage]
    runs = loss_study.full_runs(chosen, rates, number, args.stage)
    train(_asked_for(runs, args), args)
    return

  for number in range(loss_study.FEWEST_SEEDS, loss_study.MOST_SEEDS + 1):
    runs = _of_study(loss_study.full_runs(chosen, rates, number), args)
    train(_asked_for(runs, args), args)
    finished = loss_study.read_results(pathlib.Path(args.workdir), runs)
    if missing := len(runs) - len(finished):
      logging.info(
        "%d runs of losses that --losses leaves out are missing; rerun without it.",
        missing,
      )
      return
    if _is_rehearsal(args) or loss_study.is_decided(
      loss_study.compare(finished, _accuracy)
    ):
      return


def _check_strength(rates: Mapping[str, float], args: Any) -> None:
  """Trains cross-entropy at full length, once, and checks its accuracy."""
  run = loss_study.strength_run(rates)
  train([run], args)
  result = loss_study.read_results(pathlib.Path(args.workdir), [run])[run]
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
  found = loss_study.read_results(pathlib.Path(args.workdir), runs)
  if missing := len(runs) - len(found):
    raise ValueError(
      f"--stage: {missing} of the {len(runs)} runs of the stage {stage} are missing in "
      f"{args.workdir}; run --stage={stage} first"
    )
  return found


def _accuracy(result: Mapping[str, Any]) -> float:
  """Accuracy on PrivateTest in percent, the study's primary metric."""
  return 100 * result["test"]["accuracy"]


def _settings(args: Any) -> dict[str, Any]:
  """Settings that all runs of a study share; 0 stands for the stage's own number."""
  flags_of_all = {name: args[name].value for name in ("width", "epochs", "limit")}
  stages = {"epochs_by_stage": loss_study.EPOCHS, "rate_images": loss_study.RATE_IMAGES}
  return flags_of_all | stages


def write_report(workdir: pathlib.Path, settings: Mapping[str, Any]) -> str:
  """Writes and returns the tables of what is there.

  Args:
    workdir: the study's folder, which gets loss_study.md and loss_study.json.
    settings: of all stages, kept in the JSON file.
  """
  known = loss_study.read_known(workdir)

  def read(runs: Iterable[loss_study.Run]) -> Results:
    return loss_study.read_results(workdir, runs, known)

  # What a stage has chosen decides which runs the next one has.
  tried = read(loss_study.rate_runs())
  rates = loss_study.choose_rates(tried)
  has_baseline = loss_study.BASELINE in rates
  strength = read([loss_study.strength_run(rates)] if has_baseline else [])
  screened = read(loss_study.screen_runs(rates))
  chosen = loss_study.choose_losses(screened)
  most_seeds = loss_study.COMPARED | {"full": loss_study.MOST_SEEDS}
  results = {
    stage: read(loss_study.full_runs(chosen, rates, number, stage))
    for stage, number in most_seeds.items()
  }
  compared = {
    stage: loss_study.compare(found, _accuracy, claims=stage == "full")
    for stage, found in results.items()
    if found or stage == "full"
  }

  lines = [
    "# Losses on FER-2013, original pixels",
    "",
    f"FerVGG at {settings['width']:g} of its width, by the protocol of "
    "docs/notes/loss_study.md. Accuracies in percent.",
    "",
    *_rates_section(tried, rates),
    *_screening_section(strength, screened),
  ]
  for stage, verdicts in compared.items():
    split = "PrivateTest" if stage == "full" else f"test split of {stage}"
    lines += [f"## Full length, {split}", "", *comparison_table(verdicts), ""]
    lines += [f"### Further metrics, {split}, means over seeds", ""]
    lines += [*further_metrics(results[stage]), ""]
  lines += ["## Sharpness, training images", "", *sharpness_table(results["full"])]
  text = "\n".join(lines) + "\n"
  files.write_atomically(workdir / "loss_study.md", text.encode())

  # Also of runs that are no longer chosen.
  every = known | tried | strength | screened
  for found in results.values():
    every |= found
  runs = loss_study.to_records(every)
  record = {"settings": settings, "rates": rates, **compared, "runs": runs}
  files.write_report(workdir / loss_study.RESULTS, record)
  return text


def _rates_section(tried: Results, rates: Mapping[str, float]) -> list[str]:
  """Each loss's accuracy at each learning rate, and the rate that it gets."""
  table: list[list[Any]] = [
    ["loss", *(f"{rate:g}" for rate in loss_study.RATES), "chosen"]
  ]
  for loss in dict.fromkeys(run.loss for run in tried):
    cells = [
      _cell(tried.get(loss_study.Run(loss, "rates", rate, loss_study.RATE_SEED)))
      for rate in loss_study.RATES
    ]
    chosen_rate = f"{rates[loss]:g}" if loss in rates else "diverged"
    table.append([loss, *cells, chosen_rate])
  return ["## Learning rates", "", *text_table.markdown(table), ""]


def _screening_section(strength: Results, screened: Results) -> list[str]:
  """Cross-entropy at full length, and each loss's seeds of the screening."""
  lines = ["## Screening, PublicTest", ""]
  for run, result in strength.items():
    lines += [f"{run.loss} at full length, seed {run.seed}: {_cell(result)}", ""]
  table = [["loss", "seeds"]]
  for loss in dict.fromkeys(run.loss for run in screened):
    cells = [_cell(result) for run, result in screened.items() if run.loss == loss]
    table.append([loss, ", ".join(cells)])
  return [*lines, *text_table.markdown(table), ""]


def comparison_table(compared: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """A row for each loss, see `loss_study.compare`."""
  claims = any("verdict" in row for row in compared.values())
  header = ["loss", "accuracy", "seeds", "diverged", "minus cross-entropy, 95 % CI"]
  table: list[list[Any]] = [header + ["p (Holm)", "verdict"] * claims]
  for loss, row in compared.items():
    difference = row.get("difference")
    against = (
      f"{difference['mean']:+.2f} [{difference['low']:+.2f}, {difference['high']:+.2f}]"
      if difference
      else ""
    )
    p_holm = _p_text(row["p_holm"]) if claims and difference else ""
    accuracy = comparison_report.mean_text((row["mean"], row["std"]))
    seeds = len(row["seeds"])
    said = [p_holm, row.get("verdict", "")] * claims
    table.append([loss, accuracy, seeds, row["diverged"], against, *said])
  return text_table.markdown(table, left=(0, 6))


def further_metrics(results: Mapping[loss_study.Run, Mapping[str, Any]]) -> list[str]:
  """A row for each loss; of what no run has, the cells are empty.

  Accuracy on the validation split is there to be compared with other trainings.
  """
  columns = {
    "validation_accuracy": ("accuracy, validation", 100, 2),
    "balanced_accuracy": ("balanced accuracy", 100, 2),
    "deduplicated": ("deduplicated accuracy", 100, 2),
    "calibrated_loss": ("negative log-likelihood, calibrated", 1, 4),
    "silhouette": ("silhouette", 1, 3),
    "angular_margin": ("angular margin, degrees", 1, 1),
  }
  table = [["loss", *(name for name, _, _ in columns.values())]]
  for loss in dict.fromkeys(run.loss for run in results):
    measured = [
      {"validation_accuracy": result["validation"]["accuracy"], **result["test"]}
      for run, result in results.items()
      if run.loss == loss and loss_study.counts(run, result)
    ]
    row = [loss]
    for measure, (_, factor, digits) in columns.items():
      values = [factor * each[measure] for each in measured if measure in each]
      mean = f"{sum(values) / len(values):.{digits}f}" if values else ""
      is_of_all = not values or len(values) == len(measured)
      row.append(
        mean if is_of_all else f"{mean} ({len(values)} of {len(measured)} seeds)"
      )
    table.append(row)
  return text_table.markdown(table)


def sharpness_table(full: Mapping[loss_study.Run, Mapping[str, Any]]) -> list[str]:
  """A row for each measure and loss, as ratio to cross-entropy's, and what they show.

  The rows without a p-value are no part of the claim.
  """
  table = [["measure", "loss", "ratio to cross-entropy, 95 % CI", "seeds", "p (Holm)"]]
  rows = loss_study.compare_sharpness(full)
  for (measure, loss), row in rows.items():
    ratio = f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    name = loss_study.SHARPNESS_MEASURES[measure]
    left_out = f" ({row['left_out']} left out)" if row["left_out"] else ""
    seeds = f"{row['pairs']}{left_out}"
    has_p = "p_holm" in row and row["pairs"] >= loss_study.FEWEST_SEEDS
    table.append([name, loss, ratio, seeds, _p_text(row["p_holm"]) if has_p else ""])
  verdicts = loss_study.flatness(rows)
  said = ", ".join(f"{loss} {verdict}" for loss, verdict in verdicts.items())
  return [*text_table.markdown(table, left=(0, 1)), "", f"Flatter minima: {said}."]


def _p_text(value: float) -> str:
  return "<0.001" if value < 0.001 else f"{value:.3f}"


def _cell(result: dict[str, Any] | None) -> str:
  if result is None:
    return "not run"
  if result["state"] == "diverged":
    return "diverged"
  return f"{100 * result['validation']['accuracy']:.2f}"


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
    if (stored := loss_study.read_settings(workdir)) is None:
      raise ValueError(f"--workdir: {workdir / loss_study.RESULTS} has no runs")
    settings = stored
  else:
    loss_study.check_settings(workdir, settings)
    run_stage(args)
  print(write_report(workdir, settings), end="")


if __name__ == "__main__":
  cli.run(define_flags, run)
