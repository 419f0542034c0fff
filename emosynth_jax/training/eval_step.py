"""Evaluation: margin-free logits, running statistics, every image once."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax import lax

from emosynth_jax import losses, models
from emosynth_jax.data import device_feed
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.metrics import batch_invariance, classification
from emosynth_jax.models.network_inputs import network_inputs
from emosynth_jax.parallel.mesh import Placement, on_mesh
from emosynth_jax.training import build, test_time_augmentation
from emosynth_jax.training.state import TrainState

Array = jax.Array


def image_logits(
  experiment: build.Experiment, variables: Any, input_scale: Array, images: Array
) -> Array:
  """Evaluation logits: without margin, with BatchNorm's running statistics.

  Args:
    experiment: the run's functions.
    variables: the network's.
    input_scale: factor from pixels to the network's input.
    images: uint8 `(N, H, W, C)`; floating only if `experiment` has no `preprocess`.

  Returns:
    `(N, K)`.
  """
  inputs = network_inputs(images, input_scale, preprocess=experiment.preprocess)
  answer: Any = experiment.model.apply(variables, inputs, train=False)
  logits, out = answer
  available = models.last_layer(variables["params"], logits, out)
  formula = experiment.evaluation_logits
  return formula(**losses.select_inputs(formula, **available))


def logits_of(
  experiment: build.Experiment, *, augment: str = "none"
) -> Callable[..., Array]:
  """`image_logits` of a run's network, of `(variables, input_scale, images)`.

  Args:
    experiment: the run's functions.
    augment: the views that are averaged over, a name of `test_time_augmentation.VIEWS`;
      "none" for the original image only.

  Returns:
    The function. Over several views, its logits are the logarithms of the means of the
    probabilities.
  """
  if augment == "none":
    return functools.partial(image_logits, experiment)
  make_views = test_time_augmentation.VIEWS[augment]

  def logits(variables: Any, input_scale: Array, images: Array) -> Array:
    # Before the views.
    if experiment.preprocess is not None:
      images = experiment.preprocess(images)
    answer = functools.partial(
      image_logits, experiment._replace(preprocess=None), variables, input_scale
    )
    views = make_views(images.astype(jnp.float32))
    return test_time_augmentation.mean_logits(answer, views)

  return logits


def evaluate_batch(
  variables: Any,
  input_scale: Array,
  images: Array,
  labels: Array,
  mask: Array,
  *,
  experiment: build.Experiment,
  num_classes: int,
  augment: str = "none",
) -> dict[str, Array]:
  """Computes the statistics of one batch.

  BatchNorm uses its running statistics, so that no image's prediction depends on the
  others in its batch.

  Args:
    variables: the network's.
    input_scale: factor from pixels to the network's input.
    images: uint8 `(N, H, W, C)`.
    labels: int32 `(N,)`.
    mask: bool `(N,)`, False for padding rows.
    experiment: the run's functions.
    num_classes: K.
    augment: as `logits_of` takes it.

  Returns:
    The sums of `classification.batch_statistics`.
  """
  logits = logits_of(experiment, augment=augment)(variables, input_scale, images)
  return classification.batch_statistics(logits, labels, mask, num_classes=num_classes)


def evaluate_images(
  variables: Any,
  input_scale: Array,
  images: Array,
  labels: Array,
  *,
  batch_size: int,
  batch_sharding: jax.sharding.NamedSharding | None = None,
  **arguments: Any,
) -> dict[str, Array]:
  """Computes the statistics of a whole split, batch by batch, as one program.

  The last batch is padded with images that a mask excludes from every sum.

  Args:
    variables: the network's.
    input_scale: factor from pixels to the network's input.
    images: uint8 `(M', H, W, C)`, of which those from M on are ignored (see
      `Placement.put_images`).
    labels: int32 `(M,)`.
    batch_size: B, images at a time; on several devices rounded up to their multiple.
    batch_sharding: sharding of a batch, see `Placement.batch`.
    **arguments: those of `evaluate_batch`.

  Returns:
    The sums of `classification.batch_statistics` for each batch, stacked: `(M / B,
    ...)`, rounded up.
  """
  total = labels.shape[0]
  batch_size = min(batch_size, total)
  if batch_sharding is not None:
    batch_size += -batch_size % batch_sharding.mesh.shape["data"]

  def one_batch(_, start):
    rows = start + jnp.arange(batch_size)
    mask, rows = rows < total, rows % total
    batch = images[rows]
    if batch_sharding is not None:
      batch = lax.with_sharding_constraint(batch, batch_sharding)
    statistics = evaluate_batch(
      variables, input_scale, batch, labels[rows], mask, **arguments
    )
    return None, statistics

  return lax.scan(one_batch, None, jnp.arange(0, total, batch_size))[1]


def build_evaluation(
  experiment: build.Experiment,
  config: ml_collections.ConfigDict,
  placement: Placement,
  *,
  class_names: tuple[str, ...],
  augment: str = "none",
) -> Callable[[Dataset], Callable[[TrainState], dict[str, Any]]]:
  """Builds the evaluation of splits, resident on the devices or streamed.

  Args:
    experiment: the run's functions.
    config: the run's.
    placement: its own.
    class_names: K names in label order.
    augment: `config.eval_augment`.

  Returns:
    A function that places a split and returns a function of a placed state to the
    summary, see `classification.summarize`.
  """
  batch_size = config.eval_batch_size
  arguments: dict[str, Any] = {
    "experiment": experiment,
    "num_classes": len(class_names),
    "augment": augment,
  }

  def compiled(statistics: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(on_mesh(placement, statistics), out_shardings=placement.replicate)

  on_devices = compiled(
    functools.partial(
      evaluate_images,
      **arguments,
      batch_size=batch_size,
      batch_sharding=placement.batch,
    )
  )
  one_batch = compiled(functools.partial(evaluate_batch, **arguments))

  def streamed(dataset: Dataset, state: TrainState) -> dict[str, Any]:
    statistics: list[Any] = []
    for batch in device_feed.stream_in_order(dataset, batch_size, placement):
      if statistics:
        # One batch at a time: otherwise batches would queue up in memory on slow
        # devices.
        statistics[-1] = jax.device_get(statistics[-1])
      statistics.append(
        one_batch(state.evaluation_variables, state.input_scale, *batch)
      )
    return classification.summarize(jax.device_get(statistics), class_names)

  def resident(arrays: tuple[Array, Array], state: TrainState) -> dict[str, Any]:
    statistics = on_devices(state.evaluation_variables, state.input_scale, *arrays)
    return classification.summarize(jax.device_get(statistics), class_names)

  def of_split(dataset: Dataset) -> Callable[[TrainState], dict[str, Any]]:
    if not device_feed.is_resident(dataset, config.data, placement):
      return functools.partial(streamed, dataset)
    arrays = placement.put_split(dataset.images, dataset.labels)
    return functools.partial(resident, arrays)

  return of_split


def compute_logits(
  experiment: build.Experiment,
  state: TrainState,
  dataset: Dataset,
  *,
  batch_size: int,
  placement: Placement,
  augment: str = "none",
) -> np.ndarray:
  """Evaluation logits of all images of a split.

  Args:
    experiment: the run's functions.
    state: on the mesh.
    dataset: the split.
    batch_size: images at a time.
    placement: the run's devices.
    augment: as `logits_of` takes it.

  Returns:
    float32 `(N, K)`, in every process.
  """
  program = jax.jit(
    on_mesh(placement, logits_of(experiment, augment=augment)),
    out_shardings=placement.replicate,
  )
  batches = [
    jax.device_get(program(state.evaluation_variables, state.input_scale, images))
    for images, _, _ in device_feed.stream_in_order(dataset, batch_size, placement)
  ]
  return np.concatenate(batches)[: len(dataset)]


def check_invariance(
  experiment: build.Experiment,
  state: TrainState,
  dataset: Dataset,
  *,
  batch_size: int,
  placement: Placement,
) -> dict[str, Any]:
  """Checks that a network's output for an image does not depend on its batch.

  Args:
    experiment: the network and its input layers.
    state: its trained state.
    dataset: the split.
    batch_size: maximum batch size.
    placement: the devices.

  Returns:
    As `batch_invariance.check_batch_invariance`.
  """
  # Each batch is on every device.
  program = jax.jit(logits_of(experiment), out_shardings=placement.replicate)
  return batch_invariance.check_batch_invariance(
    functools.partial(program, state.evaluation_variables, state.input_scale),
    dataset.images,
    dataset.labels,
    batch_size=batch_size,
    # A network of the user's need not have a dtype.
    dtype=jnp.dtype(getattr(experiment.model, "dtype", jnp.float32)).name,
  )
