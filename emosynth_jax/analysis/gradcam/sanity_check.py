"""Sanity check of saliency maps by cascading randomization (Adebayo et al., 2018)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import jax.tree_util
import numpy as np
import scipy.stats

from emosynth_jax.analysis.gradcam import jaxpr_interpreter
from emosynth_jax.training import build
from emosynth_jax.utils import progress, text_table


def layers_in_order(
  apply_fn: jaxpr_interpreter.ApplyFn, variables: Any, inputs: Any
) -> list[str]:
  """Lists the outermost layers with parameters, in the order of their first use.

  Args:
    apply_fn: as for `grad_cam.grad_cam`.
    variables: the network's, with a "params" collection.
    inputs: `(N, H, W, C)`; nothing is computed, arrays may be `jax.ShapeDtypeStruct`.

  Returns:
    Names in "params".
  """
  recorded = jaxpr_interpreter.trace(apply_fn, variables, inputs)
  first_use: dict[Any, int] = {}
  for i, eqn in enumerate(recorded.jaxpr.jaxpr.eqns):
    for v in eqn.invars:
      if not isinstance(v, jex.Literal):
        first_use.setdefault(v, i)

  leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
  # The inputs come after the variables and have no path.
  used = zip(leaves, recorded.jaxpr.jaxpr.invars[: len(leaves)], strict=True)
  layers: dict[str, int] = {}
  for (path, _), variable in used:
    names = [key.key for key in path]
    if names[0] == "params" and variable in first_use:
      layer = names[1]
      layers[layer] = min(layers.get(layer, first_use[variable]), first_use[variable])

  return sorted(layers, key=lambda layer: layers[layer])


def cascading_randomization(
  saliency: Callable[[Any], Mapping[str, Any]],
  variables: Any,
  fresh: Any,
  layers: Sequence[str],
) -> dict[str, dict[str, np.ndarray]]:
  """Cascading randomization: similarity of maps as layers are randomized in turn.

  From the last layer on, the parameters (and BatchNorm statistics) are cumulatively
  replaced by those of an untrained network. A map that depends on the learned
  parameters changes at once; one that hardly changes depends on the image alone.

  Args:
    saliency: `(variables) -> {kind: (N, ...)}`, maps of N images of one or more kinds,
      each for a fixed class: a randomized network would predict another.
    variables: variables of the trained network.
    fresh: variables of an untrained network of the same structure.
    layers: paths in the order of use, of `layers_in_order` or any part of them.

  Returns:
    From the last layer to the first, by kind, the rank correlation of each image's map
    with that of the trained network, `(N,)`; NaN if one of them is constant.

  Raises:
    ValueError: if a layer has no parameters, or the structures differ.

  References:
    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3.
  """
  old, new = _flatten(variables), _flatten(fresh)
  if {k: np.shape(v) for k, v in old.items()} != {
    k: np.shape(v) for k, v in new.items()
  }:
    raise ValueError(
      "fresh: expected arrays of the same structure and shapes as variables"
    )

  original = saliency(variables)
  correlations = {}
  for layer in reversed(layers):
    within = [path for path in old if "/".join(path[1:]).startswith(f"{layer}/")]
    if not within:
      known = sorted({path[1] for path in old if path[0] == "params"})
      raise ValueError(f"layers: expected some of {known}, got {layer!r}")
    old |= {path: new[path] for path in within}
    maps = saliency(flax.traverse_util.unflatten_dict(old))
    correlations[layer] = {k: rank_correlations(original[k], maps[k]) for k in original}

  return correlations


def rank_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Spearman's rank correlation of each pair of maps.

  Args:
    first: `(N, ...)`.
    second: of the same shape.

  Returns:
    `(N,)`; NaN where a map is constant, as it has no order.

  Raises:
    ValueError: if the shapes differ.
  """
  first, second = np.asarray(first), np.asarray(second)
  if first.shape != second.shape:
    raise ValueError(f"maps: expected one shape, got {first.shape} and {second.shape}")

  ranks = [
    scipy.stats.rankdata(x.reshape(len(x), -1), axis=1).astype(np.float64)
    for x in (first, second)
  ]
  a, b = (x - x.mean(1, keepdims=True) for x in ranks)
  lengths = np.sqrt((a * a).sum(1) * (b * b).sum(1))
  products = (a * b).sum(1)
  return np.divide(products, lengths, out=np.full(len(a), np.nan), where=lengths > 0)


