"""Deletion test of Grad-CAM: are the highlighted pixels those that matter?

  python -m emosynth_jax.analysis.deletion --workdir=runs/ce
  python -m emosynth_jax.analysis.deletion --workdir=runs/ce --layers=block3,block4

For each layer, the quarter of an image where its map is highest is set to the image's
mean, and separately the quarter where it is lowest. The result is the drop of the
predicted class's probability; an uninformative map has the same drop for both.
Baselines are a random map of few pixels and the distance from the image's center.
Writes deletion.json and deletion.txt into the workdir.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.gradcam import grad_cam
from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.data.dataset import draw_rows
from emosynth_jax.models.network_inputs import network_inputs
from emosynth_jax.parallel import batched_map
from emosynth_jax.training.restore import load_network
from emosynth_jax.utils import files, progress, text_table
from emosynth_jax.workdir import provenance

# Side of the random map in pixels, similar to that of the maps it is compared with.
_RANDOM_SIDE = 6


def highest(scores: np.ndarray, share: float, ties: np.ndarray) -> np.ndarray:
  """The share of each image's pixels whose scores are highest.

  Args:
    scores: floating `(N, H, W)`.
    share: of the pixels, in (0, 1).
    ties: `(N, H, W)`; of pixels with equal scores, as where a map is 0, those with the
      higher one count as higher.

  Returns:
    bool `(N, H, W)`, the same number of true values in each image.

  Raises:
    ValueError: if shapes differ or the share is out of range.
  """
  scores, ties = np.asarray(scores), np.asarray(ties)
  if scores.ndim != 3 or ties.shape != scores.shape:
    raise ValueError(
      f"scores and ties: expected (N, H, W), got {scores.shape} and {ties.shape}"
    )
  if not 0 < share < 1:
    raise ValueError(f"share: expected a number in (0, 1), got {share}")

  total = scores[0].size
  order = np.lexsort((ties.reshape(len(ties), -1), scores.reshape(len(scores), -1)))
  mask = np.zeros((len(scores), total), bool)
  np.put_along_axis(mask, order[:, total - round(share * total) :], True, axis=1)
  return mask.reshape(scores.shape)


def probability_drop(
  probabilities: Callable[[np.ndarray], np.ndarray],
  images: np.ndarray,
  mask: np.ndarray,
) -> np.ndarray:
  """Drop of the predicted class's probability when some pixels are deleted.

  Args:
    probabilities: of the classes, `(N, H, W, C) -> (N, K)`.
    images: floating `(N, H, W, C)`.
    mask: bool `(N, H, W)`, the pixels that get their image's mean, by channel.

  Returns:
    `(N,)`, probability with the pixels minus that without them.

  References:
    Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box
    Models", BMVC 2018, whose deletion metric goes through all shares; Samek et al.,
    "Evaluating the visualization of what a deep neural network has learned", 2017
  """
  before = probabilities(images)
  rows, predicted = np.arange(len(images)), before.argmax(axis=1)
  mean = images.mean(axis=(1, 2), keepdims=True)
  after = probabilities(np.where(mask[..., None], mean, images))
  return before[rows, predicted] - after[rows, predicted]


def compare_maps(
  probabilities: Callable[[np.ndarray], np.ndarray],
  images: np.ndarray,
  maps: Mapping[str, np.ndarray],
  *,
  share: float,
  report: Callable[[int], None] = lambda done: None,
) -> dict[str, dict[str, float]]:
  """Compares the drops for the highest and the lowest pixels of several kinds of maps.

  Args:
    probabilities: as for `probability_drop`.
    images: floating `(N, H, W, C)`, N at least 2.
    maps: by name, floating `(N, H, W)`.
    share: of the pixels.
    report: called after each kind of map with the number of kinds done.

  Returns:
    By name "highest" and "lowest", means over the images, "difference" and
    "standard_error", the difference's.
  """
  ties = np.random.Generator(np.random.PCG64(0)).random(images.shape[:3])
  table = {}
  for number, (name, scores) in enumerate(maps.items(), 1):
    top = probability_drop(probabilities, images, highest(scores, share, ties))
    bottom = probability_drop(probabilities, images, highest(-scores, share, ties))
    pairs = top - bottom
    table[name] = {
      "highest": float(top.mean()),
      "lowest": float(bottom.mean()),
      "difference": float(pairs.mean()),
      "standard_error": float(pairs.std(ddof=1) / np.sqrt(len(pairs))),
    }
    report(number)

  return table


def format_table(table: Mapping[str, Mapping[str, float]], share: float) -> str:
  """The table of `compare_maps` as text."""
  rows = [("map", "highest", "lowest", "difference ± standard error")]
  rows += [
    (
      name,
      f"{row['highest']:.3f}",
      f"{row['lowest']:.3f}",
      f"{row['difference']:+.3f} ± {row['standard_error']:.3f}",
    )
    for name, row in table.items()
  ]
  title = (
    f"Drop of the predicted class's probability, {100 * share:g} % of the pixels "
    "deleted"
  )
  return "\n".join([title, *text_table.align(rows), ""])


def _maps_of_layers(
  network: Any,
  layers: Sequence[str],
  images: np.ndarray,
  batch_size: int,
  report: Callable[[int], None],
) -> dict[str, np.ndarray]:
  """Grad-CAM of the predicted class at the images' size, `(N, H, W)` by layer."""
  # An unknown layer is an error before any map is computed.
  chosen = [gradcam_network.choose_layer(network, name) for name in layers]
  state, found = network.state, {}
  for number, (name, (height, width, _), margin) in enumerate(chosen, 1):
    program = gradcam_network.compile_maps(
      network, name, margin, batch_size=batch_size, guided=False
    )
    label = f"{name} {height - 2 * margin} x {width - 2 * margin}"
    maps = program(state.evaluation_variables, state.input_scale, images)
    found[label] = np.asarray(maps["grad_cam"])
    report(number)

  return found


