"""Evaluation of a run's best checkpoint on validation and test."""

import functools
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_collections
from absl import logging

from emosynth_jax.data import deduplicate, label_noise, run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.data.images import pixel_form
from emosynth_jax.metrics import batch_invariance, plots
from emosynth_jax.metrics.table import describe_split, format_report
from emosynth_jax.metrics.votes import summarize_votes
from emosynth_jax.parallel import cpu_devices, distributed
from emosynth_jax.parallel.mesh import Placement, build_placement
from emosynth_jax.training import test_time_augmentation
from emosynth_jax.training.eval_step import (
  build_evaluation,
  check_invariance,
  compute_logits,
)
from emosynth_jax.training.restore import BestCheckpoint, count_epochs, load_best
from emosynth_jax.utils import cli, files
from emosynth_jax.workdir import metric_writer, own_parts, provenance, tracking
from emosynth_jax.workdir import record as run_record

# Reports of concurrent seeds are drawn one at a time: matplotlib is not thread-safe.
_DRAWING = threading.Lock()


def evaluate_run(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  *,
  devices: Sequence[Any] | None = None,
  load: Callable[..., run_data.RunData] | None = None,
  print_report: bool = True,
) -> dict[str, Any]:
  """Evaluates a run's best checkpoint and writes its report.

  Writes report.json, report.txt and, as PNG, the curves and the last split's
  confusion matrix and reliability diagram into the workdir.

  Args:
    config: a checked config.
    workdir: the folder of a run of this config.
    devices: devices for the evaluation, all by default.
    load: loads the run's data, where a training of the command shares it; see
      `run_data.shared_loader`.
    print_report: whether the text of report.txt is also printed.

  Returns:
    The report. In a multi-process job all processes call this and get it, and the first
    one writes it.

  Raises:
    FileNotFoundError: if the workdir holds no best checkpoint.
    ValueError: for a config that does not match the one in `workdir`.
    BatchDependenceError: if an image's logits depend on its batch; the report is
      written nevertheless, and states it.
  """
  cpu_devices.split_cores(config.batch_size)  # As in training, to the last digit.
  workdir = pathlib.Path(workdir)
  run_record.check_same_config(config, workdir)
  placement = build_placement(config.mesh.model, devices)
  splits = run_data.splits(config)[1:]
  built = own_parts.of_run(config, workdir)
  load = functools.partial(load or run_data.shared_loader(built), placement)
  best = load_best(config, workdir, splits, load=functools.partial(load, splits))
  datasets = best.datasets
  placed = best._replace(state=placement.put(best.state, placement.state(best.state)))
  summaries = _evaluate_splits(config, workdir, placed, placement, load)

  invariance = check_invariance(
    placed.experiment,
    placed.state,
    datasets["validation"],
    batch_size=config.eval_batch_size,
    placement=placement,
  )
  records = metric_writer.read_epochs(workdir / "metrics.jsonl")
  report = {
    **_describe_run(config, workdir, best, records),
    "evaluated_by": provenance.provenance(list(placement.mesh.devices.flat)),
    "official_splits": {
      name: dataset.official_split for name, dataset in datasets.items()
    },
    "pixel_forms": {name: dataset.form_counts for name, dataset in datasets.items()},
    "batch_invariance": {"split": "validation", **invariance},
    "splits": summaries,
  }
  if distributed.is_first():
    with _DRAWING:
      _write_report(report, config, datasets, records, workdir, print_it=print_report)
    tracking.log_report(config, workdir, summaries)

  batch_invariance.require(invariance, f"{workdir / 'report.json'}")
  return report


def _evaluate_splits(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  best: BestCheckpoint,
  placement: Placement,
  load: Callable[..., run_data.RunData],
) -> dict[str, Any]:
  """Computes the metrics of each split, and those of the views and parts asked for."""
  experiment, state, datasets = best
  evaluation = functools.partial(
    build_evaluation,
    experiment,
    config,
    placement,
    class_names=datasets["validation"].class_names,
  )
  evaluate = evaluation()
  summaries = {name: evaluate(dataset)(state) for name, dataset in datasets.items()}

  if config.eval_augment != "none":
    evaluate_views = evaluation(augment=config.eval_augment)
    for name, dataset in datasets.items():
      summaries[name]["test_time_augmentation"] = {
        "name": config.eval_augment,
        "views": test_time_augmentation.describe(
          config.eval_augment, *dataset.images.shape[1:3]
        ),
        **evaluate_views(dataset)(state),
      }

  for name, dataset in datasets.items():
    if dataset.votes is not None:
      logits = compute_logits(
        experiment,
        state,
        dataset,
        batch_size=config.eval_batch_size,
        placement=placement,
      )
      summaries[name]["votes"] = summarize_votes(logits, dataset.votes)

  if config.evaluate_deduplicated:
    if config.init_from or config.pretrained.file:
      logging.warning(
        "Deduplicated accuracy: images that only the network it started from was "
        "trained on (config.init_from, config.pretrained.file) are not searched for "
        "near-duplicates."
      )
    training = load(["train"])
    run_record.check_same_fingerprint(training.fingerprint, workdir)
    rest = deduplicate.evaluate_deduplicated(
      lambda dataset: evaluate(dataset)(state),
      training.datasets["train"],
      datasets,
      **config.data.near_duplicates,
    )
    for name, summary in rest.items():
      summaries[name]["deduplicated"] = summary

  return summaries


