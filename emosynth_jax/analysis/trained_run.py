"""Loads a trained run as functions, parameters and arrays, for the analyses."""

import functools
import os
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from emosynth_jax import losses, models
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.models.network_inputs import network_inputs
from emosynth_jax.training.restore import load_network
from emosynth_jax.utils import errors

Array = jax.Array

SPLITS = ("train", "validation", "test")
# Statistics that BatchNorm uses: its running statistics, as in every evaluation, or
# those of each batch of the fixed images, which change with the parameters.
BATCH_NORMS = ("running", "batch")


class TrainedRun(NamedTuple):
  """A network with the fixed images that it is evaluated on.

  Attributes:
    params: parameters of the best checkpoint (averaged, if the run kept averages).
    constants: further inputs of the functions: "batch_stats", "input_scale".
    batches: uint8 images `(batches, B, H, W, C)`, preprocessed, and int32 labels
      `(batches, B)`.
    measure: `(params, constants, batch, temperature=1) -> {"loss": (), "accuracy":
      ()}`, the mean cross-entropy of the margin-free logits, whatever the training loss
      was, and the accuracy.
    facts: context of the results (network, data, checkpoint), for reports.
    name: the run's name in a plot's title.
    num_classes: K.
  """

  params: Any
  constants: dict[str, Any]
  batches: tuple[Array, Array]
  measure: Callable[[Any, Any, Any], dict[str, Array]]
  facts: dict[str, Any]
  name: str
  num_classes: int


def load_run(
  workdir: str | os.PathLike,
  *,
  split: str = "train",
  num_images: int = 1024,
  batch_size: int = 256,
  batch_norm: str = "running",
  data_dir: str | None = None,
) -> TrainedRun:
  """Loads a run's best checkpoint and the images to evaluate it on.

  The images are drawn from the split at random, with a separate seed: two runs on the
  same data are evaluated on the same images, without augmentation. Batches are all of
  one size, see `choose_images`. The network computes in float32, whatever its training
  dtype.

  Args:
    workdir: the run's folder.
    split: one of `SPLITS`.
    num_images: maximum number of images.
    batch_size: images at a time.
    batch_norm: one of `BATCH_NORMS`.
    data_dir: data set directory, if it moved since training; else None.

  Returns:
    The run.

  Raises:
    FileNotFoundError: if the folder has no run, or no best checkpoint.
    ValueError: for an argument out of its range, or data that is not the run's.
    CheckpointError: if the checkpoints are damaged, or of another network.
  """
  errors.check_choice("split", split, SPLITS)
  errors.check_choice("batch_norm", batch_norm, BATCH_NORMS)
  if num_images < 1 or batch_size < 1:
    raise ValueError(
      f"expected at least 1 image and a batch of 1, got {num_images} and {batch_size}"
    )

  # A second derivative in bfloat16 would be dominated by rounding.
  network = load_network(workdir, split, data_dir, dtype="float32")
  config, experiment, state, dataset = network
  variables = state.evaluation_variables
  images, labels = choose_images(dataset, num_images, batch_size)
  return TrainedRun(
    params=variables["params"],
    constants={
      "batch_stats": variables["batch_stats"],
      "input_scale": state.input_scale,
    },
    batches=(_preprocessed(experiment, images), jnp.asarray(labels)),
    measure=functools.partial(
      measure,
      model=experiment.model,
      evaluation_logits=experiment.evaluation_logits,
      batch_norm=batch_norm,
    ),
    facts={
      **network.facts(),
      "workdir": str(workdir),
      "split": split,
      "num_images": labels.size,
      "batch_size": labels.shape[1],
      "images_crc32": zlib.crc32(images.tobytes()),
      "labels_crc32": zlib.crc32(labels.tobytes()),
      "batch_norm": batch_norm,
      "measured": "mean cross-entropy of the margin-free logits, no augmentation",
      "num_parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
    },
    name=f"{config.model.name}, {config.loss.name}",
    num_classes=len(dataset.class_names),
  )


def _preprocessed(experiment: Any, images: np.ndarray) -> Array:
  """Batches of images as the network preprocesses them, once for all evaluations."""
  batches = jnp.asarray(images)
  if experiment.preprocess is None:
    return batches
  return jax.lax.map(experiment.preprocess, batches)


def choose_images(
  dataset: Dataset, num_images: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Draws images without replacement, deterministically.

  Batches have one size, so that the mean over batches is the mean over images. It is
  the one between half of `batch_size` and all of it that drops the fewest images,
  always fewer than a batch; of several such, the largest.

  Args:
    dataset: the split.
    num_images: maximum number of images.
    batch_size: maximum batch size.

  Returns:
    `(batches, B, H, W, C)` and `(batches, B)`.
  """
  total = min(num_images, len(dataset))
  largest = min(batch_size, total)
  size = min(range(largest, (largest - 1) // 2, -1), key=lambda size: total % size)
  number = total // size
  order = np.random.Generator(np.random.PCG64(0)).permutation(len(dataset))
  rows = order[: number * size].reshape(number, size)
  return dataset.images[rows], dataset.labels[rows]


def measure(
  params: Any,
  constants: dict[str, Any],
  batch: tuple[Array, Array],
  *,
  model: nn.Module,
  evaluation_logits: Callable[..., Array],
  batch_norm: str,
  temperature: Any = 1.0,
) -> dict[str, Array]:
  """Computes loss and accuracy of a batch, as `TrainedRun.measure`.

  Args:
    params: of the network.
    constants: "batch_stats" and "input_scale".
    batch: images `(N, H, W, C)` in 0..255 and labels `(N,)`.
    model: the network.
    evaluation_logits: of the run's loss, see `losses.get_evaluation_logits`.
    batch_norm: "running", or "batch" to normalize the batch by its own statistics, with
      dropout and stochastic depth off: the loss is a function of the parameters alone.
    temperature: the logits are divided by it.

  Returns:
    "loss" and "accuracy", scalars.
  """
  images, labels = batch
  inputs = network_inputs(images, constants["input_scale"])
  variables = {"params": params, "batch_stats": constants["batch_stats"]}
  # Flax's types of what `apply` returns depend on `mutable`, unknown to a checker.
  logits: Any
  out: Any

  if batch_norm == "running":
    logits, out = model.apply(variables, inputs, train=False)
  else:
    with nn.intercept_methods(_without_dropout):
      (logits, out), _ = model.apply(
        variables, inputs, train=True, mutable=["batch_stats"]
      )

  available = models.last_layer(params, logits, out)
  logits = evaluation_logits(**losses.select_inputs(evaluation_logits, **available))
  return {
    "loss": losses.cross_entropy(logits / temperature, labels).mean(),
    "accuracy": (logits.argmax(axis=-1) == labels).astype(jnp.float32).mean(),
  }


def _without_dropout(call, args, kwargs, context):
  if isinstance(context.module, nn.Dropout) and context.method_name == "__call__":
    return args[0] if args else kwargs["inputs"]
  return call(*args, **kwargs)
