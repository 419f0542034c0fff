"""Grad-CAM and guided backpropagation of a trained run, as files and a plot.

Writes into the workdir:

  gradcam.npz   of every image used: its row in the split, label, requested class,
                logits, Grad-CAM at the layer's size and at the image's, guided
                backpropagation and guided Grad-CAM, all as they are computed
  gradcam.json  the settings, the provenance, and the sanity check
  gradcam.png   for each class, one correctly and one incorrectly classified image
"""

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.analysis.gradcam import plot as gradcam_plot
from emosynth_jax.analysis.gradcam import sanity_check
from emosynth_jax.parallel import batched_map
from emosynth_jax.training.restore import load_network
from emosynth_jax.utils import files, npz, progress
from emosynth_jax.utils.json_files import read_json
from emosynth_jax.workdir import digests, provenance


def explain_run(given: Any) -> None:
  """Computes Grad-CAM with the flags; writes and plots the results."""

  network = load_network(given.workdir, given.split, given.data_dir, dtype="float32")
  config, experiment, state, dataset = network
  variables = state.evaluation_variables
  apply_fn = gradcam_network.apply_fn_of(experiment, modules=True)
  layer, shape, margin = gradcam_network.choose_layer(network, given.layer)

  total = min(given.images or len(dataset), len(dataset))
  # Drawn at random, as many splits are sorted by class; the same for every run.
  order = np.random.Generator(np.random.PCG64(0)).permutation(len(dataset))
  rows = np.sort(order[:total])
  batch_size = min(given.batch_size, total)
  program = jax.jit(
    functools.partial(
      gradcam_network.explain,
      apply_fn,
      layer=layer,
      margin=margin,
      batch_size=batch_size,
      preprocess=experiment.preprocess,
    )
  )
  asked = (dataset.labels[rows],) if given.target == "label" else ()
  bar = progress.Progress(first=0, total=total)
  found = batched_map.run_in_chunks(
    lambda members, *shared: program(*shared, *members),
    (dataset.images[rows], *asked),
    (variables, state.input_scale),
    # Several batches per call, with periodic progress lines.
    chunk=min(8 * batch_size, -(-total // batch_size) * batch_size),
    report=lambda done: bar.update(
      done, f"Grad-CAM of {layer}: image {done}/{total}", images_per_unit=1
    ),
  )
  folder = pathlib.Path(given.workdir)
  labels = dataset.labels[rows]
  right = found["logits"].argmax(-1) == labels
  settings = {
    "split": given.split,
    "num_images": total,
    "variables_crc32": digests.checksum(variables),
    "layer": layer,
    "target": given.target,
  }
  sanity = _stored_sanity(folder / "gradcam.json", settings)

  if given.sanity_check:
    sanity = sanity_check.check_sanity(
      apply_fn,
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
      **settings,
      "data_set": config.data.name,
      "official_split": dataset.official_split,
      "model": config.model.name,
      "training_loss": config.loss.to_dict(),
      "training_seed": config.seed,
      "best_epoch": int(state.best_epoch),
      "layer_shape": list(shape),
      "margin": margin,
      "class_names": list(dataset.class_names),
      "accuracy": float(right.mean()),
      "images_without_map": int((found["maps"].max((1, 2)) == 0).sum()),
      **sanity,
      "computed_in": cli.computed_in("float32"),
      "computed_by": provenance.provenance(),
    },
  )
  gradcam_plot.draw(
    folder / "gradcam.png",
    images=dataset.images[rows],
    labels=labels,
    found=found,
    class_names=dataset.class_names,
    title=f"{config.data.name}, {dataset.official_split or given.split}: "
    f"{config.model.name}, {config.loss.name}, seed {config.seed}, "
    f"{gradcam_plot.describe_layer(layer, shape, margin)}",
  )
  if given.sanity_check:
    print(sanity_check.format_sanity(sanity))
  print(
    f"{given.workdir}: Grad-CAM of {layer} {shape} for the {given.target} "
    f"class of {total} images of {given.split}: gradcam.png, gradcam.npz, gradcam.json"
  )


def _stored_sanity(path: pathlib.Path, settings: Mapping[str, Any]) -> dict[str, Any]:
  """An earlier sanity check of the same maps, which takes minutes, or None."""
  found: dict[str, Any] = {"sanity_check": None, "sanity_check_of": None}
  try:
    stored = read_json(path)
    if all(stored[key] == value for key, value in settings.items()):
      found = {key: stored[key] for key in found}
  except (OSError, ValueError, KeyError, TypeError):
    pass
  return found
