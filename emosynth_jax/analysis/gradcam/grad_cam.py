"""Grad-CAM (Selvaraju et al., 2017)."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp

from emosynth_jax.analysis.gradcam import jaxpr_interpreter
from emosynth_jax.models import normalized_inputs

Array = jax.Array


class GradCam(NamedTuple):
  """Grad-CAM of a batch.

  Attributes:
    maps: float32 `(N, h, w)`, at the layer's size, not negative.
    logits: float32 `(N, K)`.
    targets: int32 `(N,)`, the classes that the maps are of.
  """

  maps: Array
  logits: Array
  targets: Array


def grad_cam(
  apply_fn: jaxpr_interpreter.ApplyFn,
  variables: Any,
  inputs: Array,
  *,
  layer: str,
  targets: Array | None = None,
) -> GradCam:
  """Computes Grad-CAM of a layer.

  With the layer's channels A^k and the logit y^c of class c,

    L^c = ReLU(sum_k alpha_k^c A^k),  alpha_k^c = mean over the pixels of dy^c / dA^k.

  The gradient is that of the evaluation network: BatchNorm by its running statistics,
  no dropout, so that no map depends on the other images of its batch. Where the
  gradient is 0, so is the map.

  Args:
    apply_fn: `(variables, inputs) -> (logits, layers)`, the margin-free logits `(N, K)`
      and layers by name, as `flax_apply_fn` makes it; not jitted itself.
    variables: the network's.
    inputs: `(N, H, W, C)`, floating, scaled as the network takes them.
    layer: name of a layer with feature maps `(N, h, w, k)`; `layer_shapes` lists them.
    targets: int `(N,)`, the class c of each image; None for the predicted one.

  Returns:
    The maps, logits and classes.

  Raises:
    ValueError: if the layer is unknown (the known ones are listed), has no feature
      maps, or the logits do not depend on it; if the targets' shape does not match.
    TypeError: if targets are not integers.

  References:
    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
    Gradient-based Localization", ICCV 2017, equations 1 and 2.
  """
  recorded = jaxpr_interpreter.trace(apply_fn, variables, inputs)
  _check_layer(recorded, layer)
  shape = recorded.layers[layer].aval

  def scores(shift):
    logits, maps = jaxpr_interpreter.evaluate(recorded, layer=layer, shift=shift)
    return jaxpr_interpreter.target_scores(logits, targets).sum(), (logits, maps)

  zeros = jnp.zeros(shape.shape, shape.dtype)
  gradient, (logits, maps) = jax.grad(scores, has_aux=True)(zeros)
  weights = gradient.astype(jnp.float32).mean((1, 2))
  summed = jnp.einsum("nhwk,nk->nhw", maps.astype(jnp.float32), weights)
  return GradCam(
    maps=jax.nn.relu(summed),
    logits=logits.astype(jnp.float32),
    targets=jaxpr_interpreter.as_targets(logits, targets),
  )


def layer_shapes(
  apply_fn: jaxpr_interpreter.ApplyFn,
  variables: Any,
  inputs: Array | jax.ShapeDtypeStruct,
) -> dict[str, tuple[int, int, int]]:
  """Lists the layers that have feature maps, in the order of computation.

  Nothing is computed: arrays may be `jax.ShapeDtypeStruct`.

  Args:
    apply_fn: as for `grad_cam`.
    variables: the network's.
    inputs: `(N, H, W, C)`.

  Returns:
    Name to `(h, w, k)`.
  """
  recorded = jaxpr_interpreter.trace(apply_fn, variables, inputs)
  return {
    name: variable.aval.shape[1:]
    for name, variable in recorded.layers.items()
    if variable.aval.ndim == 4
  }


def default_layer(shapes: Mapping[str, tuple[int, int, int]]) -> str:
  """The last layer with spatial resolution: feature maps of more than one pixel.

  Args:
    shapes: of `layer_shapes`.

  Returns:
    Its name.

  Raises:
    ValueError: if there is none.
  """
  names = [name for name, (h, w, _) in shapes.items() if h * w > 1]
  if not names:
    raise ValueError(
      f"expected a layer with feature maps of more than one pixel, got {shapes}"
    )
  return names[-1]


def flax_apply_fn(
  model: nn.Module,
  *,
  to_logits: Callable[[Any, Array, dict[str, Array]], Array] | None = None,
  modules: bool = False,
) -> jaxpr_interpreter.ApplyFn:
  """Wraps a network of `emosynth_jax.models` as a function with named layers.

  Args:
    model: a module that maps `(images, train=False)` to logits and a dictionary of
      inner arrays.
    to_logits: `(params, logits, inner arrays) -> (N, K)`, the logits used in
      evaluation; None for the network's output.
    modules: whether the output of every module is a layer too, under its path as in
      "block1/unit1/conv". An inner array of the same name takes precedence.

  Returns:
    `(variables, inputs) -> (logits, layers)`.
  """
  model = _with_every_map(model)

  def apply_fn(variables, inputs):
    (logits, out), state = model.apply(
      variables,
      inputs,
      train=False,
      capture_intermediates=modules,
      mutable=["intermediates"],
    )
    if to_logits is not None:
      logits = to_logits(variables["params"], logits, out)
    flat = flax.traverse_util.flatten_dict(state.get("intermediates", {}))
    layers = {
      "/".join(path[:-1]): outputs[0]
      for path, outputs in flat.items()
      # The network itself has no path. A module that is called twice has no unique
      # output.
      if len(path) > 1 and len(outputs) == 1 and isinstance(outputs[0], jax.Array)
    }

    return logits, layers | dict(out)

  return apply_fn


def _with_every_map(model: nn.Module) -> nn.Module:
  """The same function, with the upsampled maps between its layers."""
  if isinstance(model, normalized_inputs.WRAPPERS):
    return model.clone(network=_with_every_map(model.network))
  if getattr(model, "merge_upsampling", False):
    return model.clone(merge_upsampling=False)
  return model


def upsample(maps: Array, size: tuple[int, int], *, margin: int = 0) -> Array:
  """Upsamples maps to the images' size, by bilinear interpolation.

  Pixels are areas, as in OpenCV's INTER_LINEAR and torch's align_corners=False.

  Args:
    maps: `(N, h, w)`.
    size: height and width of the images.
    margin: number of pixels of the maps on each side that lie outside of the image and
      are cropped first: convolutions whose output is larger than their input extend
      beyond.

  Returns:
    `(N, height, width)`.

  Raises:
    ValueError: if the margin leaves nothing.
  """
  height, width = maps.shape[1] - 2 * margin, maps.shape[2] - 2 * margin
  if margin < 0 or min(height, width) < 1:
    raise ValueError(
      f"margin: expected 0 or more and less than half of {maps.shape[1:]}, got {margin}"
    )

  inner = maps[:, margin : margin + height, margin : margin + width]
  return jax.image.resize(
    inner, (maps.shape[0], *size), method="bilinear", antialias=False
  )


def normalize(maps: Array) -> Array:
  """Divides each map by its maximum; maps of zeros are unchanged.

  Zero, no evidence for the class, stays zero, whatever the smallest value is.

  Args:
    maps: `(N, h, w)`, not negative.

  Returns:
    `(N, h, w)`, in [0, 1].
  """
  largest = maps.max((1, 2), keepdims=True)
  return maps / jnp.where(largest > 0, largest, 1)


def _check_layer(recorded: jaxpr_interpreter.Trace, layer: str) -> None:
  known = {k: v.aval.shape[1:] for k, v in recorded.layers.items() if v.aval.ndim == 4}
  if layer not in known:
    listed = ", ".join(f"{name} {shape}" for name, shape in known.items())
    raise ValueError(
      f"layer: expected one of {listed or '(none has feature maps)'}; got {layer!r}"
    )
  if not jaxpr_interpreter.depends_on(recorded, layer):
    raise ValueError(
      f"layer: the logits do not depend on {layer!r}, or depend on it inside a loop "
      "or jitted function that cannot be traced"
    )
