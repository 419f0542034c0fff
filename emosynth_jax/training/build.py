"""What a config's names stand for: the one place that turns settings into functions."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from emosynth_jax import data, distributed, losses, models, optimizers, twins
from emosynth_jax.data import augment
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.models import network_inputs
from emosynth_jax.models.normalized_inputs import NormalizedInputs
from emosynth_jax.train_state import TrainState, create_train_state


class Experiment(NamedTuple):
  """The functions of a run; `create_state` takes the run's random key.

  `preprocess` is what the network does to uint8 images before they are scaled, see
  `network_inputs`; `augment` does it in training.
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
  """Looks up every name in the config.

  Args:
    config: a checked config.
    image_shape: `(height, width, channels)`.
    num_classes: K.

  Returns:
    The experiment.

  Raises:
    ValueError: for an unknown name or argument; the message lists the known ones. Or
      for images of several channels that are to be equalized.
  """
  model_arguments = dict(config.model)
  model_arguments["dtype"] = jnp.dtype(model_arguments["dtype"])
  model = models.build_model(
    model_arguments.pop("name"), num_classes=num_classes, **model_arguments
  )
  if config.input.mean:
    model = NormalizedInputs(model, tuple(config.input.mean), tuple(config.input.std))
  loss_arguments = dict(config.loss)
  loss_name = loss_arguments.pop("name")
  optimizer = optimizers.build_optimizer(**config.optimizer)
  plateau = optimizers.build_plateau(**config.plateau)
  mixup = None
  if config.mixup_alpha:
    mixup = functools.partial(augment.mixup, alpha=config.mixup_alpha)
  return Experiment(
    model=model,
    loss=losses.get_loss(loss_name, **loss_arguments),
    evaluation_logits=losses.get_evaluation_logits(loss_name, **loss_arguments),
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
      init_loss_state=functools.partial(losses.init_state, loss_name, num_classes),
      has_ema=config.ema_decay > 0,
    ),
  )


def splits(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """The splits of a run, that which is reported and never chosen on last."""
  return ("train", "validation", *filter(None, [config.data.test_split]))


def load_data(
  config: ml_collections.ConfigDict, splits: tuple[str, ...], *, lazily: bool = False
) -> dict[str, Dataset]:
  """Loads splits of the config's data set.

  With `data.drop_duplicates`, "train" lacks the images that have a twin in the run's
  other splits.

  Args:
    config: a checked config.
    splits: of "train", "validation" and "test".
    lazily: leaves images on disk where they can be read one by one, see
      `data.load_splits`; all processes of a job call it alike.

  Returns:
    The data set of each split.

  Raises:
    ValueError: what the loader finds, or if every training image has a twin.
  """
  if not (config.data.drop_duplicates and "train" in splits):
    return _load(config, splits, lazily)
  loaded = _load_without_twins(config, lazily)
  return {split: loaded[split] for split in splits}


def _load_without_twins(
  config: ml_collections.ConfigDict, lazily: bool
) -> dict[str, Dataset]:
  """The run's splits, with those images left out of "train"."""
  # The search needs all images; a single process then keeps them.
  loaded = _load(config, splits(config), lazily and jax.process_count() > 1)
  train, *others = loaded.values()
  loaded["train"] = twins.drop_twins(train, others, **config.data.twins)
  return loaded


def _load(
  config: ml_collections.ConfigDict, splits: tuple[str, ...], lazily: bool
) -> dict[str, Dataset]:
  return data.load_splits(
    config.data.name,
    config.data.data_dir,
    splits,
    validation_fraction=config.data.validation_fraction,
    seed=config.data.seed,
    limit=config.data.limit,
    lazily=lazily,
    share=distributed.share,
    **config.data.options,
  )


def class_weights(kind: str, dataset: Dataset) -> np.ndarray:
  """The weight of each class's examples in the training loss.

  Args:
    kind: "none" for ones, "balanced" for N / (K n_k), whose mean over the examples
      is 1.
    dataset: the training split.

  Returns:
    float32 `(K,)`.

  Raises:
    ValueError: if a class has no example to weigh.
  """
  counts = dataset.class_counts
  if kind == "none":
    return np.ones(len(counts), np.float32)
  if not counts.all():
    empty = dataset.class_names[int(np.argmin(counts))]
    raise ValueError(
      f"class_weights: the class {empty!r} has no training image to weigh; use "
      '"none" or more images'
    )
  return (counts.sum() / (len(counts) * counts)).astype(np.float32)


def on_device(dataset: Dataset) -> tuple[jax.Array, jax.Array]:
  """The images and labels of a split as arrays on the device."""
  return jnp.asarray(dataset.images), jnp.asarray(dataset.labels)


def create_state(experiment: Experiment, seed: int) -> TrainState:
  """The state before the first step."""
  # One program, since layer by layer it would be dozens; on a CPU compiled without
  # optimisation, which takes a fifth of the time for a program that runs once.
  options = {"xla_backend_optimization_level": 0}
  create = jax.jit(
    experiment.create_state,
    compiler_options=options if jax.default_backend() == "cpu" else None,
  )
  return create(jax.random.key(seed))


def state_shapes(experiment: Experiment) -> TrainState:
  """The run's state without its numbers, for a checkpoint to be read into."""
  return jax.eval_shape(experiment.create_state, jax.random.key(0))
