"""What the scripts of the thesis's figures share: finished runs in, pictures out.

Beside every picture lies a text of the same name: by which runs, seeds, commands and
commits it was made.
"""

import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import app, flags

from emosynth_jax import (
  command_line,
  mapped,
  metric_writer,
  plots,
  progress,
  results,
  run_config,
)
from emosynth_jax import seeds as several
from emosynth_jax.analysis import embedding_plots
from emosynth_jax.reporting import run_files

# Of Grad-CAM: images at a time, and how many such batches between two lines on the
# screen.
_BATCH_SIZE, _BATCHES_A_CALL = 64, 8
# Panels of curves: what the axis says, its factor and the keys of metrics.jsonl.
FIT = (
  ("accuracy (%)", 100, ("train/accuracy", "validation/accuracy")),
  ("loss", 1, ("train/loss", "validation/loss")),
)
ACCURACIES = (
  ("train accuracy (%)", 100, ("train/accuracy",)),
  ("validation accuracy (%)", 100, ("validation/accuracy",)),
)
_LOSSES = (
  "Training: mean over an epoch, under augmentation and dropout, the loss each run's "
  "own with its margin.\nValidation: after the epoch, without either, the loss "
  "cross-entropy of the margin-free logits."
)
_TRAINING = (
  "Training accuracy: mean over an epoch, under augmentation and dropout. Validation: "
  "after the epoch, without either."
)


def draw_curves(
  workdirs: Sequence[str], path: pathlib.Path, panels: Sequence[Any] = FIT
) -> None:
  """Curves by epoch: a row for each data set, a colour for each kind of run.

  Runs that differ in the seed alone are one kind, and their mean is drawn, as far as
  all of them go; a single run is named with its seed. Training is dashed where a
  panel has both. Two panels of accuracies have one scale.

  Args:
    workdirs: of runs that were evaluated.
    path: the PNG file.
    panels: `FIT` or `ACCURACIES`.

  Raises:
    FileNotFoundError, ValueError: as `run_files.read_run`.
  """
  runs = [run_files.read_run(workdir) for workdir in workdirs]
  data_sets = list(dict.fromkeys(run.report["data_set"] for run in runs))
  figure = plots.new_figure(9.5, 3.1 * len(data_sets) + 0.6)
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
          curves = [[factor * float(r[key]) for r in run.records] for run in own]
          length = min(map(len, curves))
          mean = np.mean([curve[:length] for curve in curves], axis=0)
          axis.plot(
            range(1, length + 1),
            mean,
            "--" if dashed else "-",
            color=embedding_plots.COLOURS[i % len(embedding_plots.COLOURS)],
            marker=_marker(i) if length <= 40 else None,
            markersize=3,
            linewidth=1.5,
            label=None if dashed else label,
          )
      axis.set_xlabel("epoch")
      axis.set_ylabel(name)
      # Shared axes leave out the numbers of the second, which has words of its own.
      axis.yaxis.set_tick_params(labelleft=True)
      axis.xaxis.get_major_locator().set_params(integer=True)
      plots.clean(axis)
    row[0].set_title(data_set, fontsize=10, loc="left")
    row[-1].legend(
      frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5)
    )
  lines = f"Dashed: training. Solid: validation.\n{_LOSSES}"
  figure.supxlabel(lines if panels is FIT else _TRAINING, fontsize=8, color=plots.GREY)
  plots.save(figure, path)
  write_origin(path, workdirs)


def _marker(i: int) -> str:
  return embedding_plots.MARKERS[i % len(embedding_plots.MARKERS)]


def _kinds(
  runs: Sequence[run_files.RunFiles],
) -> dict[str, list[run_files.RunFiles]]:
  """Runs of one config by a label that tells it from the others."""
  by_config: dict[str, list[run_files.RunFiles]] = {}
  for run in runs:
    settings = several.settings_of(run.report["config"])
    settings.pop("seed")
    by_config.setdefault(json.dumps(settings, sort_keys=True), []).append(run)
  labels: dict[str, list[run_files.RunFiles]] = {}
  for own in by_config.values():
    config = own[0].report["config"]
    label = f"{config['model']['name']}, {config['loss']['name']}"
    # Two recipes of one network and loss.
    label += f" ({own[0].workdir.name})" if label in labels else ""
    labels[label] = own

  def seeds_of(own):
    return f"{len(own)} seeds" if len(own) > 1 else f"seed {own[0].report['seed']}"

  return {f"{label}, {seeds_of(own)}": own for label, own in labels.items()}


