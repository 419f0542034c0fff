"""Evaluation of a split: margin-free logits, running statistics, every image once."""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
from absl import logging
from jax import lax

from emosynth_jax import (
  batch_invariance,
  losses,
  metric_writer,
  metrics,
  models,
  plots,
  results,
  run_config,
  twins,
  views,
)
from emosynth_jax import experiment as experiments
from emosynth_jax.best_checkpoint import load_best
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.train_state import TrainState

Array = jax.Array


def image_logits(
  variables: Any,
  input_scale: Array,
  images: Array,
  *,
  model: nn.Module,
  evaluation_logits: Callable[..., Array],
) -> Array:
  """The logits by which images are judged: margin-free, of running statistics.

  Args:
    variables: the network's.
    input_scale: factor from pixels to the network's input.
    images: uint8 `(N, H, W, C)`.
    model: the network.
    evaluation_logits: that of `losses.get_evaluation_logits`.

  Returns:
    `(N, K)`.
  """
  inputs = images.astype(jnp.float32) * input_scale
  answer: Any = model.apply(variables, inputs, train=False)
  logits, out = answer
  available = models.last_layer(variables["params"], logits, out)
  return evaluation_logits(**losses.select_inputs(evaluation_logits, **available))


def evaluate_images(
  variables: Any,
  input_scale: Array,
  images: Array,
  labels: Array,
  *,
  model: nn.Module,
  evaluation_logits: Callable[..., Array],
  num_classes: int,
  batch_size: int,
  augment: Callable[[Array], Array] | None = None,
) -> dict[str, Array]:
  """The statistics of a whole split, batch by batch, as one program.

  The last batch is filled up with images that a mask keeps out of every sum.
  BatchNorm uses its running statistics, so that no image's answer depends on the
  others in its batch.

  Args:
    variables: the network's.
    input_scale: factor from pixels to the network's input.
    images: uint8 `(M, H, W, C)`.
    labels: int32 `(M,)`.
    model: the network.
    evaluation_logits: that of `losses.get_evaluation_logits`.
    num_classes: K.
    batch_size: B, images at a time.
    augment: the views that are averaged over, one of `views.VIEWS`; None for the image
      as it is.

  Returns:
    The sums of `metrics.batch_statistics` for each batch, stacked: `(M / B, ...)`,
    rounded up.
  """
  answer = functools.partial(
    image_logits,
    variables,
    input_scale,
    model=model,
    evaluation_logits=evaluation_logits,
  )
  total = images.shape[0]
  batch_size = min(batch_size, total)

  def one_batch(_, start):
    rows = start + jnp.arange(batch_size)
    mask, rows = rows < total, rows % total
    if augment is None:
      logits = answer(images[rows])
    else:
      logits = views.mean_logits(answer, augment(images[rows].astype(jnp.float32)))
    statistics = metrics.batch_statistics(
      logits, labels[rows], mask, num_classes=num_classes
    )
    return None, statistics

  return lax.scan(one_batch, None, jnp.arange(0, total, batch_size))[1]


def build_evaluate(
  experiment: experiments.Experiment,
  *,
  class_names: tuple[str, ...],
  batch_size: int,
  augment: str = "none",
) -> Callable[[TrainState, Array, Array], dict[str, Any]]:
  """The evaluation of a network as a function of a state and a split.

  Args:
    experiment: the run's functions.
    class_names: K names in label order.
    batch_size: images at a time.
    augment: `config.eval_augment`.

  Returns:
    `(state, images, labels) -> summary`, see `metrics.summarize`.
  """
  program = jax.jit(
    functools.partial(
      evaluate_images,
      model=experiment.model,
      evaluation_logits=experiment.evaluation_logits,
      num_classes=len(class_names),
      batch_size=batch_size,
      augment=None if augment == "none" else views.VIEWS[augment],
    )
  )

  def evaluate(state: TrainState, images: Array, labels: Array) -> dict[str, Any]:
    batches = program(state.evaluation_variables, state.input_scale, images, labels)
    return metrics.summarize(jax.device_get(batches), class_names)

  return evaluate


def check_invariance(
  experiment: experiments.Experiment,
  state: TrainState,
  dataset: Dataset,
  *,
  batch_size: int,
) -> dict[str, Any]:
  """`batch_invariance.check_batch_invariance` of a network on a split."""
  program = jax.jit(
    functools.partial(
      image_logits,
      model=experiment.model,
      evaluation_logits=experiment.evaluation_logits,
    )
  )
  return batch_invariance.check_batch_invariance(
    functools.partial(program, state.evaluation_variables, state.input_scale),
    dataset.images,
    dataset.labels,
    batch_size=batch_size,
    dtype=jnp.dtype(experiment.model.dtype).name,
  )


