"""Names, origins and flags of the thesis's figures.

Every image has a text file of the same name, with the runs, seeds, commands and commits
behind it.
"""

import os
import pathlib
from collections.abc import Sequence

from absl import flags

from emosynth_jax.analysis import cli as analysis_cli
from emosynth_jax.config.stored import read_config
from emosynth_jax.report import run_files
from emosynth_jax.utils import errors, files
from emosynth_jax.workdir import metric_writer, provenance
from emosynth_jax.workdir import record as run_record


def paths_of_runs(
  path: pathlib.Path, runs: Sequence[run_files.RunFiles]
) -> list[pathlib.Path]:
  """Returns an image path for each of several runs.

  Args:
    path: without the run's suffix.
    runs: of any kind.

  Returns:
    The path with the run's data set (and fold), network, loss and seed in its name, and
    its folder if they are not unique.

  Raises:
    ValueError: if a run is given twice.
  """
  names = []
  for run in runs:
    config = run.report["config"]
    fold = (config["data"].get("options") or {}).get("fold")
    parts = [
      run.report["data_set"],
      *([] if fold is None else [f"fold{fold}"]),
      config["model"]["name"],
      config["loss"]["name"].replace("+", "-"),
      f"seed{run.report['seed']}",
    ]
    names.append("-".join(parts))
  names = tell_apart(names, [[run] for run in runs], "{}-{}")
  return [path.with_name(f"{path.stem}-{name}{path.suffix}") for name in names]


def tell_apart(
  names: Sequence[str], groups: Sequence[Sequence[run_files.RunFiles]], form: str
) -> list[str]:
  """Makes the names of groups of runs unique.

  Args:
    names: one per group.
    groups: runs.
    form: format of a duplicate name and the name of its group's first folder.

  Returns:
    The names, with their folders where they need them.

  Raises:
    ValueError: if two groups begin with the same folder.
  """
  folders = [own[0].workdir.resolve() for own in groups]
  errors.refuse_twice(folders, "workdir")
  common = os.path.commonpath(folders) if folders else ""
  endings = (
    [folder.name for folder in folders],
    [os.path.relpath(folder, common).replace(os.sep, "-") for folder in folders],
  )
  told = list(names)
  for ending in endings:
    if len(set(told)) < len(told):
      told = [
        form.format(name, own) if names.count(name) > 1 else name
        for name, own in zip(names, ending, strict=True)
      ]
  return told


def write_origin(path: pathlib.Path, workdirs: Sequence[str], text: str = "") -> None:
  """Writes the text file of an image, with its command and runs.

  Args:
    path: of the image.
    workdirs: the runs that it shows.
    text: further text, placed first.
  """
  made = provenance.provenance()
  lines = [text] if text else []
  lines.append(f"command: {made['command']}\ncommit: {made['commit']}\n")
  lines += describe_runs(workdirs)
  content = "\n".join(lines) + "\n"
  files.write_atomically(path.with_suffix(".txt"), content.encode())


def describe_runs(workdirs: Sequence[str]) -> list[str]:
  """Describes how runs were trained, in some lines each.

  Args:
    workdirs: the runs' folders.

  Returns:
    A text per run.

  Raises:
    FileNotFoundError: if a folder has no run, or no epochs.
    ValueError: if one is damaged.
  """
  lines = []
  for workdir in map(pathlib.Path, workdirs):
    config = read_config(workdir)
    records = metric_writer.read_epochs(workdir / "metrics.jsonl")
    if not records:
      raise FileNotFoundError(f"{workdir / 'metrics.jsonl'} has no record of an epoch")
    epochs = records[-1]["epoch"]
    trained = run_record.read_provenance(workdir)

    made = {
      key: ", ".join(provenance.each_once(trained, key)) or "unknown"
      for key in ("command", "commit", "hardware")
    }
    lines.append(
      f"{workdir.name}: {config.data.name}, {config.model.name}, {config.loss.name}, "
      f"seed {config.seed}, {epochs} epochs\n"
      f"  trained by: {made['command']}\n"
      f"  commit: {made['commit']}; hardware: {made['hardware']}"
    )
  return lines


def define_flags(*, images: int | None = None, points: int | None = None) -> None:
  """Defines the flags of a figure of finished runs.

  Args:
    images: default of --images, for a figure that runs the network on images; None
      for one that is drawn from a run's files.
    points: default of --points, for a figure of t-SNE; None for any other.
  """
  flags.DEFINE_multi_string(
    "workdir",
    None,
    "Workdir of a trained run; may be given several times.",
    required=True,
  )
  if images is None:
    return
  analysis_cli.define_split("test")
  flags.DEFINE_integer(
    "images", images, "Maximum number of images of the split; 0 for all.", 0
  )
  if points is not None:
    flags.DEFINE_integer(
      "points", points, "Maximum number of points of t-SNE; 0 for all.", 0
    )