def draw_confusions(workdirs: Sequence[str], path: pathlib.Path) -> None:
  """The confusion matrix of each run's reported split.

  Args:
    workdirs: of runs that were evaluated.
    path: a PNG file; what tells the run is added to its name.

  Raises:
    FileNotFoundError, ValueError: as `run_files.read_run`.
  """
  for workdir in workdirs:
    run = run_files.read_run(workdir)
    split, summary = run.reported_split, run.report["splits"][run.reported_split]
    official = run.report["official_splits"][split] or split
    own = of_run(path, run)
    plots.plot_confusion_matrix(
      summary["confusion_matrix"],
      summary["class_names"],
      own,
      f"{run.report['data_set']}, {official}: "
      f"{run.report['config']['model']['name']}, "
      f"{run.report['config']['loss']['name']}, seed {run.report['seed']}, accuracy "
      f"{100 * summary['accuracy']:.2f} %",
    )
    write_origin(own, [workdir])


def of_run(path: pathlib.Path, run: run_files.RunFiles) -> pathlib.Path:
  """A picture's path with the run's data set, loss and seed in its name."""
  report = run.report
  loss = report["config"]["loss"]["name"].replace("+", "-")
  return path.with_name(
    f"{path.stem}-{report['data_set']}-{loss}-seed{report['seed']}{path.suffix}"
  )


def draw_saliency(given: Any, path: pathlib.Path) -> None:
  """Of each run: images, Grad-CAM, guided backpropagation and their product.

  For each class one image that is classified well and one that is not.

  Args:
    given: the flags.
    path: a PNG file; what tells the run is added to its name.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `trained_run.load_network`.
  """
  from emosynth_jax.analysis import saliency_grid, saliency_run, trained_run

  runs = [run_files.read_run(workdir) for workdir in given.workdir]
  for workdir, run in zip(given.workdir, runs, strict=True):
    network = trained_run.load_network(
      workdir, given.split, given.data_dir, dtype="float32"
    )
    config, experiment, state, dataset = network
    layer, shape, margin = saliency_run.choose_layer(network, None)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(dataset))
    rows = np.sort(order[: given.images or len(dataset)])
    found = _explain(
      functools.partial(
        saliency_run.explain,
        saliency_run.apply_fn_of(experiment, modules=True),
        layer=layer,
        margin=margin,
      ),
      dataset.images[rows],
      (state.evaluation_variables, state.input_scale),
      f"{workdir}: Grad-CAM of {layer}",
    )
    own = of_run(path, run)
    saliency_grid.draw(
      own,
      images=dataset.images[rows],
      labels=dataset.labels[rows],
      found=found,
      class_names=dataset.class_names,
      title=f"{config.data.name}, {dataset.official_split or given.split}: "
      f"{config.model.name}, {config.loss.name}, seed {config.seed}, "
      f"{saliency_grid.describe_layer(layer, shape, margin)}",
    )
    write_origin(own, [workdir])


