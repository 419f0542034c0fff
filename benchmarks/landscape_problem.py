"""Common inputs of `landscape`: network, directions, points, images."""

import functools
from typing import Any

import jax
import numpy as np

from benchmarks import cases
from emosynth_jax.analysis import directions, trained_run


class Problem:
  """The network, its directions, and points and images of one of the two tasks."""

  def __init__(self, case: Any, images: int, points: int):
    """Draws the inputs.

    Args:
      case: the network and the batch.
      images: number of images; a multiple of the batch.
      points: number of points.
    """
    if images % case.batch:
      raise ValueError(
        f"expected images in whole batches of {case.batch}, got {images}: change "
        "--images, --curvature_images or --batch_size"
      )
    self.case = case
    experiment = cases.build_experiment(case)
    variables = cases.variables(case)
    self.params = variables["params"]
    self.constants = {
      "batch_stats": variables["batch_stats"],
      "input_scale": np.float32(case.config().input.scale),
    }
    shape = (images // case.batch, case.batch)
    self.batches = (
      case.images(images).reshape(*shape, *case.image_shape),
      case.labels(images).reshape(shape),
    )
    self.measure = functools.partial(
      trained_run.measure,
      model=experiment.model,
      evaluation_logits=experiment.evaluation_logits,
      batch_norm="running",
    )
    raw = directions.draw_directions(jax.random.key(0), self.params, 2)
    self.directions = directions.normalize_directions(raw, self.params)
    rng = np.random.default_rng(2)
    self.points = rng.uniform(-0.5, 0.5, (points, 2)).astype(np.float32)
