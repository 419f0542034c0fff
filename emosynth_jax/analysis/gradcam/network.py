"""Grad-CAM and guided backpropagation of a trained run: the command of gradcam.py.

Writes into the workdir:

  gradcam.npz   of every image looked at: its row in the split, label, class asked for,
                logits, Grad-CAM at the layer's size and at the image's, guided
                backpropagation and guided Grad-CAM, all as they are computed
  gradcam.json  the settings, by what it was computed, and the sanity check
  gradcam.png   for each class, an image that is classified well and one that is not
"""

import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import app, flags

from emosynth_jax import command_line

# These are flags of the module that runs, whose --help lists them.
flags.disclaim_key_flags()

# Pixels of the maps beyond each border of the image, see `gradcam.upsample`:
# transposed convolutions without padding, and the upsampling after them.
MARGINS = {
  "emosynthnet": {"transposed1": 1, "upsample1": 2, "transposed2": 3, "block5": 6}
}


# Where the last maps are not those that say most. EmoSynthNet flattens block5's: each
# pixel has weights of its own, and their mean over the pixels says little (measured in
# docs/analysis.md). Block4 is the last of the analysis.
DEFAULT_LAYERS = {"emosynthnet": "block4"}

# Of the flag --layer.
LAYER_HELP = (
  "Layer of Grad-CAM; an unknown one lists those there are. By default "
  + ", ".join(f"{layer} in {model}" for model, layer in DEFAULT_LAYERS.items())
  + ", else the last of the network's inner arrays with maps of more than one pixel."
)


def apply_fn_of(experiment: Any, *, modules: bool) -> Any:
  """A run's network with its evaluation logits, for `gradcam.grad_cam`."""
  from emosynth_jax import losses, models
  from emosynth_jax.analysis import gradcam

  def to_logits(params, logits, out):
    available = models.last_layer(params, logits, out)
    margin_free = experiment.evaluation_logits
    return margin_free(**losses.select_inputs(margin_free, **available))

  return gradcam.flax_apply_fn(experiment.model, to_logits=to_logits, modules=modules)


def choose_layer(
  network: Any, name: str | None
) -> tuple[str, tuple[int, int, int], int]:
  """The layer of Grad-CAM.

  Args:
    network: the trained one, a `trained_run.Network`.
    name: the layer asked for; None for the network's default.

  Returns:
    Its name, the shape `(h, w, k)` of its maps, and their margin, see
    `gradcam.upsample`.

  Raises:
    ValueError: if the network has no such layer; those it has are listed.
  """
  import jax
  import jax.numpy as jnp

  from emosynth_jax.analysis import gradcam

  config, experiment, state, dataset = network
  one = jax.ShapeDtypeStruct((1, *dataset.images.shape[1:]), jnp.float32)

  def shapes_of(*, modules):
    apply_fn = apply_fn_of(experiment, modules=modules)
    return gradcam.layer_shapes(apply_fn, state.evaluation_variables, one)

  layer = name or DEFAULT_LAYERS.get(config.model.name)
  if layer is None:
    layer = gradcam.default_layer(shapes_of(modules=False))
  shapes = shapes_of(modules=True)
  if layer not in shapes:
    listed = "\n".join(f"  {known} {shape}" for known, shape in shapes.items())
    raise ValueError(f"--layer: got {layer!r}; {config.model.name} has\n{listed}")
  return layer, shapes[layer], _margin(config.model.name, layer, shapes)


def _margin(model: str, layer: str, shapes: dict[str, tuple[int, int, int]]) -> int:
  """That of a layer, or of the one that it is a part of at the same size."""
  margins, whole = MARGINS.get(model, {}), layer.partition("/")[0]
  if layer in margins:
    return margins[layer]
  same_size = whole in shapes and shapes[whole][:2] == shapes[layer][:2]
  return margins.get(whole, 0) if same_size else 0


def explain(
  apply_fn: Any,
  variables: Any,
  input_scale: Any,
  images: Any,
  targets: Any = None,
  *,
  layer: str,
  margin: int,
  batch_size: int,
  preprocess: Any = None,
) -> dict[str, Any]:
  """All maps of a split, as one program; to be called under `jax.jit`.

  Args:
    apply_fn: as for `gradcam.grad_cam`.
    variables: the network's.
    input_scale: factor from pixels to the network's input.
    images: uint8 `(M, H, W, C)`.
    targets: int32 `(M,)`, the classes; None for those predicted.
    layer: Grad-CAM's.
    margin: see `gradcam.upsample`.
    batch_size: images at a time.
    preprocess: `Experiment.preprocess`; None for none.

  Returns:
    "maps" `(M, h, w)`, "grad_cam" `(M, H, W)`, "guided_backprop" and "guided_grad_cam"
    `(M, H, W, C)`, "logits" `(M, K)`, "targets" `(M,)`.
  """
  from emosynth_jax.analysis import gradcam, guided_backprop
  from emosynth_jax.models.network_inputs import network_inputs

  def one_batch(images, *targets):
    inputs = network_inputs(images, input_scale, preprocess=preprocess)
    cam = gradcam.grad_cam(
      apply_fn, variables, inputs, layer=layer, targets=targets[0] if targets else None
    )
    guided = guided_backprop.guided_backprop(
      apply_fn, variables, inputs, targets=cam.targets
    )
    large = gradcam.upsample(cam.maps, images.shape[1:3], margin=margin)
    return {
      "maps": cam.maps,
      "grad_cam": large,
      "guided_backprop": guided,
      "guided_grad_cam": guided_backprop.guided_grad_cam(guided, large),
      "logits": cam.logits,
      "targets": cam.targets,
    }

  arrays = (images,) if targets is None else (images, targets)
  return gradcam.over_batches(one_batch, arrays, batch_size=batch_size)