def _explain(
  explain: Callable[..., Any], images: np.ndarray, shared: tuple[Any, ...], label: str
) -> dict[str, np.ndarray]:
  """The maps of many images, a few batches a call, with a line now and then."""
  import jax

  total = len(images)
  batch_size = min(_BATCH_SIZE, total)
  program = jax.jit(functools.partial(explain, batch_size=batch_size))
  bar = progress.Progress(first=0, total=total)
  return mapped.run_in_chunks(
    lambda members, *shared: program(*shared, members),
    images,
    shared,
    chunk=min(_BATCHES_A_CALL * batch_size, -(-total // batch_size) * batch_size),
    report=lambda done: bar.update(
      done, f"{label}: image {done}/{total}", images_per_unit=1
    ),
  )


def draw_embeddings(given: Any, path: pathlib.Path) -> None:
  """t-SNE of the runs' embeddings on the same images, and their separation as text.

  Args:
    given: the flags.
    path: the PNG file; its text has the figures and paired differences.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `embedding_run.embed_runs`,
      before the first run is embedded.
  """
  from emosynth_jax.analysis import embedding_run, separation_report

  # Not only when the picture is done: a file may be missing.
  describe_runs(given.workdir)
  found = embedding_run.embed_runs(
    given.workdir,
    split=given.split,
    images=given.images,
    points=given.points,
    data_dir=given.data_dir,
  )
  records = [record for record, _ in found]
  comparisons = separation_report.compare(records)
  embedding_run.draw_runs(path, found)
  text = separation_report.format_runs(records)
  if comparisons:
    text += "\n" + separation_report.format_comparison(comparisons)
  print(text, end="")
  write_origin(path, given.workdir, text)


def write_origin(path: pathlib.Path, workdirs: Sequence[str], text: str = "") -> None:
  """Writes beside a picture by what it was made.

  Args:
    path: of the picture.
    workdirs: the runs that it shows.
    text: what else is to be said, first.
  """
  made = results.provenance()
  lines = [text] if text else []
  lines.append(f"made by: {made['command']}\ncommit: {made['commit']}\n")
  lines += describe_runs(workdirs)
  content = "\n".join(lines) + "\n"
  results.write_atomically(path.with_suffix(".txt"), content.encode())


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
  from emosynth_jax.analysis import trained_run

  lines = []
  for workdir in map(pathlib.Path, workdirs):
    trained_run.read_config(workdir)
    config = json.loads((workdir / "config.json").read_text())
    epochs = len(metric_writer.read_records(workdir / "metrics.jsonl"))
    trained = run_config.read_provenance(workdir)

    def each_once(key, trained=trained):
      return ", ".join(dict.fromkeys(str(t[key]) for t in trained)) or "unknown"

    lines.append(
      f"{workdir.name}: {config['data']['name']}, {config['model']['name']}, "
      f"{config['loss']['name']}, seed {config['seed']}, {epochs} epochs\n"
      f"  trained by: {each_once('command')}\n"
      f"  commit: {each_once('commit')}; hardware: {each_once('hardware')}"
    )
  return lines


def define_flags(
  *, images: int | None = None, points: int | None = None, split: str = "test"
) -> None:
  """The flags of a figure of finished runs.

  Args:
    images: default of --images, for a figure that looks at images; None for one that
      is drawn of a run's files.
    points: default of --points, for a figure that is a t-SNE of them; None for none.
    split: default of --split.
  """
  flags.DEFINE_multi_string(
    "workdir",
    None,
    "Folder of a trained run; may be given several times.",
    required=True,
  )
  flags.DEFINE_string("output", "runs/figures", "Folder of the pictures.")
  command_line.define_traceback()
  if images is None:
    return
  flags.DEFINE_enum(
    "split", split, ["train", "validation", "test"], "Where the images are from."
  )
  flags.DEFINE_integer("images", images, "How many of them, at most; 0 for all.", 0)
  if points is not None:
    flags.DEFINE_integer(
      "points", points, "How many t-SNE draws, at most; 0 for all.", 0
    )
  command_line.define_data_dir()


def path_of(given: Any, name: str) -> pathlib.Path:
  """The picture's path; its folder is made."""
  folder = pathlib.Path(given.output)
  folder.mkdir(parents=True, exist_ok=True)
  return folder / f"{name}.png"


def run(define: Callable[[], None], draw: Callable[[Any], None]) -> None:
  """Entry point of a figure's command.

  Args:
    define: defines its flags.
    draw: takes them.
  """
  from emosynth_jax.analysis import command

  def main(argv):
    command.run_command(argv, draw)

  before = set(flags.FLAGS)
  define()
  # --help lists what the script itself defines, and these are defined for it.
  command_line.show_in_help(sorted(set(flags.FLAGS) - before))
  app.run(main)