def _flatten(variables: Any) -> dict[tuple[str, ...], Any]:
  # A network without BatchNorm has an empty collection, which must be kept.
  return flax.traverse_util.flatten_dict(dict(variables), keep_empty_nodes=True)


# Enough for a mean, and some dozen networks are evaluated on them.
_NUM_IMAGES = 64


def check_sanity(
  apply_fn: jaxpr_interpreter.ApplyFn,
  program: Callable[..., Any],
  network: Any,
  images: np.ndarray,
  targets: np.ndarray,
) -> dict[str, Any]:
  """Runs the sanity check by cascading randomization of a trained network.

  Args:
    apply_fn: the network's.
    program: of `gradcam_network.compile_maps` for it.
    network: the trained one, a `restore.Network`.
    images: uint8 `(M, H, W, C)`, of which 64 are taken, evenly spaced, so that classes
      keep their shares if images are sorted by class.
    targets: int32 `(M,)`, the classes of the maps.

  Returns:
    "sanity_check": for each layer, from the last to the first, the mean rank
    correlation over the images of "grad_cam" and "guided_backprop" (its absolute
    value); None where every map is constant. "sanity_check_of": "num_images",
    "fresh_seed" (of the untrained network) and "standard_errors", of the means, None
    for fewer than two images whose maps have an order.
  """
  config, experiment, state, _ = network
  variables = state.evaluation_variables
  # A seed different from the run's.
  fresh_seed = config.seed + 1
  fresh = build.create_state(experiment, fresh_seed).variables
  one = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
  layers = layers_in_order(apply_fn, variables, one)
  number = min(_NUM_IMAGES, len(images))
  rows = np.arange(number) * len(images) // number
  images, targets = images[rows], targets[rows]
  bar = progress.Progress(first=0, total=len(layers) + 1)
  steps = iter(range(1, len(layers) + 2))

  def saliency(variables):
    found = jax.device_get(program(variables, state.input_scale, images, targets))
    bar.update(next(steps), "sanity check", images_per_unit=len(images))
    return {
      "grad_cam": found["grad_cam"],
      "guided_backprop": np.abs(found["guided_backprop"]).sum(-1),
    }

  found = cascading_randomization(saliency, variables, fresh, layers)

  def each(summary):
    return {
      layer: {kind: summary(values) for kind, values in kinds.items()}
      for layer, kinds in found.items()
    }

  return {
    "sanity_check": each(lambda values: _mean_and_error(values)[0]),
    "sanity_check_of": {
      "num_images": number,
      "fresh_seed": fresh_seed,
      "standard_errors": each(lambda values: _mean_and_error(values)[1]),
    },
  }


def _mean_and_error(values: np.ndarray) -> tuple[float | None, float | None]:
  # A constant map has no rank correlation.
  known = values[np.isfinite(values)]
  return (
    float(known.mean()) if len(known) else None,
    float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None,
  )


def format_sanity(checked: Mapping[str, Any]) -> str:
  """The table of `check_sanity` as text."""

  def cell(mean, error):
    text = "-" if mean is None else f"{mean:.2f}"
    return text if error is None else f"{text} ± {error:.2f}"

  table, of = checked["sanity_check"], checked["sanity_check_of"]
  title = (
    "Rank correlation with the trained network's maps under cascading randomization "
    f"(seed {of['fresh_seed']}), {of['num_images']:,} images, ± standard error"
  )
  rows = [["down to", "Grad-CAM", "|guided b.|"]]
  for layer, kinds in table.items():
    errors = of["standard_errors"][layer]
    rows.append([layer, *(cell(mean, errors[kind]) for kind, mean in kinds.items())])

  return "\n".join([title, *text_table.align(rows)])
