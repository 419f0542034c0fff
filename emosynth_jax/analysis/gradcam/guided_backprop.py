"""Guided backpropagation (Springenberg et al., 2015)."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from emosynth_jax.analysis.gradcam import jaxpr_interpreter

Array = jax.Array


def guided_backprop(
  apply_fn: jaxpr_interpreter.ApplyFn,
  variables: Any,
  inputs: Array,
  *,
  targets: Array | None = None,
) -> Array:
  """Computes guided backpropagation of a class's logit to the image.

  In the backward pass of a rectifier f with input x, a gradient g becomes

    g f'(x)  where x > 0 and g > 0,  else 0.

  For ReLU that is the paper's rule. For ELU, f'(x) = 1 where x > 0, so the rule is the
  same: the gradient of the branch x <= 0, whose slope alpha e^x is not 0 in the plain
  gradient, is set to 0 as for ReLU. For ReLU6 the gradient is 0 above 6 too, and swish
  (SiLU) keeps its slope where x > 0. Other functions, such as the sigmoid of a gate,
  and max-pooling keep their gradients.

  Args:
    apply_fn: `(variables, inputs) -> (logits, layers)` in evaluation mode, with
      `jax.nn`'s or flax's relu, relu6, elu or swish; not jitted itself.
    variables: the network's.
    inputs: `(N, H, W, C)`, floating.
    targets: int `(N,)`, the class of each image; None for the predicted one.

  Returns:
    `(N, H, W, C)`.

  Raises:
    ValueError: if the network has no such activation, or one inside of a loop.
    TypeError: if targets are no integers.

  References:
    Springenberg et al., "Striving for Simplicity: The All Convolutional Net", ICLR
    workshop 2015, section 3.4.
  """

  def scores(inputs):
    recorded = jaxpr_interpreter.trace(apply_fn, variables, inputs)
    logits, number = jaxpr_interpreter.evaluate_rectified(recorded, _guided)
    if not number:
      raise ValueError(
        "apply_fn: expected a network with one of the activations "
        f"{', '.join(jaxpr_interpreter.RECTIFIERS)}, as jax.nn has them; got none"
      )
    return jaxpr_interpreter.target_scores(logits, targets).sum()

  return jax.grad(scores)(inputs)


def guided_grad_cam(guided: Array, maps: Array) -> Array:
  """Guided Grad-CAM: the product of guided backpropagation and Grad-CAM.

  Args:
    guided: `(N, H, W, C)`, of `guided_backprop`.
    maps: `(N, H, W)`, of Grad-CAM for the same classes, upsampled.

  Returns:
    `(N, H, W, C)`.

  Raises:
    ValueError: if the shapes do not fit.
  """
  if maps.shape != guided.shape[:3]:
    raise ValueError(
      f"maps: expected {guided.shape[:3]}, the images' size; got {maps.shape}"
    )
  return guided * maps[..., None]


def _guided(activation: Callable[..., Array], arguments: Sequence[Any]) -> Array:
  """An activation of its first argument with the guided gradient."""

  def forward(*arguments):
    return activation(*arguments), arguments

  def backward(arguments, gradient):
    x = arguments[0]
    # By the first argument alone: others are parameters such as ELU's alpha.
    slope = jax.vjp(lambda x: activation(x, *arguments[1:]), x)[1](gradient)[0]
    # In this form a NaN is not treated as a negative gradient.
    guided = jnp.where((x > 0) & ~(gradient <= 0), slope, jnp.zeros_like(slope))
    return guided, *map(jnp.zeros_like, arguments[1:])

  function = jax.custom_vjp(activation)
  function.defvjp(forward, backward)
  return function(*arguments)
