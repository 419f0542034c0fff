"""Builds the functions of a run from the names in its config."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from emosynth_jax import data, losses, models
from emosynth_jax.config.types import as_typed
from emosynth_jax.data import label_noise
from emosynth_jax.data.augmentation import augment
from emosynth_jax.models import network_inputs
from emosynth_jax.models.normalized_inputs import NormalizedInputs, StandardizedInputs
from emosynth_jax.training import optimizers
from emosynth_jax.training.named_parts import check_network, resolve_loss, resolve_model
from emosynth_jax.training.state import TrainState, create_train_state
from emosynth_jax.utils import own_code


class Experiment(NamedTuple):
  """The functions of a run; `create_state` takes the run's random key.

  `preprocess` maps uint8 images to uint8 images before scaling, see `network_inputs`;
  `augment` includes it in training.
  """

  model: nn.Module
  loss: Callable
  evaluation_logits: Callable
  optimizer: optax.GradientTransformation
  plateau: optax.GradientTransformationExtraArgs
  augment: Callable
  mixup: Callable | None
  create_state: Callable[[jax.Array], TrainState]
  preprocess: Callable | None = None


def build_experiment(
  config: ml_collections.ConfigDict,
  *,
  image_shape: tuple[int, int, int],
  num_classes: int,
) -> Experiment:
  """Builds the functions that the config names.

  Args:
    config: a checked config.
    image_shape: `(height, width, channels)`.
    num_classes: K.

  Returns:
    The experiment.

  Raises:
    ValueError: for an unknown name or argument; the message lists the known ones. Or
      for equalization of images of several channels.
  """
  loss, loss_arguments = resolve_loss(config.loss)
  network = resolve_model(config.model.name)
  model_arguments = _model_arguments(config, network, loss)
  model_arguments["dtype"] = jnp.dtype(model_arguments["dtype"])

  # A sub-center loss has several columns of the last layer for each class.
  num_outputs = num_classes * loss_arguments.get("sub_centers", 1)
  model_name = model_arguments.pop("name")
  model = models.build_model(network, num_classes=num_outputs, **model_arguments)
  if own_code.is_own(model_name):
    check_network(model, model_name, image_shape, num_outputs)
  if config.input.standardize:
    model = StandardizedInputs(model)
  elif config.input.mean:
    model = NormalizedInputs(model, tuple(config.input.mean), tuple(config.input.std))

  optimizer = optimizers.build_optimizer(**config.optimizer)
  plateau = optimizers.build_plateau(
    **config.plateau, evaluate_every=config.evaluate_every
  )
  mixup = None
  if config.mixup_alpha:
    mixup = functools.partial(augment.mixup, alpha=config.mixup_alpha)
  return Experiment(
    model=model,
    loss=losses.get_loss(loss, **loss_arguments),
    evaluation_logits=losses.get_evaluation_logits(loss, **loss_arguments),
    optimizer=optimizer,
    plateau=plateau,
    preprocess=network_inputs.build_preprocess(
      config.input.equalize, num_channels=image_shape[-1]
    ),
    augment=network_inputs.build_augment(
      functools.partial(augment.augment, **config.augment),
      config.input.equalize,
      share=config.input.equalize_share,
    ),
    mixup=mixup,
    create_state=functools.partial(
      create_train_state,
      model=model,
      optimizer=optimizer,
      plateau=plateau,
      image_shape=image_shape,
      input_scale=config.input.scale,
      init_loss_state=functools.partial(losses.init_state, loss, num_classes),
      has_ema=config.ema_decay > 0,
    ),
  )


def experiment_of(config: ml_collections.ConfigDict, source: Any) -> Experiment:
  """`build_experiment` for the images and classes of a `Dataset` or a `Bundle`."""
  return build_experiment(
    config, image_shape=source.image_shape, num_classes=len(source.class_names)
  )


def _model_arguments(
  config: ml_collections.ConfigDict, network: Any, loss: Any
) -> dict[str, Any]:
  """A network's arguments, their types and those of the loss's checked."""
  as_typed("config.loss", config.loss, losses.defaults_of(loss))
  return as_typed("config.model", config.model, models.defaults_of(network))


def check_resizing(
  model: nn.Module, side: int, image_shape: tuple[int, int, int]
) -> None:
  """Checks that a network has the same parameters for resized images.

  Args:
    model: the network.
    side: of the resized images, in pixels.
    image_shape: `(height, width, channels)` of the data set's.

  Raises:
    ValueError: if not, or for images that are not square or not larger.
  """
  height, width, channels = image_shape
  if height != width:
    raise ValueError(
      "config.progressive_resizing.epochs: expected 0 for images that are not square, "
      f"here {height}x{width}"
    )
  if side >= height:
    raise ValueError(
      "config.progressive_resizing.side: expected less than the images' side, "
      f"{height}, got {side}"
    )

  def shapes(side):
    images = jnp.zeros((1, side, side, channels))
    key = jax.random.key(0)
    variables = jax.eval_shape(lambda: model.init(key, images, train=False))
    return jax.tree.map(jnp.shape, variables)

  expected = shapes(height)
  try:
    fits = shapes(side) == expected
  except Exception as error:  # A user's own network may raise any.
    raise ValueError(
      f"config.progressive_resizing.side: the network does not take images of side "
      f"{side}: {own_code.describe(error, [])}"
    ) from error
  if not fits:
    raise ValueError(
      "config.progressive_resizing: this network's parameters depend on the images' "
      "size; use one that pools over positions, such as fer_resnet"
    )


def check_parts(config: ml_collections.ConfigDict) -> None:
  """Checks a config's names and their arguments, before any data is read.

  Args:
    config: a checked config.

  Raises:
    ValueError: for an unknown name or argument of a network, a loss or a data set, or
      label noise that makes no sense.
    FileNotFoundError: if the user's own code is missing.
  """
  network = resolve_model(config.model.name)
  loss, loss_arguments = resolve_loss(config.loss)
  arguments = _model_arguments(config, network, loss)
  del arguments["name"]
  models.build_model(network, num_classes=2, **arguments)
  losses.get_evaluation_logits(loss, **loss_arguments)
  losses.init_state(loss, num_classes=2, dim=2)
  data.check_options(config.data.name, config.data.options)
  noise = config.data.label_noise
  label_noise.check_settings(rate=noise.rate, confusion=noise.confusion)


def check_start(config: ml_collections.ConfigDict) -> None:
  """Checks that what a new run starts from is there; a resumed one does not need it.

  Args:
    config: a checked config.

  Raises:
    FileNotFoundError: for a folder without a trained run, or a missing file.
  """
  start, weights = pathlib.Path(config.init_from), pathlib.Path(config.pretrained.file)
  if config.init_from and not (start / "checkpoints" / "best").is_dir():
    raise FileNotFoundError(
      f"config.init_from: expected the workdir of a trained run, but {start} has no "
      "best checkpoint"
    )
  if config.pretrained.file and not weights.is_file():
    raise FileNotFoundError(f"config.pretrained.file: no file {weights}")


def create_state(experiment: Experiment, seed: int) -> TrainState:
  """The state before the first step."""
  # Compiled as one program instead of dozens, one for each layer; on a CPU without
  # optimization, which takes 1/5 of the time for a program that runs once.
  options = {"xla_backend_optimization_level": 0}
  create = jax.jit(
    experiment.create_state,
    compiler_options=options if jax.default_backend() == "cpu" else None,
  )
  return create(jax.random.key(seed))


def state_shapes(experiment: Experiment) -> TrainState:
  """Abstract state (shapes and dtypes) of a run, for restoring a checkpoint."""
  return jax.eval_shape(experiment.create_state, jax.random.key(0))
