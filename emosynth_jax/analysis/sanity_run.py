"""The sanity check of a trained run's maps: the flag --sanity_check of gradcam.py."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emosynth_jax import experiment as experiments
from emosynth_jax import progress
from emosynth_jax.analysis import sanity_checks, traced

# Enough for a mean, and some dozen networks are to be run on them.
_NUM_IMAGES = 64


def check_sanity(
  apply_fn: traced.ApplyFn,
  program: Callable[..., Any],
  network: Any,
  images: np.ndarray,
  targets: np.ndarray,
) -> dict[str, Any]:
  """How alike the maps stay while the network forgets, layer by layer.

  Args:
    apply_fn: the network's.
    program: `saliency_run.explain` for it, jitted.
    network: the trained one, a `trained_run.Network`.
    images: uint8 `(M, H, W, C)`, of which 64 are taken, evenly spaced: where images
      are sorted by class, of every class its share.
    targets: int32 `(M,)`, the classes of the maps.

  Returns:
    "sanity_check": for each layer from the last on, the mean rank correlation over the
    images of "grad_cam" and "guided_backprop" (its absolute value); None where every
    map is constant. "sanity_check_of": "num_images", "fresh_seed" (of the untrained
    network) and "standard_errors", of the means, None for fewer than two images whose
    maps have an order.
  """
  config, experiment, state, _ = network
  variables = state.evaluation_variables
  # Of a seed that the run did not start from.
  fresh_seed = config.seed + 1
  fresh = experiments.create_state(experiment, fresh_seed).variables
  one = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
  layers = sanity_checks.layers_in_order(apply_fn, variables, one)
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

  found = sanity_checks.cascading_randomization(saliency, variables, fresh, layers)

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
  # A constant map has no order.
  known = values[np.isfinite(values)]
  return (
    float(known.mean()) if len(known) else None,
    float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else None,
  )


def format_sanity(checked: Mapping[str, Any]) -> str:
  """The table of `check_sanity` as text."""

  def cell(mean, error):
    text = "-" if mean is None else f"{mean:.2f}"
    return f"{text if error is None else f'{text} ± {error:.2f}':>15}"

  table, of = checked["sanity_check"], checked["sanity_check_of"]
  width = max(map(len, table))
  lines = [
    "Rank correlation with the trained network's maps, layers put back to chance "
    f"(seed {of['fresh_seed']}), {of['num_images']} images, ± standard error"
  ]
  lines.append(f"{'down to':<{width}}{'Grad-CAM':>15}{'|guided b.|':>15}")
  for layer, kinds in table.items():
    errors = of["standard_errors"][layer]
    cells = (cell(mean, errors[kind]) for kind, mean in kinds.items())
    lines.append(f"{layer:<{width}}{''.join(cells)}")
  return "\n".join(lines)
