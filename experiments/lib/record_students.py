"""The students of `experiments.fer2013_record`: trained, chosen, tested once."""

import functools
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
from absl import logging

from emosynth_jax import evaluate
from emosynth_jax.data import run_data
from emosynth_jax.parallel.mesh import build_placement
from emosynth_jax.training import eval_step, seeds
from emosynth_jax.training.restore import load_best
from emosynth_jax.utils import files, text_table
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import record
from experiments.lib import record_recipe
from experiments.lib.trainer import train_to_end

_CHOICE = "chosen_views.json"
_CHOICE_FIELDS = {
  "views": str,
  "epoch": int,
  "parameters": int,
  "soft_labels": str,
  "validation": dict,
}


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> dict[str, Any]:
  """Trains a student, and chooses its views on the validation split.

  Args:
    config: of `record_recipe.build_config`, with the soft labels.
    workdir: the student's.

  Returns:
    "views", those of the least validation cross-entropy among `record_recipe.VIEWS`,
    "epoch", chosen by the config's selection metric, "parameters", and "validation",
    the "accuracy" and the "loss" by view; and "soft_labels", their file's SHA-256.

  Raises:
    SystemExit: after SIGTERM or Ctrl-C; the training is saved.
    ValueError: if the folder has a student of another config or of other soft labels.
  """
  record.check_same_config(config, workdir)
  path = workdir / _CHOICE
  with open(config.data.soft_labels, "rb") as file:
    taught = hashlib.file_digest(file, "sha256").hexdigest()
  if path.exists():
    found = read_json(path, _CHOICE_FIELDS)
    if found["soft_labels"] != taught:
      raise ValueError(
        f"{path} is of a student that learned other soft labels; use another --workdir"
      )
    return found

  load = run_data.shared_loader(config)
  train_to_end(config, workdir, load=load)

  placement = build_placement()
  splits = ("validation",)
  best = load_best(
    config, workdir, splits, load=functools.partial(load, placement, splits)
  )
  validation = best.datasets["validation"]
  state = placement.put(best.state, placement.state(best.state))
  found = {}
  for views in record_recipe.VIEWS:
    summary = eval_step.build_evaluation(
      best.experiment,
      config,
      placement,
      class_names=validation.class_names,
      augment=views,
    )(validation)(state)
    found[views] = {key: summary[key] for key in ("accuracy", "loss")}

  choice = {
    "views": min(found, key=lambda views: found[views]["loss"]),
    "epoch": int(best.state.best_epoch),
    "parameters": sum(x.size for x in jax.tree.leaves(best.state.params)),
    "soft_labels": taught,
    "validation": found,
  }
  files.write_report(path, choice)
  return choice


def choose(choices: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Chooses one student of each group by its validation cross-entropy.

  Args:
    choices: name of a student to the result of `train`.

  Returns:
    Their names.
  """

  def loss(name):
    return choices[name]["validation"][choices[name]["views"]]["loss"]

  groups: dict[str, list[str]] = {}
  for name in choices:
    groups.setdefault(record_recipe.NETWORKS[name].group, []).append(name)
  return [min(names, key=loss) for names in groups.values()]


def read_test_split(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, views: str
) -> dict[str, Any]:
  """Evaluates a chosen student on the test split, unless that is done.

  Args:
    config: the student's.
    workdir: its workdir, which gets the report.
    views: that were chosen.

  Returns:
    The report of `evaluate.evaluate_run`.
  """
  final = config.copy_and_resolve_references()
  final.data.test_split, final.eval_augment = "test", views
  final.evaluate_deduplicated = True
  report = seeds.finished_report(final, workdir)
  if report is None:
    report = evaluate.evaluate_run(final, workdir, print_report=False)
  else:
    logging.info("%s: the test split was already read.", workdir)
  return report


def accuracies(report: Mapping[str, Any]) -> dict[str, float]:
  """A report's test accuracies.

  Args:
    report: of a chosen student.

  Returns:
    Those of the "image" alone and over the chosen "views" on the whole split, and of
    the image alone on the "deduplicated" one.
  """
  summary = report["splits"]["test"]
  views = summary.get("test_time_augmentation", summary)
  return {
    "image": summary["accuracy"],
    "views": views["accuracy"],
    "deduplicated": summary["deduplicated"]["accuracy"],
  }


def describe(summary: Mapping[str, Any]) -> str:
  """The command's summary as text.

  Args:
    summary: as the command writes it.

  Returns:
    Tables and provenance.
  """
  rows = [["", "parameters", "epoch", "views", "validation", "test"]]
  rows[0] += ["test, views", "test, deduplicated"]
  for name, student in summary["students"].items():
    test = student.get("test")
    rows.append(
      [
        name,
        f"{student['parameters']:,}",
        str(student["epoch"]),
        student["views"],
        _percent(student["validation"][student["views"]]["accuracy"]),
        _percent(test["image"]) if test else "not read",
        _percent(test["views"]) if test else "not read",
        _percent(test["deduplicated"]) if test else "not read",
      ]
    )
  teachers, origin = summary["teachers"], summary["provenance"]
  facts = {
    "data": summary["data"],
    "teachers": f"{record_recipe.FOLDS}, {teachers['mapping']}; accuracy on training "
    f"images that they have not seen {_percent(teachers['unseen'])} %, that they have "
    f"{_percent(teachers['seen'])} %",
    "chosen on": "validation: the epoch by accuracy, the views and the student of a "
    "group by cross-entropy; one seed; near-duplicates of validation images stay in "
    "training",
    "hardware": origin["hardware"],
    "command": origin["command"],
    "commit": origin["commit"],
    "seconds of this start": ", ".join(
      f"{name} {seconds:.0f}" for name, seconds in summary["seconds"].items()
    ),
  }
  return "\n".join(
    ["Accuracy in %.", "", *text_table.align(rows), ""]
    + [f"{name}: {text}" for name, text in facts.items()]
  )


def _percent(share: float) -> str:
  return f"{100 * share:.2f}"
