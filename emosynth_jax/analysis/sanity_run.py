"""The sanity check of a trained run's maps: the flag --sanity_check of gradcam.py."""

from collections.abc import Callable
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
) -> dict[str, dict[str, float | None]]:
  """How alike the maps stay while the network forgets, layer by layer.

  Args:
    apply_fn: the network's.
    program: `saliency_run.explain` for it, jitted.
    network: the trained one, a `saliency_run.Network`.
    images: uint8 `(M, H, W, C)`, of which the first 64 are taken.
    targets: int32 `(M,)`, the classes of the maps.

  Returns:
    For each layer from the last on, the mean rank correlation over the images of
    "grad_cam" and "guided_backprop" (its absolute value); None where every map is
    constant.
  """
  config, experiment, state, _ = network
  variables = state.evaluation_variables
  # Of a seed that the run did not start from.
  fresh = experiments.create_state(experiment, config.seed + 1).variables
  one = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
  layers = sanity_checks.layers_in_order(apply_fn, variables, one)
  images, targets = images[:_NUM_IMAGES], targets[:_NUM_IMAGES]
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
  return {
    layer: {
      kind: float(np.nanmean(values)) if np.isfinite(values).any() else None
      for kind, values in kinds.items()
    }
    for layer, kinds in found.items()
  }


def format_sanity(table: dict[str, dict[str, float | None]]) -> str:
  """The table of `check_sanity` as text."""

  def cell(value):
    return f"{'-' if value is None else f'{value:.2f}':>15}"

  width = max(map(len, table))
  lines = [
    "Rank correlation with the trained network's maps, layers put back to chance"
  ]
  lines.append(f"{'down to':<{width}}{'Grad-CAM':>15}{'|guided b.|':>15}")
  for layer, kinds in table.items():
    lines.append(f"{layer:<{width}}{''.join(map(cell, kinds.values()))}")
  return "\n".join(lines)
