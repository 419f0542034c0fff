"""Figures that evaluate trained networks: Grad-CAM, embeddings."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from emosynth_jax.analysis.embeddings import comparison as embedding_comparison
from emosynth_jax.analysis.embeddings import run as embedding_run
from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.analysis.gradcam import plot as gradcam_plot
from emosynth_jax.parallel import batched_map
from emosynth_jax.report import run_files
from emosynth_jax.training.restore import load_network
from emosynth_jax.utils import progress
from experiments.lib import figures

# Of Grad-CAM: batch size, and number of batches between progress lines.
_BATCH_SIZE, _BATCHES_A_CALL = 64, 8


def draw_saliency(given: Any, path: pathlib.Path) -> None:
  """Plots images, Grad-CAM, guided backpropagation and their product for each run.

  For each class one image that is classified well and one that is not.

  Args:
    given: the flags.
    path: a PNG file; a suffix identifying the run is added to its name.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `restore.load_network`.
  """
  runs = [run_files.read_run(workdir) for workdir in given.workdir]
  paths = figures.paths_of_runs(path, runs)
  for workdir, own in zip(given.workdir, paths, strict=True):
    network = load_network(workdir, given.split, given.data_dir, dtype="float32")
    config, experiment, state, dataset = network
    layer, shape, margin = gradcam_network.choose_layer(network, None)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(dataset))
    rows = np.sort(order[: given.images or len(dataset)])
    found = _explain(
      functools.partial(
        gradcam_network.explain,
        gradcam_network.apply_fn_of(experiment, modules=True),
        layer=layer,
        margin=margin,
        preprocess=experiment.preprocess,
      ),
      dataset.images[rows],
      (state.evaluation_variables, state.input_scale),
      f"{workdir}: Grad-CAM of {layer}",
    )
    gradcam_plot.draw(
      own,
      images=dataset.images[rows],
      labels=dataset.labels[rows],
      found=found,
      class_names=dataset.class_names,
      title=f"{config.data.name}, {dataset.official_split or given.split}: "
      f"{config.model.name}, {config.loss.name}, seed {config.seed}, "
      f"{gradcam_plot.describe_layer(layer, shape, margin)}",
    )
    figures.write_origin(own, [workdir])


def _explain(
  explain: Callable[..., Any], images: np.ndarray, shared: tuple[Any, ...], label: str
) -> dict[str, np.ndarray]:
  """Computes the maps of many images in batches, with progress lines."""
  total = len(images)
  batch_size = min(_BATCH_SIZE, total)
  program = jax.jit(functools.partial(explain, batch_size=batch_size))
  bar = progress.Progress(first=0, total=total)
  return batched_map.run_in_chunks(
    lambda members, *shared: program(*shared, members),
    images,
    shared,
    chunk=min(_BATCHES_A_CALL * batch_size, -(-total // batch_size) * batch_size),
    report=lambda done: bar.update(
      done, f"{label}: image {done}/{total}", images_per_unit=1
    ),
  )


def draw_embeddings(given: Any, path: pathlib.Path) -> None:
  """Plots t-SNE of the runs' embeddings on the same images; writes their separation.

  Args:
    given: the flags.
    path: the PNG file; its text file has the metrics and paired differences.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `embedding_run.embed_runs`,
      before the first run is embedded.
  """
  # Checked before the plot: a file may be missing.
  figures.describe_runs(given.workdir)
  found = embedding_run.embed_runs(
    given.workdir,
    split=given.split,
    images=given.images,
    points=given.points,
    data_dir=given.data_dir,
  )
  records = [record for record, _ in found]
  comparisons = embedding_comparison.compare(records)
  embedding_run.draw_runs(path, found)
  text = embedding_comparison.format_runs(records)
  if comparisons:
    text += "\n" + embedding_comparison.format_comparison(comparisons)
  print(text, end="")
  figures.write_origin(path, given.workdir, text)