def measure(args: Any) -> None:
  """Runs the deletion metric with the flags; writes and prints the results."""
  network = load_network(args.workdir, args.split, args.data_dir, dtype="float32")
  config, experiment, state, dataset = network
  if len(dataset) < 2:
    raise ValueError(f"--split: expected at least 2 images, got {len(dataset)}")

  rows = draw_rows(len(dataset), args.images)
  pixels = dataset.images[rows]
  images = np.asarray(
    network_inputs(
      jnp.asarray(pixels), state.input_scale, preprocess=experiment.preprocess
    )
  )
  batch_size = min(args.batch_size, len(rows))
  apply_fn = gradcam_network.apply_fn_of(experiment, modules=False)
  layers = args.layers or _layers_of_maps(apply_fn, state, images.shape[1:])

  # The maps of each layer, then the drops for each kind of map.
  steps = 2 * len(layers) + 2
  bar = progress.Progress(first=0, total=steps)

  def tell(done: int, text: str) -> None:
    what = f"{args.workdir}: {text}, step {done}/{steps}"
    bar.update(done, what, images_per_unit=len(rows))

  maps = _maps_of_layers(
    network, layers, pixels, batch_size, lambda done: tell(done, "Grad-CAM of a layer")
  )
  table = compare_maps(
    _probabilities(apply_fn, state, batch_size),
    images,
    maps | _baselines(*images.shape[:3]),
    share=args.share,
    report=lambda done: tell(len(layers) + done, "pixels deleted"),
  )

  made = provenance.provenance()
  text = (
    f"{config.data.name}, {dataset.official_split or args.split}, "
    f"{len(rows):,} images; {config.model.name}, {config.loss.name}, "
    f"seed {config.seed}, epoch {int(state.best_epoch)}; commit {made['commit']}\n"
    + format_table(table, args.share)
  )
  folder = pathlib.Path(args.workdir)
  files.write_report(
    folder / "deletion.json",
    {
      **network.facts(),
      "split": args.split,
      "num_images": len(rows),
      "share": args.share,
      "probability_drop": table,
      "computed_in": cli.computed_in(),
      "computed_by": made,
    },
  )
  files.write_atomically(folder / "deletion.txt", text.encode())
  print(text, end="")


def _layers_of_maps(
  apply_fn: Callable[..., Any], state: Any, image_shape: tuple[int, ...]
) -> list[str]:
  """The layers whose maps have more than one pixel."""
  one = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
  shapes = grad_cam.layer_shapes(apply_fn, state.evaluation_variables, one)
  return [name for name, (height, width, _) in shapes.items() if height * width > 1]


def _probabilities(
  apply_fn: Callable[..., Any], state: Any, batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
  """The network as a function of inputs `(N, H, W, C)` to probabilities `(N, K)`."""

  @jax.jit
  def program(inputs):
    return batched_map.over_batches(
      lambda x: jax.nn.softmax(apply_fn(state.evaluation_variables, x)[0]),
      (inputs,),
      batch_size=batch_size,
    )

  return lambda inputs: np.asarray(program(jnp.asarray(inputs)))


def _baselines(number: int, height: int, width: int) -> dict[str, np.ndarray]:
  """Maps that know nothing of the network, `(N, H, W)` by name."""
  few = np.random.Generator(np.random.PCG64(1)).random(
    (number, _RANDOM_SIDE, _RANDOM_SIDE), np.float32
  )
  down, across = np.mgrid[:height, :width]
  nearness = -((down - (height - 1) / 2) ** 2 + (across - (width - 1) / 2) ** 2)
  return {
    f"random {_RANDOM_SIDE} x {_RANDOM_SIDE}": np.asarray(
      grad_cam.upsample(jnp.asarray(few), (height, width))
    ),
    "center of the image": np.broadcast_to(nearness, (number, height, width)),
  }


def define_flags() -> None:
  """The flags of this command."""
  flags.DEFINE_string("workdir", None, "Workdir of a trained run.", required=True)
  flags.DEFINE_list(
    "layers",
    [],
    "Layers of Grad-CAM; an unknown name lists the available ones. By default all "
    "layers whose feature maps have more than one pixel.",
  )
  flags.DEFINE_float(
    "share", 0.25, "Fraction of an image's pixels to delete.", 0.001, 0.999
  )
  cli.define_split("validation")
  flags.DEFINE_integer("images", 256, "Maximum number of images of the split.", 2)
  flags.DEFINE_integer("batch_size", 64, "Batch size in images.", 1)


if __name__ == "__main__":
  cli.run(define_flags, measure)