def evaluate_run(
  config: ml_collections.ConfigDict, workdir: str | os.PathLike
) -> dict[str, Any]:
  """Evaluates a run's best checkpoint and writes its report.

  Writes report.json, report.txt and, as PNG, the curves and the last split's
  confusion matrix and reliability diagram into the workdir.

  Args:
    config: a checked config.
    workdir: the folder of a run of this config.

  Returns:
    The report.

  Raises:
    FileNotFoundError: if the workdir holds no best checkpoint.
    ValueError: for a config that does not fit the one `workdir` was begun with.
    BatchDependenceError: if an image's logits depend on its batch; the report is
      written all the same, and says so.
  """
  workdir = pathlib.Path(workdir)
  run_config.check_same_config(config, workdir)
  experiment, state, datasets = load_best(
    config, workdir, experiments.splits(config)[1:]
  )
  first = datasets["validation"]
  evaluate = build_evaluate(
    experiment,
    class_names=first.class_names,
    batch_size=config.eval_batch_size,
  )
  summaries = {
    name: evaluate(state, *experiments.on_device(dataset))
    for name, dataset in datasets.items()
  }
  if config.eval_augment != "none":
    evaluate_views = build_evaluate(
      experiment,
      class_names=first.class_names,
      batch_size=config.eval_batch_size,
      augment=config.eval_augment,
    )
    for name, dataset in datasets.items():
      summaries[name]["test_time_augmentation"] = {
        "name": config.eval_augment,
        "views": views.describe(config.eval_augment, *dataset.images.shape[1:3]),
        **evaluate_views(state, *experiments.on_device(dataset)),
      }
  if config.evaluate_without_twins:
    training = experiments.load_data(config, ("train",))
    run_config.check_same_data(training, workdir)
    rest = twins.evaluate_without_twins(
      lambda dataset: evaluate(state, *experiments.on_device(dataset)),
      training["train"],
      datasets,
      **config.data.twins,
    )
    for name, summary in rest.items():
      summaries[name]["without_twins"] = summary
  invariance = check_invariance(
    experiment, state, first, batch_size=config.eval_batch_size
  )
  evaluated_by = results.provenance()
  # A run that was evaluated elsewhere, or with later code, says so.
  trained_by = run_config.read_provenance(workdir)
  num_parameters = sum(x.size for x in jax.tree.leaves(state.params))
  records = metric_writer.read_records(workdir / "metrics.jsonl")
  report = {
    "data_set": config.data.name,
    "chosen_on": f"validation {config.selection_metric}",
    "best_epoch": int(state.best_epoch),
    "epochs_trained": records[-1]["epoch"] if records else 0,
    "seed": config.seed,
    "num_parameters": num_parameters,
    "config": config.to_dict(),
    "trained_by": trained_by,
    "evaluated_by": evaluated_by,
    "official_splits": {
      name: dataset.official_split for name, dataset in datasets.items()
    },
    "batch_invariance": {"split": "validation", **invariance},
    "splits": summaries,
  }
  results.write_report(workdir / "report.json", report)
  text = "\n\n".join(
    results.format_table(
      summary,
      protocol={
        "data set": config.data.name,
        "split": describe_split(name, datasets[name].official_split),
        "epoch": f"{int(state.best_epoch)}, chosen by {report['chosen_on']}",
        "model": f"{config.model.name}, {num_parameters:,} parameters"
        + (f", averaged with decay {config.ema_decay}" if config.ema_decay else ""),
        "loss": config.loss.name,
        "started from": config.init_from
        or config.pretrained.file
        or "random parameters",
        "seed": config.seed,
        "hardware": _each_once(trained_by, "hardware"),
        "command": _each_once(trained_by, "command"),
        "commit": _each_once(trained_by, "commit"),
        "evaluated at": _each_once([evaluated_by], "commit"),
        "batch invariance": batch_invariance.describe(invariance),
      },
    )
    for name, summary in summaries.items()
  )
  results.write_atomically(workdir / "report.txt", (text + "\n").encode())
  print(text)

  name, summary = list(summaries.items())[-1]
  title = f"{config.data.name}, {name}: accuracy {100 * summary['accuracy']:.2f} %"
  plots.plot_curves(records, workdir / "curves.png", best_epoch=int(state.best_epoch))
  plots.plot_confusion_matrix(
    summary["confusion_matrix"],
    summary["class_names"],
    workdir / "confusion_matrix.png",
    title,
  )
  plots.plot_reliability(summary["calibration"], workdir / "reliability.png", title)
  logging.info("The report and its pictures are in %s.", workdir)
  batch_invariance.require(invariance, f"{workdir / 'report.json'}")
  return report


def describe_split(name: str, official_split: str) -> str:
  """A split as the report's table names it.

  Args:
    name: "validation" or "test".
    official_split: see `Dataset`; "" where the name says it all.

  Returns:
    "test (PrivateTest)", say.
  """
  remarks = [official_split]
  if name == "validation":
    remarks.append("the epoch was chosen on it")
  text = "; ".join(filter(None, remarks))
  return f"{name} ({text})" if text else name


def _each_once(records: list[dict[str, Any]], key: str) -> str:
  return ", ".join(dict.fromkeys(str(record[key]) for record in records)) or "unknown"
