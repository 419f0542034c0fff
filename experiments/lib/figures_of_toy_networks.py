"""Figure of two- and three-dimensional embeddings of small networks trained for it.

A small network whose embedding is drawn without a projection: in the plane, or as a
direction in space. All losses of one seed start from the same parameters and see the
same batches. The last layer has no bias, as in the papers on angular margins, so that
the classes are separated by angle.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags, logging

from emosynth_jax import data
from emosynth_jax.analysis.embeddings import plots as embedding_plots
from emosynth_jax.utils import cli, errors, files, npz, plotting, text_table
from emosynth_jax.workdir import provenance as run_provenance
from experiments.lib import comparison_report, toy_embeddings

_TITLES = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


def format_summary(
  summary: Mapping[str, Mapping[str, Any]], protocol: Mapping[str, Any]
) -> str:
  """Formats the table as text that ends in a newline."""
  lines = [f"{key}: {value}" for key, value in protocol.items()]
  for dim, by_loss in summary.items():
    lines += ["", f"{dim}-D embedding, mean ± standard deviation over seeds"]
    rows = [["", *by_loss]]
    rows += [
      [
        figure,
        *(
          comparison_report.mean_text((x[figure]["mean"], x[figure]["deviation"]), d)
          for x in by_loss.values()
        ),
      ]
      for figure, d in toy_embeddings.METRICS.items()
    ]
    first = next(iter(by_loss))
    rows += [["", *[""] * len(by_loss)]]
    rows += [
      [
        f"{figure} less {first}",
        *(_interval(own[figure], d) for own in by_loss.values()),
      ]
      for figure, d in toy_embeddings.METRICS.items()
      if figure in ("accuracy", "angle_to_own", "angular_margin", "center_angle")
    ]
    lines += text_table.align(rows)
  return "\n".join(lines) + "\n"


def draw(
  path: pathlib.Path,
  found: Mapping[int, Mapping[str, Sequence[toy_embeddings.Trained]]],
  labels: np.ndarray,
  class_names: Sequence[str],
  title: str,
) -> None:
  """Plots one row per dimension and one column per loss, of the first seed.

  Two-dimensional embeddings are plotted directly, with the class weight directions as
  rays; three-dimensional ones as directions on the unit sphere.
  """
  figure = plotting.new_figure(
    3.4 * len(toy_embeddings.LOSSES) + 1, 3.6 * len(toy_embeddings.DIMENSIONS) + 1.2
  )
  for row, dim in enumerate(toy_embeddings.DIMENSIONS):
    for column, (label, trained) in enumerate(found[dim].items()):
      position = (
        len(toy_embeddings.DIMENSIONS),
        len(toy_embeddings.LOSSES),
        row * len(toy_embeddings.LOSSES) + column + 1,
      )
      one = trained[0]
      if dim == 2:
        axis = figure.add_subplot(*position)
        _draw_plane(axis, one, labels, class_names)
      else:
        axis = figure.add_subplot(*position, projection="3d")
        _draw_sphere(axis, one.points, labels)
      axis.set_title(
        f"{label}, {dim}-D\n"
        f"accuracy {100 * one.metrics['accuracy']:.1f} %, angle to own class mean "
        f"{one.metrics['angle_to_own']:.1f}°,\n"
        f"to nearest other {one.metrics['angle_to_other']:.1f}°",
        fontsize=8.5,
      )
  figure.legend(
    handles=embedding_plots.legend_handles(class_names),
    loc="outside right center",
    frameon=False,
  )
  figure.suptitle(title, fontsize=11)
  plotting.save(figure, path)


def _draw_plane(axis, one, labels, class_names):
  embedding_plots.plot_embedding(axis, one.points, labels, class_names)
  reach = np.linalg.norm(one.points, axis=1).max()
  directions = one.weights / np.linalg.norm(one.weights, axis=0)
  for k, direction in enumerate(directions.T):
    axis.plot(
      *zip((0, 0), reach * direction, strict=True),
      color=embedding_plots.COLORS[k],
      linewidth=0.8,
      zorder=0,
    )
  axis.set_aspect("equal", adjustable="datalim")


def _draw_sphere(axis, points, labels):
  units = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
  across, down = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(0, np.pi, 13))
  axis.plot_wireframe(
    np.cos(across) * np.sin(down),
    np.sin(across) * np.sin(down),
    np.cos(down),
    color="#dddddd",
    linewidth=0.4,
  )
  elevation, azimuth = np.radians(20), np.radians(30)
  eye = (
    np.cos(elevation) * np.cos(azimuth),
    np.cos(elevation) * np.sin(azimuth),
    np.sin(elevation),
  )
  in_front = units @ np.array(eye) > 0
  for k in range(labels.max() + 1):
    for side, alpha in ((~in_front, 0.4), (in_front, 0.9)):
      axis.scatter(
        *units[(labels == k) & side].T,
        s=7,
        color=embedding_plots.COLORS[k],
        marker=embedding_plots.MARKERS[k % len(embedding_plots.MARKERS)],
        alpha=alpha,
        depthshade=False,
        # The lightest color needs an edge on white.
        edgecolor="#555555",
        linewidth=0.25,
      )
  axis.view_init(elev=20, azim=30)
  axis.set_box_aspect((1, 1, 1), zoom=1.3)
  axis.set_axis_off()


def _interval(figure: Mapping[str, Any], digits: int) -> str:
  if "difference" not in figure:
    return "-"
  low, high = (figure["difference"][end] for end in ("low", "high"))
  text = f"{figure['difference']['mean']:+.{digits}f}"
  return f"{text} ({low:+.{digits}f}, {high:+.{digits}f})" if low == low else text


def make_figure(args: Any, path: pathlib.Path) -> None:
  """Trains the networks, plots them and writes the results.

  Args:
    args: the flags.
    path: the PNG file of MNIST; the .txt, .json and .npz files have the same
      stem, and those of another data set its name at the end.

  Raises:
    FileNotFoundError: if none of the data sets is there.
    ValueError: for another data set.
  """
  errors.check_choices("--data", args.data, _TITLES)
  missing = []
  for name in args.data:
    own = path if name == "mnist" else path.with_name(f"{path.stem}-{name}.png")
    try:
      _make_one(name, args, own)
    except FileNotFoundError as error:
      missing.append(error)
      logging.warning("%s is not drawn: %s", name, error)
  if missing and len(missing) == len(args.data):
    raise missing[0]


def _make_one(name: str, args: Any, path: pathlib.Path) -> None:
  """The figure of one data set."""

  def load(split, limit):
    return data.load_splits(
      name, args.data_dir, (split,), validation_fraction=0.1, seed=0, limit=limit
    )[split]

  training, validation = load("train", args.images), load("validation", 2000)
  seeds = range(args.seeds)
  found = toy_embeddings.run_all(training, validation, seeds, args.epochs)
  provenance = run_provenance.provenance()
  protocol = {
    "data": f"{_TITLES[name]}, {len(training):,} of train; metrics of "
    f"{len(validation):,} held out",
    "training": f"Adam from {toy_embeddings.LEARNING_RATE} by a cosine, batches of "
    f"{toy_embeddings.BATCH_SIZE}, {args.epochs} epochs, no augmentation",
    "losses": "; ".join(
      f"{label} = {', '.join(map(str, loss.values()))}"
      for label, loss in toy_embeddings.LOSSES.items()
    ),
    "seeds": ", ".join(map(str, seeds)),
    "hardware": provenance["hardware"],
    "command": provenance["command"],
    "commit": provenance["commit"],
  }
  summary = toy_embeddings.summarize(found)
  text = format_summary(summary, protocol)
  files.write_atomically(path.with_suffix(".txt"), text.encode())
  files.write_report(
    path.with_suffix(".json"),
    {"protocol": protocol, "figures": summary, "computed_by": provenance},
  )
  npz.write_npz(
    path.with_suffix(".npz"),
    {"labels": validation.labels}
    | {
      f"{label}, {dim}-D, seed {seed}: {name}": getattr(one, name)
      for dim, by_loss in found.items()
      for label, trained in by_loss.items()
      for seed, one in zip(seeds, trained, strict=True)
      for name in ("points", "weights")
    },
  )
  draw(
    path,
    found,
    validation.labels,
    validation.class_names,
    f"{_TITLES[name]}, {len(training):,} images of train; plotted: "
    f"{len(validation):,} held out, seed {seeds[0]}",
  )
  print(text, end="")
  print(f"{path.name}, .txt, .json and .npz are in {path.parent}")


def define_flags() -> None:
  """Defines the command's flags."""
  flags.DEFINE_string("data_dir", "data/tfds", "Data set directory.")
  flags.DEFINE_list(
    "data",
    list(_TITLES),
    "Data sets: mnist, cifar10 or both. One that is not there is left out.",
  )
  cli.define_seeds(3, "Seeds of the networks.")
  flags.DEFINE_integer(
    "images",
    4000,
    "Number of training images, stratified by class.",
    toy_embeddings.BATCH_SIZE,
  )
  flags.DEFINE_integer("epochs", 15, "Number of training epochs.", 1)
