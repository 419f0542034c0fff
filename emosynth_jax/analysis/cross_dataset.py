"""Evaluation across data sets: networks of several runs on each other's data.

  python -m emosynth_jax.analysis.cross_dataset --workdirs=runs/fer,runs/raf
  python -m emosynth_jax.analysis.cross_dataset --workdirs=runs/fer \\
      --on=raf_db:data/raf --on=ck_plus:data/ck:crop=landmarks

Each run's best checkpoint is evaluated on the test split of its own data set, of those
of the other runs, and of those of --on. Classes are matched by name, see
`data.class_names`; images of a class that a run does not have are left out, and so are
the run's logits of a class that the images do not have. Writes cross_dataset.json and
cross_dataset.txt.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np
from absl import flags, logging

from emosynth_jax.config import defaults
from emosynth_jax.config.stored import read_config
from emosynth_jax.data import (
  LOADERS,
  class_names,
  fingerprints,
  loader_options,
  run_data,
)
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.parallel.mesh import build_placement
from emosynth_jax.training.eval_step import build_evaluation
from emosynth_jax.training.restore import Network, load_network
from emosynth_jax.utils import cli as command_cli
from emosynth_jax.utils import errors, files, text_table
from emosynth_jax.workdir import own_parts, provenance
from emosynth_jax.workdir import record as run_record

# Options by which a loader resizes its images to what a network takes.
_SHAPE_OPTIONS = ("image_size", "channels")
# Settings of a data set that decide which images a split has.
_IDENTITY = ("name", "options", "seed", "limit", "validation_fraction")


class NotComparableError(ValueError):
  """A data set that a network cannot be evaluated on."""


def match_classes(
  dataset: Dataset, names: Sequence[str]
) -> tuple[Dataset, list[int], dict[str, list[str]]]:
  """Restricts a split to the classes that a network has, with the network's labels.

  Args:
    dataset: L classes.
    names: the network's K class names, in the order of its logits.

  Returns:
    The images of the S shared classes, labeled 0..S-1 in the network's order and named
    as the network names them; the network's class of each label; and the names without
    a partner, ``of_network`` and ``of_data``.

  Raises:
    NotComparableError: if fewer than two classes are shared, or they have no image.
  """
  pairs, of_network, of_data = class_names.shared(names, dataset.class_names)
  if len(pairs) < 2:
    raise NotComparableError(
      f"fewer than two classes are shared: the network has {', '.join(names)}, the "
      f"data {', '.join(dataset.class_names)}"
    )
  new_label = np.full(len(dataset.class_names), -1, np.int32)
  for label, (_, other) in enumerate(pairs):
    new_label[other] = label
  labels = new_label[dataset.labels]
  rows = np.flatnonzero(labels >= 0)
  if not len(rows):
    raise NotComparableError("there is no image of a shared class")
  kept = dataset if len(rows) == len(dataset) else dataset.take(rows)
  matched = dataclasses.replace(
    kept,
    labels=labels[rows],
    class_names=tuple(names[k] for k, _ in pairs),
    votes=None,
    soft_labels=None,
    clean_labels=None,
  )
  left_out = {"of_network": of_network, "of_data": of_data}
  return matched, [k for k, _ in pairs], left_out


def evaluate_on(run: Network, dataset: Dataset) -> dict[str, Any]:
  """Evaluates a run's network on a split of any data set.

  Args:
    run: of `load_run`.
    dataset: the split, with images of the network's size.

  Returns:
    As `classification.summarize`, with ``left_out_classes`` (``of_network`` and
    ``of_data``) and ``left_out_images``, the number of images of the latter.

  Raises:
    NotComparableError: for images of another size, or other classes.
  """
  expected, found = run.dataset.images.shape[1:], dataset.images.shape[1:]
  if expected != found:
    raise NotComparableError(
      f"the network takes images of {_describe_shape(expected)}, these have "
      f"{_describe_shape(found)}"
    )
  matched, columns, left_out = match_classes(dataset, run.dataset.class_names)
  experiment = run.experiment
  # With all classes the program is that of the run's own report.
  if columns != list(range(len(run.dataset.class_names))):
    experiment = experiment._replace(
      evaluation_logits=_restrict(experiment.evaluation_logits, columns)
    )
  placement = build_placement(run.config.mesh.model)
  evaluate = build_evaluation(
    experiment, run.config, placement, class_names=matched.class_names
  )(matched)
  return {
    **evaluate(run.state),
    "left_out_classes": left_out,
    "left_out_images": len(dataset) - len(matched),
  }


def load_run(workdir: str | os.PathLike, split: str) -> Network:
  """Loads a run's best checkpoint, on its devices, and a split of its own data.

  Args:
    workdir: the run's folder.
    split: "train", "validation" or "test".

  Returns:
    The network with the split as its data set.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `restore.load_network`.
  """
  network = load_network(workdir, split, None, dtype=None)
  config = own_parts.of_run(network.config, pathlib.Path(workdir))
  placement = build_placement(config.mesh.model)
  state = placement.put(network.state, placement.state(network.state))
  return network._replace(config=config, state=state)


def parse_data(text: str, flag: str = "--on") -> ml_collections.ConfigDict:
  """Parses a data set of the command line, NAME:DIR or NAME:DIR:OPTION=VALUE,...

  Args:
    text: of the command line.
    flag: the flag, for the message.

  Returns:
    Settings like `config.data`.

  Raises:
    ValueError: for another form, or an unknown data set.
  """
  name, _, rest = text.partition(":")
  data_dir, _, options = rest.partition(":")
  if name not in LOADERS or not data_dir:
    raise ValueError(
      f"{flag}: expected NAME:DIR or NAME:DIR:OPTION=VALUE,..., with one of "
      f"{', '.join(sorted(LOADERS))}; got {text!r}"
    )
  data = defaults.get_default_config().data
  data.name, data.data_dir = name, data_dir
  for entry in filter(None, options.split(",")):
    key, equals, value = entry.partition("=")
    if not equals:
      raise ValueError(f"{flag}: expected OPTION=VALUE, got {entry!r} in {text!r}")
    data.options[key] = command_cli.parse_value(value)
  return data


def name_columns(
  settings: Sequence[ml_collections.ConfigDict],
) -> dict[str, ml_collections.ConfigDict]:
  """The distinct data sets, by name; a second one of a name gets a number."""
  columns: dict[str, ml_collections.ConfigDict] = {}
  for data in settings:
    if any(is_same_data(data, other) for other in columns.values()):
      continue
    number = sum(other.name == data.name for other in columns.values()) + 1
    columns[data.name if number == 1 else f"{data.name} ({number})"] = data
  return columns


def is_same_data(
  first: ml_collections.ConfigDict, second: ml_collections.ConfigDict
) -> bool:
  """Returns whether two settings like `config.data` have the same images."""
  folders = [pathlib.Path(data.data_dir).resolve() for data in (first, second)]
  first, second = first.to_dict(), second.to_dict()
  return folders[0] == folders[1] and all(first[k] == second[k] for k in _IDENTITY)


def evaluate_all(
  workdirs: Sequence[str],
  others: Sequence[ml_collections.ConfigDict],
  split: str,
) -> dict[str, Any]:
  """Evaluates every run on every data set.

  Args:
    workdirs: the runs' folders.
    others: further data sets, see `parse_data`.
    split: "validation" or "test".

  Returns:
    ``columns``, the names of the data sets, and ``rows``, for each run ``workdir``,
    ``trained_on`` and ``cells``: by column the summary of `evaluate_on`, or
    ``not_evaluated``, the reason.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `load_run`, or as a loader.
  """
  configs = [own_parts.of_run(read_config(each), each) for each in workdirs]
  columns = name_columns([*(config.data for config in configs), *others])
  rows = []
  for workdir in workdirs:
    run = load_run(workdir, split)
    trained = fingerprints.form_counts(run_record.read_fingerprint(workdir))
    cells: dict[str, Any] = {}
    own = ""
    for name, data in columns.items():
      is_own = is_same_data(data, run.config.data)
      own = name if is_own else own
      logging.info("%s on %s", workdir, name)
      dataset = run.dataset if is_own else load_for(run, data, split)
      fingerprints.warn_of_other_form(
        trained.get("train"), dataset.form_counts, f"evaluated ({name}) on"
      )
      try:
        cells[name] = {
          "official_split": dataset.official_split,
          "pixel_forms": dataset.form_counts,
          **evaluate_on(run, dataset),
        }
      except NotComparableError as error:
        cells[name] = {"not_evaluated": str(error)}
    rows.append({"workdir": str(workdir), "trained_on": own, "cells": cells})
  return {"columns": list(columns), "rows": rows}


def load_for(run: Network, data: ml_collections.ConfigDict, split: str) -> Dataset:
  """Loads a split of another data set, resized for a run's network where possible.

  Args:
    run: the network, with a data set of its own shape of images.
    data: the section `data` of a config, see `parse_data`.
    split: "train", "validation" or "test".

  Returns:
    The split.
  """
  config = defaults.get_default_config()
  config.data = data.copy_and_resolve_references()
  known = loader_options(data.name)
  height, _, channels = run.dataset.images.shape[1:]
  for key, value in zip(_SHAPE_OPTIONS, (height, channels), strict=True):
    if key in known:
      config.data.options[key] = value
  return run_data.load_data(config, (split,))[split]


def format_result(result: Mapping[str, Any]) -> str:
  """Formats the matrices of accuracy, and what was left out."""
  columns = result["columns"]
  lines = []
  for label, key in (
    ("accuracy, %", "accuracy"),
    ("balanced accuracy, %", "balanced_accuracy"),
  ):
    table = [[label, "trained on", *columns]]
    for row in result["rows"]:
      cells = (row["cells"][name] for name in columns)
      numbers = [f"{100 * c[key]:.2f}" if key in c else "-" for c in cells]
      table.append([row["workdir"], row["trained_on"], *numbers])
    lines += [*text_table.align(table), ""]
  for row in result["rows"]:
    for name in columns:
      lines.append(f"{row['workdir']} on {name}: {_describe_cell(row['cells'][name])}")
  return "\n".join(lines) + "\n"


def _describe_cell(cell: Mapping[str, Any]) -> str:
  if "not_evaluated" in cell:
    return f"not evaluated: {cell['not_evaluated']}"
  parts = [f"{cell['num_examples']:,} images of {len(cell['class_names'])} classes"]
  if cell["official_split"]:
    parts[0] += f" ({cell['official_split']})"
  left_out = cell["left_out_classes"]
  if left_out["of_data"]:
    parts.append(
      f"left out {cell['left_out_images']:,} images of {', '.join(left_out['of_data'])}"
    )
  if left_out["of_network"]:
    parts.append(f"without the network's {', '.join(left_out['of_network'])}")
  return "; ".join(parts)


def _describe_shape(shape: Sequence[int]) -> str:
  return f"{shape[0]}x{shape[1]} pixels and {shape[2]} channels"


def _restrict(
  evaluation_logits: Callable[..., Any], columns: Sequence[int]
) -> Callable[..., Any]:
  """Evaluation logits of some classes; it takes the same inputs."""
  kept = np.array(columns)

  @functools.wraps(evaluation_logits)
  def restricted(*inputs: Any, **named: Any) -> Any:
    return evaluation_logits(*inputs, **named)[:, kept]

  return restricted


def measure(args: Any) -> None:
  """Evaluates, and writes the files.

  Args:
    args: the command's flags.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `evaluate_all`.
  """
  errors.refuse_twice(args.workdirs, "workdirs")
  others = [parse_data(text) for text in args.on]
  result = evaluate_all(args.workdirs, others, args.split)
  made = provenance.provenance()
  text = f"split {args.split}; commit {made['commit']}\n\n" + format_result(result)
  folder = pathlib.Path(args.output or args.workdirs[0])
  files.write_report(
    folder / "cross_dataset.json",
    {"split": args.split, **result, "computed_by": made},
  )
  files.write_atomically(folder / "cross_dataset.txt", text.encode())
  print(text, end="")


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_list("workdirs", None, "Folders of trained runs.", required=True)
  flags.DEFINE_multi_string(
    "on",
    [],
    "A further data set, NAME:DIR or NAME:DIR:OPTION=VALUE,..., as raf_db:data/raf.",
  )
  flags.DEFINE_enum(
    "split", "test", ["validation", "test"], "The split of every data set."
  )
  flags.DEFINE_string(
    "output", None, "Folder of the results. By default the first run's."
  )


if __name__ == "__main__":
  # Not analysis.cli.run: the precision is that of the run's own report.
  command_cli.run(define_flags, measure)
