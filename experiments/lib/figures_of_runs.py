"""Figures of finished runs' files: training curves and confusion matrices."""

import pathlib
from collections.abc import Sequence
from typing import Any

from emosynth_jax.analysis.embeddings import plots as embedding_plots
from emosynth_jax.metrics import plots
from emosynth_jax.report import run_files
from emosynth_jax.utils import plotting
from emosynth_jax.workdir import seed_summary
from experiments.lib import figures

# Panels of curves: axis label, factor and keys of metrics.jsonl.
FIT = (
  ("accuracy (%)", 100, ("train/accuracy", "validation/accuracy")),
  ("loss", 1, ("train/loss", "validation/loss")),
)
ACCURACIES = (
  ("train accuracy (%)", 100, ("train/accuracy",)),
  ("validation accuracy (%)", 100, ("validation/accuracy",)),
)
_LOSSES = (
  "Training: mean over an epoch, with augmentation and dropout; loss: each run's own, "
  "with its margin.\n"
  "Validation: after the epoch, without either; loss: cross-entropy of the "
  "margin-free logits."
)
_TRAINING = (
  "Training accuracy: mean over an epoch, with augmentation and dropout. Validation: "
  "after the epoch, without either."
)


def draw_curves(args: Any, path: pathlib.Path, panels: Sequence[Any] = FIT) -> None:
  """Plots curves by epoch: one row per data set, one color per config.

  Runs that differ only in the seed are averaged, over their common epochs; the label
  of a single run has its seed. Training is dashed where a panel has both. Two panels
  of accuracies share one scale.

  Args:
    args: the flags, with the workdirs of runs that were evaluated.
    path: the PNG file.
    panels: `FIT` or `ACCURACIES`.

  Raises:
    FileNotFoundError, ValueError: as `run_files.read_run`; ValueError, too, for a run
      that is there twice or lacks records, and for seeds that were not trained on the
      same data.
  """
  runs = [run_files.read_run(workdir) for workdir in args.workdir]
  for run in runs:
    if run.missing_epochs:
      raise ValueError(
        f"{run.workdir / 'metrics.jsonl'} has no record of epochs {run.missing_epochs}"
      )
  data_sets = list(dict.fromkeys(run.report["data_set"] for run in runs))
  figure = plotting.new_figure(9.5, 3.1 * len(data_sets) + 0.6)
  axes = figure.subplots(
    len(data_sets),
    len(panels),
    squeeze=False,
    sharey="row" if panels is ACCURACIES else False,
  )
  for row, data_set in zip(axes, data_sets, strict=True):
    kinds = _kinds([run for run in runs if run.report["data_set"] == data_set])
    for axis, (name, factor, keys) in zip(row, panels, strict=True):
      for i, (label, own) in enumerate(kinds.items()):
        for key in keys:
          dashed = len(keys) > 1 and key.startswith("train/")
          epochs, mean = plots.mean_series([run.records for run in own], key)
          axis.plot(
            epochs,
            factor * mean,
            "--" if dashed else "-",
            color=embedding_plots.COLORS[i % len(embedding_plots.COLORS)],
            marker=_marker(i) if len(epochs) <= 40 else None,
            markersize=3,
            linewidth=1.5,
            label=None if dashed else label,
          )
      axis.set_xlabel("epoch")
      axis.set_ylabel(name)
      # Shared axes have no tick labels on the second panel, which has its own label.
      axis.yaxis.set_tick_params(labelleft=True)
      axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
      plotting.clean(axis)
    row[0].set_title(data_set, fontsize=10, loc="left")
    row[-1].legend(
      frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)
    )
  lines = f"Dashed: training. Solid: validation.\n{_LOSSES}"
  figure.supxlabel(
    lines if panels is FIT else _TRAINING, fontsize=8, color=plotting.GRAY
  )
  plotting.save(figure, path)
  figures.write_origin(path, args.workdir)


def _marker(i: int) -> str:
  return embedding_plots.MARKERS[i % len(embedding_plots.MARKERS)]


def _kinds(
  runs: Sequence[run_files.RunFiles],
) -> dict[str, list[run_files.RunFiles]]:
  """Groups runs by config, under distinct labels."""
  found = seed_summary.group_by_settings(
    [run.report["config"] for run in runs], [run.workdir for run in runs]
  )
  groups = [[runs[i] for i in own] for own in found]
  for own in groups:
    seed_summary.check_same_data(
      [run.data for run in own], [run.workdir for run in own]
    )
  configs = [own[0].report["config"] for own in groups]
  names = [f"{c['model']['name']}, {c['loss']['name']}" for c in configs]
  # Recipes of one network and loss are distinguished by their folders.
  names = figures.tell_apart(names, groups, "{} ({})")
  return {
    f"{name}, {_describe_seeds(own)}": own
    for name, own in zip(names, groups, strict=True)
  }


def _describe_seeds(runs: Sequence[run_files.RunFiles]) -> str:
  return f"{len(runs)} seeds" if len(runs) > 1 else f"seed {runs[0].report['seed']}"


def draw_confusions(args: Any, path: pathlib.Path) -> None:
  """Plots the confusion matrix of each run's reported split.

  Args:
    args: the flags, with the workdirs of runs that were evaluated.
    path: a PNG file; a suffix identifying the run is added to its name.

  Raises:
    FileNotFoundError, ValueError: as `run_files.read_run`; ValueError, too, for a run
      that is there twice.
  """
  runs = [run_files.read_run(workdir) for workdir in args.workdir]
  for run, own in zip(runs, figures.paths_of_runs(path, runs), strict=True):
    split, summary = run.reported_split, run.report["splits"][run.reported_split]
    official = run.report["official_splits"][split] or split
    plots.plot_confusion_matrix(
      summary["confusion_matrix"],
      summary["class_names"],
      own,
      f"{run.report['data_set']}, {official}: "
      f"{run.report['config']['model']['name']}, "
      f"{run.report['config']['loss']['name']}, seed {run.report['seed']}, accuracy "
      f"{100 * summary['accuracy']:.2f} %",
    )
    figures.write_origin(own, [str(run.workdir)])
