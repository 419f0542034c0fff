"""Ghost BatchNorm: BatchNorm over parts of a batch, for any network."""

import contextlib
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


@contextlib.contextmanager
def normalize_in_groups(groups: int) -> Iterator[None]:
  """Context in which BatchNorm uses the statistics of each group in training.

  A group is N / G consecutive images. For an example of group g,

    y = scale (x - mean_g) / sqrt(var_g + epsilon) + bias,

  mean_g and var_g being over the group's examples and pixels. The running statistics
  move towards the means over the groups of mean_g and of var_g. With one group per
  device this equals BatchNorm without synchronization, but it gives the same result on
  any number of devices.

  Args:
    groups: G; 1 is standard BatchNorm.

  Raises:
    ValueError: when a layer is called, if its batch is not a multiple of G.

  References:
    Hoffer, Hubara and Soudry, `Train longer, generalize better
    <https://arxiv.org/abs/1705.08741>`_, 2017 ("ghost" batch normalization)
  """
  if groups == 1:
    yield
    return

  def intercept(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
    layer = context.module
    if not isinstance(layer, nn.BatchNorm) or context.method_name != "__call__":
      return call(*arguments, **keywords)
    running = nn.merge_param(
      "use_running_average",
      layer.use_running_average,
      arguments[1] if len(arguments) > 1 else keywords.get("use_running_average"),
    )
    if running or layer.is_initializing():
      return call(*arguments, **keywords)
    return _normalize(layer, arguments[0], groups)

  with nn.intercept_methods(intercept):
    yield


def _normalize(layer: nn.BatchNorm, inputs: Array, groups: int) -> Array:
  size = inputs.shape[0]
  if size % groups:
    raise ValueError(
      f"batch_norm_groups: expected a divisor of the batch's {size} images, got "
      f"{groups}"
    )

  x = inputs.reshape(groups, size // groups, *inputs.shape[1:])
  axes = tuple(range(1, x.ndim - 1))
  # The statistics in float32, as flax has them, and in its form E[x^2] - E[x]^2.
  wide = x.astype(jnp.float32)
  mean = jnp.mean(wide, axes, keepdims=True)
  mean_of_squares = jnp.mean(jnp.square(wide), axes, keepdims=True)
  variance = jnp.maximum(mean_of_squares - jnp.square(mean), 0)

  for name, value in (("mean", mean), ("var", variance)):
    average = jnp.mean(value.reshape(groups, -1), axis=0)
    old: Any = layer.get_variable("batch_stats", name)
    layer.put_variable(
      "batch_stats", name, layer.momentum * old + (1 - layer.momentum) * average
    )

  factor = lax.rsqrt(variance + layer.epsilon)
  last = (1,) * (x.ndim - 1) + (-1,)
  if layer.use_scale:
    factor = factor * layer.get_variable("params", "scale").reshape(last)
  outputs = (wide - mean) * factor
  if layer.use_bias:
    outputs = outputs + layer.get_variable("params", "bias").reshape(last)
  dtype = layer.dtype or jnp.result_type(inputs, jnp.float32)
  return outputs.reshape(inputs.shape).astype(dtype)
