"""Grad-CAM's functions of a trained run's network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from emosynth_jax import losses, models
from emosynth_jax.analysis.gradcam import grad_cam, guided_backprop
from emosynth_jax.models.network_inputs import network_inputs
from emosynth_jax.parallel import batched_map

# Pixels of the maps beyond each border of the image, see `grad_cam.upsample`:
# transposed convolutions without padding, and the upsampling after them.
MARGINS = {
  "emosynthnet": {"transposed1": 1, "upsample1": 2, "transposed2": 3, "block5": 6}
}


# Networks whose last feature maps are not the most informative. EmoSynthNet flattens
# block5's: each pixel has its own weights, and their mean over the pixels is
# uninformative (measured in docs/guides/analysis/index.md). Block4 is therefore used.
DEFAULT_LAYERS = {"emosynthnet": "block4"}

# Help of the flag --layer.
LAYER_HELP = (
  "Layer of Grad-CAM; an unknown name lists the available ones. By default "
  + ", ".join(f"{layer} in {model}" for model, layer in DEFAULT_LAYERS.items())
  + ", else the last layer whose feature maps have more than one pixel."
)


def apply_fn_of(experiment: Any, *, modules: bool) -> Any:
  """A run's network with its evaluation logits, for `grad_cam.grad_cam`."""

  def to_logits(params, logits, out):
    available = models.last_layer(params, logits, out)
    margin_free = experiment.evaluation_logits
    return margin_free(**losses.select_inputs(margin_free, **available))

  return grad_cam.flax_apply_fn(experiment.model, to_logits=to_logits, modules=modules)


def choose_layer(
  network: Any, name: str | None
) -> tuple[str, tuple[int, int, int], int]:
  """Selects the layer of Grad-CAM.

  Args:
    network: the trained one, a `restore.Network`.
    name: the requested layer; None for the network's default.

  Returns:
    Its name, the shape `(h, w, k)` of its output, and their margin, see
    `grad_cam.upsample`.

  Raises:
    ValueError: if the network has no such layer; those it has are listed.
  """

  config, experiment, state, dataset = network
  one = jax.ShapeDtypeStruct((1, *dataset.images.shape[1:]), jnp.float32)

  def shapes_of(*, modules):
    apply_fn = apply_fn_of(experiment, modules=modules)
    return grad_cam.layer_shapes(apply_fn, state.evaluation_variables, one)

  layer = name or DEFAULT_LAYERS.get(config.model.name)
  if layer is None:
    layer = grad_cam.default_layer(shapes_of(modules=False))
  shapes = shapes_of(modules=True)
  if layer not in shapes:
    listed = "\n".join(f"  {known} {shape}" for known, shape in shapes.items())
    raise ValueError(f"--layer: got {layer!r}; {config.model.name} has\n{listed}")

  return layer, shapes[layer], _margin(config.model.name, layer, shapes)


def _margin(model: str, layer: str, shapes: dict[str, tuple[int, int, int]]) -> int:
  """Margin of a layer, or of the layer that contains it at the same size."""
  margins, whole = MARGINS.get(model, {}), layer.partition("/")[0]
  if layer in margins:
    return margins[layer]
  same_size = whole in shapes and shapes[whole][:2] == shapes[layer][:2]
  return margins.get(whole, 0) if same_size else 0


def compile_maps(
  network: Any, layer: str, margin: int, *, batch_size: int, guided: bool = True
) -> Callable[..., dict[str, Any]]:
  """Compiles all maps of a trained network's images.

  Args:
    network: the trained one, a `restore.Network`.
    layer: of `choose_layer`.
    margin: likewise.
    batch_size: images at a time.
    guided: whether with guided backpropagation.

  Returns:
    `(variables, input_scale, images, targets=None)`, uint8 `(M, H, W, C)` and int32
    `(M,)`, None for the predicted classes, to "maps" `(M, h, w)`, "grad_cam" `(M, H,
    W)`, "guided_backprop" and "guided_grad_cam" `(M, H, W, C)`, "logits" `(M, K)`,
    "targets" `(M,)`.
  """
  apply_fn = apply_fn_of(network.experiment, modules=True)
  preprocess = network.experiment.preprocess

  def explain(variables, input_scale, images, targets=None):
    def one_batch(images, targets=None):
      inputs = network_inputs(images, input_scale, preprocess=preprocess)
      cam = grad_cam.grad_cam(apply_fn, variables, inputs, layer=layer, targets=targets)
      large = grad_cam.upsample(cam.maps, images.shape[1:3], margin=margin)
      found = {**cam._asdict(), "grad_cam": large}
      if guided:
        gradient = guided_backprop.guided_backprop(
          apply_fn, variables, inputs, targets=cam.targets
        )
        found["guided_backprop"] = gradient
        found["guided_grad_cam"] = guided_backprop.guided_grad_cam(gradient, large)
      return found

    arrays = (images,) if targets is None else (images, targets)
    return batched_map.over_batches(one_batch, arrays, batch_size=batch_size)

  return jax.jit(explain)
