"""Answers for one face: by onnxruntime where it is installed, else by JAX.

On a CPU onnxruntime takes less time for one face than XLA's program.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from scipy import special

JAX, ONNXRUNTIME = "jax", "onnxruntime"

Logits = Callable[[np.ndarray], np.ndarray]


def runtime() -> str:
  """The runtime for one face: `ONNXRUNTIME` on a CPU if it is installed, or `JAX`."""
  packages = ("onnx", "onnxruntime")
  is_installed = all(importlib.util.find_spec(name) for name in packages)
  return ONNXRUNTIME if is_installed and jax.default_backend() == "cpu" else JAX


def build(network: Any, compute_logits: Logits) -> tuple[Logits, str]:
  """Builds the function of one face, and compares it with JAX's.

  Args:
    network: a `bundle.Bundle`.
    compute_logits: its logits by JAX, of any number of images.

  Returns:
    A function of images, uint8 `(M, height, width, channels)`, to logits, float32
    `(M, K)`; and its runtime. It is `compute_logits` where onnxruntime is not used,
    cannot run the network, or differs by more than `export.TOLERANCE` in a probability
    (as from bfloat16).
  """
  # Compiles, also where onnxruntime answers later: what it is compared with.
  shape = (3, *network.image_shape)
  images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
  expected = compute_logits(images)
  if runtime() == JAX:
    return compute_logits, JAX

  # It needs the packages that were looked for.
  from emosynth_jax.export import export, verify

  try:
    answer = verify.read_answer(export.export_network(network, "onnx"), "onnx")
    logits = answer(images)[0]
  except Exception as error:  # The writer's, onnx's or onnxruntime's: JAX can answer.
    logging.info("JAX answers single faces: %s: %s", type(error).__name__, error)
    return compute_logits, JAX

  probabilities = [
    special.softmax(each.astype(np.float64) / network.temperature, axis=-1)
    for each in (expected, logits)
  ]
  difference = np.abs(probabilities[0] - probabilities[1]).max()
  if not difference <= export.TOLERANCE:
    logging.info("JAX answers single faces: onnxruntime differs by %.1e", difference)
    return compute_logits, JAX
  return lambda images: answer(images)[0], ONNXRUNTIME
