"""Figures that evaluate trained networks: Grad-CAM, embeddings."""

import pathlib
from typing import Any

from emosynth_jax.analysis.embeddings import command as embedding_command
from emosynth_jax.analysis.embeddings import comparison as embedding_comparison
from emosynth_jax.analysis.gradcam import command as gradcam_command
from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.analysis.gradcam import plots as gradcam_plots
from emosynth_jax.data.dataset import draw_rows
from emosynth_jax.report import run_files
from emosynth_jax.training.restore import load_network
from experiments.lib import figures

# Of Grad-CAM.
_BATCH_SIZE = 64


def draw_saliency(args: Any, path: pathlib.Path) -> None:
  """Plots images, Grad-CAM, guided backpropagation and their product for each run.

  For each class one image that is classified well and one that is not.

  Args:
    args: the flags.
    path: a PNG file; a suffix identifying the run is added to its name.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `restore.load_network`.
  """
  runs = [run_files.read_run(workdir) for workdir in args.workdir]
  paths = figures.paths_of_runs(path, runs)
  for workdir, own in zip(args.workdir, paths, strict=True):
    network = load_network(workdir, args.split, args.data_dir, dtype="float32")
    layer, shape, margin = gradcam_network.choose_layer(network, None)
    rows = draw_rows(len(network.dataset), args.images)
    batch_size = min(_BATCH_SIZE, len(rows))
    found = gradcam_command.compute_maps(
      gradcam_network.compile_maps(network, layer, margin, batch_size=batch_size),
      network,
      rows,
      batch_size=batch_size,
      title=f"{workdir}: Grad-CAM of {layer}",
    )
    gradcam_command.draw_maps(
      own,
      network,
      rows,
      found,
      split=args.split,
      layer=gradcam_plots.describe_layer(layer, shape, margin),
    )
    figures.write_origin(own, [workdir])


def draw_embeddings(args: Any, path: pathlib.Path) -> None:
  """Plots t-SNE of the runs' embeddings on the same images; writes their separation.

  Args:
    args: the flags.
    path: the PNG file; its text file has the metrics and paired differences.

  Raises:
    FileNotFoundError, ValueError, CheckpointError: as `embedding_command.embed_runs`,
      before the first run is embedded.
  """
  # Checked before the plot: a file may be missing.
  figures.describe_runs(args.workdir)
  found = embedding_command.embed_runs(
    args.workdir,
    split=args.split,
    images=args.images,
    points=args.points,
    data_dir=args.data_dir,
  )
  records = [record for record, _ in found]
  comparisons = embedding_comparison.compare(records)
  embedding_command.draw_runs(path, found)
  text = embedding_comparison.format_runs(records)
  if comparisons:
    text += "\n" + embedding_comparison.format_comparison(comparisons)
  print(text, end="")
  figures.write_origin(path, args.workdir, text)
