"""Names, origins and flags of the thesis's figures.

Beside every image lies a text of the same name: the runs, seeds, commands and commits
behind it.
"""

import os
import pathlib
from collections.abc import Sequence

from absl import flags

from emosynth_jax.config.stored import read_config
from emosynth_jax.report import run_files
from emosynth_jax.utils import cli, files
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import metric_writer, provenance
from emosynth_jax.workdir import record as run_record


def paths_of_runs(
  path: pathlib.Path, runs: Sequence[run_files.RunFiles]
) -> list[pathlib.Path]:
  """A picture's path for each of several runs.

  Args:
    path: without what tells a run.
    runs: of any kind.

  Returns:
    The path with the run's data set (and fold), network, loss and seed in its name, and
    where that doesn't tell it from the others its folder.

  Raises:
    ValueError: if a run is there twice.
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
  """Names of groups of runs of which no two are equal.

  Args:
    names: one a group.
    groups: runs.
    form: of a name and of what its group's first folder is called, for names that are
      there more than once.

  Returns:
    The names, with their folders where they need them.

  Raises:
    ValueError: if two groups begin with the same folder.
  """
  folders = [own[0].workdir.resolve() for own in groups]
  if twice := [folder for folder in folders if folders.count(folder) > 1]:
    raise ValueError(f"--workdir: {twice[0]} is there twice")
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
  """Writes beside a picture by what it was made.

  Args:
    path: of the picture.
    workdirs: the runs that it shows.
    text: what else is to be said, first.
  """
  made = provenance.provenance()
  lines = [text] if text else []
  lines.append(f"made by: {made['command']}\ncommit: {made['commit']}\n")
  lines += describe_runs(workdirs)
  content = "\n".join(lines) + "\n"
  files.write_atomically(path.with_suffix(".txt"), content.encode())


def describe_runs(workdirs: Sequence[str]) -> list[str]:
  """By what runs were trained, some lines each.

  Args:
    workdirs: the runs' folders.

  Returns:
    A text for each.

  Raises:
    FileNotFoundError: if one holds no run, or no epochs.
    ValueError: if one is damaged.
  """
  lines = []
  for workdir in map(pathlib.Path, workdirs):
    read_config(workdir)
    config = read_json(workdir / "config.json")
    epochs = len(metric_writer.read_records(workdir / "metrics.jsonl"))
    trained = run_record.read_provenance(workdir)

    def each_once(key, trained=trained):
      return ", ".join(dict.fromkeys(str(t[key]) for t in trained)) or "unknown"

    lines.append(
      f"{workdir.name}: {config['data']['name']}, {config['model']['name']}, "
      f"{config['loss']['name']}, seed {config['seed']}, {epochs} epochs\n"
      f"  trained by: {each_once('command')}\n"
      f"  commit: {each_once('commit')}; hardware: {each_once('hardware')}"
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
    "Folder of a trained run; may be given several times.",
    required=True,
  )
  cli.define_traceback()
  if images is None:
    return
  flags.DEFINE_enum(
    "split", "test", ["train", "validation", "test"], "Split of the images."
  )
  flags.DEFINE_integer("images", images, "Images of the split at most; 0 for all.", 0)
  if points is not None:
    flags.DEFINE_integer("points", points, "Points of the t-SNE at most; 0 for all.", 0)
  cli.define_data_dir()
