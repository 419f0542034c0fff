"""A trained network as one function, which the exports write and are compared with."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from emosynth_jax.training import build, eval_step

OUTPUTS = ("logits", "probabilities")
PLATFORMS = ("cpu", "cuda", "tpu")


def build_function(
  network: Any,
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
  """A network with its parameters, from pixels to probabilities.

  It computes in float32, whatever its training dtype.

  Args:
    network: a `bundle.Bundle`.

  Returns:
    Images, uint8 `(N, height, width, channels)`, to the evaluation logits `(N, K)` and
    softmax(logits / temperature). Not jitted.
  """
  config = network.config.copy_and_resolve_references()
  config.model.dtype = "float32"
  experiment = build.experiment_of(config, network)
  logits_of = eval_step.logits_of(experiment)
  variables = jax.tree.map(jnp.asarray, network.variables)

  def function(images):
    logits = logits_of(variables, jnp.float32(network.input_scale), images)
    # A separate function in the trace, so that the writers recognize it.
    return logits, jax.jit(jax.nn.softmax)(logits / network.temperature)

  return function


def write_stablehlo(
  function: Callable[[jax.Array], Any], image_shape: tuple[int, int, int]
) -> bytes:
  """A function of any number of images as StableHLO, in JAX's portable container.

  `jax.export.deserialize` reads it, on each of `PLATFORMS`, without this package.

  Args:
    function: uint8 images `(N, H, W, C)` to arrays.
    image_shape: `(H, W, C)`.

  Returns:
    The file's content.
  """
  # Mapped over images, as the layers choose their forms by the number of images: a
  # symbolic size cannot be compared. XLA still compiles whole batches.
  each = jax.vmap(lambda image: jax.tree.map(lambda x: x[0], function(image[None])))
  (batch,) = export.symbolic_shape("batch")
  images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
  exported = export.export(jax.jit(each), platforms=PLATFORMS)(images)
  return bytes(exported.serialize())
