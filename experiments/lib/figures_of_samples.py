"""Sample images of data sets: a strip of one column per class for each."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags, logging

from emosynth_jax import data
from emosynth_jax.analysis.cross_dataset import parse_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.utils import plotting
from experiments.lib import figures


def choose_samples(dataset: Dataset, rows: int, seed: int) -> np.ndarray:
  """Draws images of each class.

  Args:
    dataset: K classes.
    rows: number of images of each class.
    seed: of the draw.

  Returns:
    int `(rows, K)`, indices into the data set; -1 where a class has fewer images.
  """
  keys = np.random.PCG64(seed).random_raw(len(dataset))
  chosen = np.full((rows, len(dataset.class_names)), -1)
  for k in range(len(dataset.class_names)):
    members = np.flatnonzero(dataset.labels == k)
    members = members[np.argsort(keys[members], kind="stable")][:rows]
    chosen[: len(members), k] = members
  return chosen


def join_images(dataset: Dataset, chosen: np.ndarray) -> np.ndarray:
  """Joins images of a data set to one.

  Args:
    dataset: of images of `(H, W, C)`.
    chosen: of `choose_samples`.

  Returns:
    uint8 `(rows * (H + 2) - 2, K * (W + 2) - 2, C)`; what is between and missing is
    white.
  """
  height, width, channels = dataset.images.shape[1:]
  rows, columns = chosen.shape
  strip = np.full(
    (rows * (height + 2) - 2, columns * (width + 2) - 2, channels), 255, np.uint8
  )
  for (row, column), index in np.ndenumerate(chosen):
    if index >= 0:
      top, left = row * (height + 2), column * (width + 2)
      strip[top : top + height, left : left + width] = dataset.images[index]
  return strip


def draw(
  datasets: Sequence[Dataset], names: Sequence[str], path: pathlib.Path, *, rows: int
) -> None:
  """Draws the strips below each other, with class names above the columns."""
  figure = plotting.new_figure(9, 0.9 + 2.2 * len(datasets))
  axes = figure.subplots(len(datasets), squeeze=False)[:, 0]
  for axis, dataset, name in zip(axes, datasets, names, strict=True):
    strip = join_images(dataset, choose_samples(dataset, rows, seed=0))
    axis.imshow(strip.squeeze(), cmap="gray", vmin=0, vmax=255)
    width = dataset.images.shape[2]
    columns = np.arange(len(dataset.class_names))
    axis.set_xticks(columns * (width + 2) + width / 2 - 0.5, dataset.class_names)
    axis.xaxis.tick_top()
    axis.tick_params(length=0, labelsize=7)
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_ylabel(name, fontsize=9)
  plotting.save(figure, path)


def make_figure(args: Any, path: pathlib.Path) -> None:
  """Draws the data sets of the flags that are there.

  Args:
    args: the flags.
    path: the PNG file; the .txt is beside it.

  Raises:
    FileNotFoundError: if none of them is there.
    ValueError: if one is malformed, or no such data set is known.
  """
  drawn, names, lines, missing = [], [], [], []
  for entry in args.data:
    text = entry if ":" in entry else f"{entry}:{args.data_dir}"
    settings = parse_data(text, flag="--data")
    try:
      dataset = data.load_splits(
        settings.name,
        settings.data_dir,
        ("train",),
        validation_fraction=0,
        seed=0,
        **settings.options,
      )["train"]
    except FileNotFoundError as error:
      missing.append(error)
      logging.warning("%s is not drawn: %s", settings.name, error)
      lines.append(f"{settings.name}: not drawn, the data set is not there")
      continue
    drawn.append(dataset)
    names.append(settings.name)
    lines.append(
      f"{settings.name}: {dataset.official_split or 'train'}, {len(dataset):,} images; "
      f"{args.rows} of each class, drawn with seed 0"
    )
  if not drawn:
    raise missing[0] if missing else ValueError("--data: expected a data set")
  draw(drawn, names, path, rows=args.rows)
  text = "\n".join(lines)
  figures.write_origin(path, (), text)
  print(text)


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("data_dir", "data/tfds", "Folder of data sets without their own.")
  flags.DEFINE_multi_string(
    "data",
    ["mnist", "svhn", "cifar10"],
    "A data set, NAME, NAME:DIR or NAME:DIR:OPTION=VALUE,...; may be given several "
    "times. Those that are not there are left out.",
  )
  flags.DEFINE_integer("rows", 2, "Images of each class.", 1)