def _describe_run(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  best: BestCheckpoint,
  records: list[dict[str, Any]],
) -> dict[str, Any]:
  """The part of the report that says what was trained, and by what."""
  training = run_record.read_fingerprint(workdir).get("train", {})
  return {
    "data_set": config.data.name,
    "chosen_on": f"validation {config.selection_metric}",
    "best_epoch": int(best.state.best_epoch),
    "epochs_trained": count_epochs(workdir, best, records),
    "seed": config.seed,
    "num_parameters": sum(x.size for x in jax.tree.leaves(best.state.params)),
    "config": config.to_dict(),
    # Recorded if a run was evaluated on another machine or with other code.
    "trained_by": run_record.read_provenance(workdir),
    "label_noise": label_noise.describe(
      **config.data.label_noise,
      changed=training.get("labels_changed"),
      total=training.get("num_examples", 0),
    ),
  }


def _write_report(
  report: dict[str, Any],
  config: ml_collections.ConfigDict,
  datasets: dict[str, Dataset],
  records: list[dict[str, Any]],
  workdir: pathlib.Path,
  *,
  print_it: bool,
) -> None:
  """Writes report.json, its text and its plots; may print the text."""
  summaries, best_epoch = report["splits"], report["best_epoch"]
  trained_by, evaluated_by = report["trained_by"], report["evaluated_by"]
  files.write_report(workdir / "report.json", report)
  missing = metric_writer.missing_epochs(records, report["epochs_trained"])
  if missing:
    logging.warning(
      "%s has no record of epochs %s; the curves omit them.",
      workdir / "metrics.jsonl",
      missing,
    )
  protocol = {
    "data set": config.data.name,
    **({"label noise": report["label_noise"]} if report["label_noise"] else {}),
    "epoch": f"{best_epoch}, chosen by {report['chosen_on']}",
    **({"missing records": f"of epochs {missing}"} if missing else {}),
    "model": f"{config.model.name}, {report['num_parameters']:,} parameters"
    + (f", averaged with decay {config.ema_decay}" if config.ema_decay else ""),
    "loss": config.loss.name,
    "initialization": config.init_from or config.pretrained.file or "random",
    "seed": config.seed,
    **{
      key: ", ".join(provenance.each_once(trained_by, key)) or "unknown"
      for key in ("hardware", "command", "commit")
    },
    **_describe_own_code(workdir),
    "evaluation commit": evaluated_by["commit"],
    "batch invariance": batch_invariance.describe(report["batch_invariance"]),
  }
  of_split = {
    name: {
      "split": describe_split(name, dataset.official_split),
      **_describe_form(dataset),
    }
    for name, dataset in datasets.items()
  }
  text = format_report(summaries, protocol, of_split)
  files.write_atomically(workdir / "report.txt", text.encode())
  if print_it:
    print(text)

  name, summary = list(summaries.items())[-1]
  title = f"{config.data.name}, {name}: accuracy {100 * summary['accuracy']:.2f} %"
  if records:
    plots.plot_curves(records, workdir / "curves.png", best_epoch=best_epoch)
  plots.plot_confusion_matrix(
    summary["confusion_matrix"],
    summary["class_names"],
    workdir / "confusion_matrix.png",
    title,
  )
  plots.plot_reliability(summary["calibration"], workdir / "reliability.png", title)
  logging.info("Wrote the report and its plots to %s.", workdir)


def _describe_form(dataset: Dataset) -> dict[str, str]:
  """The row of the report's table on the images' form, where it is known."""
  counts = dataset.form_counts
  return {"pixel form": pixel_form.describe_counts(counts)} if counts else {}


def _describe_own_code(workdir: pathlib.Path) -> dict[str, str]:
  """The row of the report's table on the user's own code, if the run has any."""
  hashes = {
    file: hash_
    for files_ in own_parts.hashes_of(workdir).values()
    for file, hash_ in files_.items()
  }
  text = ", ".join(
    f"{file} (SHA-256 {hash_[:12]})"
    if file.endswith(".py") or hash_ != own_parts.NO_SOURCE
    else f"{file} (source not available)"
    for file, hash_ in hashes.items()
  )
  return {"own code": text} if text else {}


if __name__ == "__main__":
  cli.fail("this module is no command; run python -m emosynth_jax.main --config=...")