def grad_cam_at_size(
  apply_fn: Any,
  variables: Any,
  input_scale: Any,
  images: Any,
  *,
  layer: str,
  margin: int,
  batch_size: int,
  preprocess: Any = None,
) -> Any:
  """Grad-CAM alone of the predicted classes; to be called under `jax.jit`.

  Args:
    apply_fn: as for `gradcam.grad_cam`.
    variables: the network's.
    input_scale: factor from pixels to the network's input.
    images: uint8 `(M, H, W, C)`.
    layer: Grad-CAM's.
    margin: see `gradcam.upsample`.
    batch_size: images at a time.
    preprocess: `Experiment.preprocess`; None for none.

  Returns:
    `(M, H, W)`.
  """
  from emosynth_jax.analysis import gradcam
  from emosynth_jax.models.network_inputs import network_inputs

  def one_batch(images):
    inputs = network_inputs(images, input_scale, preprocess=preprocess)
    cam = gradcam.grad_cam(apply_fn, variables, inputs, layer=layer)
    return gradcam.upsample(cam.maps, images.shape[1:3], margin=margin)

  return gradcam.over_batches(one_batch, (images,), batch_size=batch_size)


def explain_run(given: Any) -> None:
  """Computes, writes and draws what the flags ask for."""
  import jax

  from emosynth_jax import mapped, progress, results
  from emosynth_jax.analysis import (
    command,
    npz,
    saliency_grid,
    sanity_run,
    trained_run,
  )

  network = trained_run.load_network(
    given.workdir, given.split, given.data_dir, dtype="float32"
  )
  config, experiment, state, dataset = network
  variables = state.evaluation_variables
  apply_fn = apply_fn_of(experiment, modules=True)
  layer, shape, margin = choose_layer(network, given.layer)

  total = min(given.images or len(dataset), len(dataset))
  # Drawn, as many splits are sorted by class; the same ones for every run on the data.
  order = np.random.Generator(np.random.PCG64(0)).permutation(len(dataset))
  rows = np.sort(order[:total])
  batch_size = min(given.batch_size, total)
  program = jax.jit(
    functools.partial(
      explain,
      apply_fn,
      layer=layer,
      margin=margin,
      batch_size=batch_size,
      preprocess=experiment.preprocess,
    )
  )
  asked = (dataset.labels[rows],) if given.target == "label" else ()
  bar = progress.Progress(first=0, total=total)
  found = mapped.run_in_chunks(
    lambda members, *shared: program(*shared, *members),
    (dataset.images[rows], *asked),
    (variables, state.input_scale),
    # Several batches in one call, but a line on the screen now and then.
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
    "variables_crc32": trained_run.checksum(variables),
    "layer": layer,
    "target": given.target,
  }
  sanity = _stored_sanity(folder / "gradcam.json", settings)
  if given.sanity_check:
    sanity = sanity_run.check_sanity(
      apply_fn,
      program,
      network,
      dataset.images[rows],
      found["targets"],
    )
  # Not before the check, which takes minutes: what is there stays whole until then.
  npz.write_npz(
    folder / "gradcam.npz",
    {"rows": rows, "labels": labels, **found},
  )
  results.write_report(
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
      "computed_in": command.computed_in("float32"),
      "computed_by": results.provenance(),
    },
  )
  saliency_grid.draw(
    folder / "gradcam.png",
    images=dataset.images[rows],
    labels=labels,
    found=found,
    class_names=dataset.class_names,
    title=f"{config.data.name}, {dataset.official_split or given.split}: "
    f"{config.model.name}, {config.loss.name}, seed {config.seed}, "
    f"{saliency_grid.describe_layer(layer, shape, margin)}",
  )
  if given.sanity_check:
    print(sanity_run.format_sanity(sanity))
  print(
    f"{given.workdir}: Grad-CAM of {layer} {shape} for the {given.target} "
    f"class of {total} images of {given.split}: gradcam.png, gradcam.npz, gradcam.json"
  )


def _stored_sanity(path: pathlib.Path, settings: Mapping[str, Any]) -> dict[str, Any]:
  """An earlier sanity check of the same maps, which took minutes, or none."""
  found: dict[str, Any] = {"sanity_check": None, "sanity_check_of": None}
  try:
    stored = json.loads(path.read_text())
    if all(stored[key] == value for key, value in settings.items()):
      found = {key: stored[key] for key in found}
  except (OSError, ValueError, KeyError, TypeError):
    pass
  return found


def main(argv: list[str]) -> None:
  """Runs the command; a mistake in its input ends it with one line."""
  from emosynth_jax.analysis import command

  command.run_command(argv, explain_run)


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", None, "Folder of a trained run.", required=True)
  flags.DEFINE_string("layer", None, LAYER_HELP)
  flags.DEFINE_enum(
    "split", "validation", ["train", "validation", "test"], "Where the images are from."
  )
  flags.DEFINE_integer("images", 256, "How many of its images; 0 for all.", 0)
  flags.DEFINE_integer("batch_size", 64, "Images at a time.", 1)
  flags.DEFINE_enum(
    "target", "predicted", ["predicted", "label"], "The class that the maps are of."
  )
  flags.DEFINE_bool(
    "sanity_check",
    False,
    "Also see how the maps change while layer after layer is put back to chance.",
  )
  command_line.define_data_dir()
  command_line.define_traceback()


def run() -> None:
  """Entry point of the command line."""
  define_flags()
  app.run(main)
