"""Compiled evaluation logits of a network."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from emosynth_jax.bundle.format import Bundle
from emosynth_jax.training import build, eval_step

# Batch size for evaluating a whole split.
SPLIT_BATCH = 256


def compile_logits(
  bundle: Bundle, *, batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
  """Compiles a network's evaluation logits, for any number of images.

  They are `eval_step.image_logits`, as in the evaluation of a run. Images are processed
  in batches of one size, the last one padded with zeros.

  Args:
    bundle: the network.
    batch_size: images at a time.

  Returns:
    A function of images, uint8 `(M, height, width, channels)`, to logits, float32
    `(M, K)`.
  """

  experiment = build.experiment_of(bundle.config, bundle)
  program = jax.jit(eval_step.logits_of(experiment))
  variables = jax.tree.map(jnp.asarray, bundle.variables)
  input_scale = jnp.float32(bundle.input_scale)

  def compute_logits(images: np.ndarray) -> np.ndarray:
    parts = [np.zeros((0, len(bundle.class_names)), np.float32)]
    for start in range(0, len(images), batch_size):
      part = images[start : start + batch_size]
      batch = np.zeros((batch_size, *bundle.image_shape), np.uint8)
      batch[: len(part)] = part
      parts.append(np.asarray(program(variables, input_scale, batch))[: len(part)])
    return np.concatenate(parts)

  return compute_logits
