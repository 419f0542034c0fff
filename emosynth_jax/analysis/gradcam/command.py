"""Grad-CAM and guided backpropagation of a trained run, as files and a plot.

Writes into the workdir:

  gradcam.npz   of every image used: its row in the split, label, requested class,
                logits, Grad-CAM at the layer's size and at the image's, guided
                backpropagation and guided Grad-CAM, all as they are computed
  gradcam.json  the settings, the provenance, and the sanity check
  gradcam.png   for each class, one correctly and one incorrectly classified image
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.analysis.gradcam import plots as gradcam_plots
from emosynth_jax.analysis.gradcam import sanity_check
from emosynth_jax.data.dataset import draw_rows
from emosynth_jax.parallel import batched_map
from emosynth_jax.training.restore import load_network
from emosynth_jax.utils import files, npz, progress
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import provenance

# Of one call of the program, between progress lines.
_BATCHES_A_CALL = 8


def explain_run(args: Any) -> None:
  """Computes Grad-CAM with the flags; writes and plots the results."""

  network = load_network(args.workdir, args.split, args.data_dir, dtype="float32")
  layer, shape, margin = gradcam_network.choose_layer(network, args.layer)

  dataset = network.dataset
  rows = draw_rows(len(dataset), args.images)
  total = len(rows)
  batch_size = min(args.batch_size, total)
  program = gradcam_network.compile_maps(network, layer, margin, batch_size=batch_size)
  found = compute_maps(
    program,
    network,
    rows,
    batch_size=batch_size,
    of_labels=args.target == "label",
    title=f"Grad-CAM of {layer}",
  )
  folder = pathlib.Path(args.workdir)
  labels = dataset.labels[rows]
  right = found["logits"].argmax(-1) == labels
  facts = network.facts()
  settings = {
    "split": args.split,
    "num_images": total,
    "variables_crc32": facts["variables_crc32"],
    "layer": layer,
    "target": args.target,
  }
  sanity = _stored_sanity(folder / "gradcam.json", settings)

  if args.sanity_check:
    sanity = sanity_check.check_sanity(
      gradcam_network.apply_fn_of(network.experiment, modules=True),
      program,
      network,
      dataset.images[rows],
      found["targets"],
    )

  # Written after the check, which takes minutes: until then old results stay complete.
  npz.write_npz(
    folder / "gradcam.npz",
    {"rows": rows, "labels": labels, **found},
  )
  files.write_report(
    folder / "gradcam.json",
    {
      **facts,
      **settings,
      "layer_shape": list(shape),
      "margin": margin,
      "class_names": list(dataset.class_names),
      "accuracy": float(right.mean()),
      "images_without_map": int((found["maps"].max((1, 2)) == 0).sum()),
      **sanity,
      "computed_in": cli.computed_in(),
      "computed_by": provenance.provenance(),
    },
  )
  draw_maps(
    folder / "gradcam.png",
    network,
    rows,
    found,
    split=args.split,
    layer=gradcam_plots.describe_layer(layer, shape, margin),
  )
  if args.sanity_check:
    print(sanity_check.format_sanity(sanity))
  print(
    f"{args.workdir}: Grad-CAM of {layer} {shape} for the {args.target} "
    f"class of {total} images of {args.split}: gradcam.png, gradcam.npz, gradcam.json"
  )


def compute_maps(
  program: Callable[..., dict[str, Any]],
  network: Any,
  rows: np.ndarray,
  *,
  batch_size: int,
  title: str,
  of_labels: bool = False,
) -> dict[str, np.ndarray]:
  """Computes the maps of many images, with progress lines.

  Args:
    program: of `gradcam_network.compile_maps`.
    network: the trained one, a `restore.Network`.
    rows: int `(M,)`, the images in its data set.
    batch_size: that of the program, at most M.
    title: beginning of the progress lines.
    of_labels: whether the maps are of the labels instead of the predicted classes.

  Returns:
    As `gradcam_network.compile_maps`.
  """
  total = len(rows)
  asked = (network.dataset.labels[rows],) if of_labels else ()
  bar = progress.Progress(first=0, total=total)
  found: dict[str, np.ndarray] = batched_map.run_in_chunks(
    lambda members, *shared: program(*shared, *members),
    (network.dataset.images[rows], *asked),
    (network.state.evaluation_variables, network.state.input_scale),
    chunk=min(_BATCHES_A_CALL * batch_size, -(-total // batch_size) * batch_size),
    report=lambda done: bar.update(
      done, f"{title}: image {done}/{total}", images_per_unit=1
    ),
  )
  return found


def draw_maps(
  path: pathlib.Path,
  network: Any,
  rows: np.ndarray,
  found: Mapping[str, np.ndarray],
  *,
  split: str,
  layer: str,
) -> None:
  """Plots the maps of a trained network, see `gradcam_plots.draw`.

  Args:
    path: the PNG file.
    network: the trained one, a `restore.Network`.
    rows: int `(M,)`, the images in its data set.
    found: of `compute_maps`.
    split: name of a split without an official one.
    layer: of `gradcam_plots.describe_layer`.
  """
  config, dataset = network.config, network.dataset
  gradcam_plots.draw(
    path,
    images=dataset.images[rows],
    labels=dataset.labels[rows],
    found=found,
    class_names=dataset.class_names,
    title=f"{config.data.name}, {dataset.official_split or split}: "
    f"{config.model.name}, {config.loss.name}, seed {config.seed}, {layer}",
  )


def _stored_sanity(path: pathlib.Path, settings: Mapping[str, Any]) -> dict[str, Any]:
  """An earlier sanity check of the same maps, which takes minutes; else None."""
  found: dict[str, Any] = {"sanity_check": None, "sanity_check_of": None}
  try:
    stored = read_json(path)
    if all(stored[key] == value for key, value in settings.items()):
      found = {key: stored[key] for key in found}
  except (OSError, ValueError, KeyError, TypeError):
    pass
  return found
