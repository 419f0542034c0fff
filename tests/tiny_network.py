"""A network that compiles in no time, with all that training has to carry along."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from emosynth_jax import losses
from emosynth_jax.config import defaults
from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.parallel import mesh
from emosynth_jax.training import build, eval_step, optimizers
from emosynth_jax.training.state import TrainState, create_train_state

IMAGE_SHAPE = (4, 4, 1)


class TinyNetwork(nn.Module):
  """Dense, BatchNorm, ELU, dropout, dense: the interface of emosynth_jax.models."""

  num_classes: int = 3
  features: int = 5
  dropout_rate: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images, *, train):
    # No bias before BatchNorm: its gradient is 0, and Adam would magnify rounding.
    x = nn.Dense(self.features, use_bias=False)(images.reshape(images.shape[0], -1))
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(nn.elu(x))
    return nn.Dense(self.num_classes, name="logits")(x), {"pre_logits": x}


class TinyMaps(nn.Module):
  """A convolution with ELU, the mean over the pixels, a dense layer."""

  num_classes: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images, *, train):
    maps = nn.elu(nn.Conv(4, (3, 3), name="conv")(images))
    x = maps.mean((1, 2))
    return nn.Dense(self.num_classes, name="logits")(x), {
      "maps": maps,
      "pre_logits": x,
    }


def create_state(
  model: nn.Module = TinyNetwork(),  # noqa: B008
  *,
  seed: int = 0,
  gradient_clip: float = 0.0,
) -> TrainState:
  """The state before the first step, with the project's optimizer and plateau."""
  return _compiled_create(model, gradient_clip)(jax.random.key(seed))


@functools.cache
def _compiled_create(model, gradient_clip):
  return jax.jit(
    functools.partial(
      create_train_state,
      model=model,
      optimizer=build_optimizer(gradient_clip=gradient_clip),
      plateau=build_plateau(),
      image_shape=IMAGE_SHAPE,
      input_scale=1 / 255,
    )
  )


def build_optimizer(*, learning_rate: float = 0.01, gradient_clip: float = 0.0):
  """Adam with a large step, so that a wrong one shows."""
  return optimizers.build_optimizer(
    learning_rate=learning_rate, b1=0.9, b2=0.999, gradient_clip=gradient_clip
  )


def build_plateau():
  """The default decay of the learning rate."""
  return optimizers.build_plateau(
    factor=0.1, patience=5, min_improvement=1e-4, min_scale=1e-4
  )


def build_experiment(model: nn.Module, evaluation_logits=None) -> build.Experiment:
  """An experiment that can only be evaluated, by default by the network's logits."""
  return build.Experiment(
    model=model,
    evaluation_logits=evaluation_logits
    or losses.get_evaluation_logits("cross_entropy"),
    **dict.fromkeys(
      ("loss", "optimizer", "plateau", "augment", "mixup", "create_state")
    ),
  )


def build_evaluate(experiment, *, class_names, batch_size, augment="none"):
  """The evaluation of a split in memory: `(state, images, labels)` to its summary."""
  config = defaults.get_default_config()
  config.eval_batch_size, config.data.pipeline = batch_size, "resident"
  evaluation = eval_step.build_evaluation(
    experiment,
    config,
    mesh.build_placement(devices=jax.devices()[:1]),
    class_names=class_names,
    augment=augment,
  )

  def evaluate(state, images, labels):
    return evaluation(from_arrays(images, labels, class_names))(state)

  return evaluate


def random_images(num_images: int, *, seed: int = 1):
  """uint8 images and int32 labels of three classes."""
  image_key, label_key = jax.random.split(jax.random.key(seed))
  images = jax.random.randint(image_key, (num_images, *IMAGE_SHAPE), 0, 256)
  labels = jax.random.randint(label_key, (num_images,), 0, 3)
  return images.astype(jnp.uint8), labels
