"""Networks with two- or three-dimensional embeddings, one for each loss and seed."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from emosynth_jax import data, losses
from emosynth_jax.analysis.embeddings import embeddings
from emosynth_jax.analysis.embeddings.separation import separation
from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.metrics import statistics
from emosynth_jax.models.ops import layers
from emosynth_jax.training import state as train_state
from emosynth_jax.training import train_step
from emosynth_jax.utils import progress

# ArcFace's scale and margin are among those that trained on MNIST in
# docs/results/ablations.md.
LOSSES: dict[str, dict[str, Any]] = {
  "softmax": {"name": "cross_entropy"},
  "MAM-SoftMax": {"name": "mam_softmax"},
  "MAM-SoftMax + SCE": {"name": "mam_softmax+sce_loss"},
  "ArcFace": {"name": "arcface", "scale": 16.0, "margin": 0.1},
}
DIMENSIONS = (2, 3)
# Metrics to compare, and their number of decimals.
METRICS = {
  "accuracy": 4,
  "angle_to_own": 2,
  "angle_to_other": 2,
  "angular_margin": 2,
  "nearest_own": 4,
  "center_angle": 2,
  "silhouette": 3,
  "intra_inter_ratio": 3,
}
BATCH_SIZE = 64
LEARNING_RATE = 2e-3


class ToyNetwork(nn.Module):
  """Three convolutions on the images at half their side, with a linear embedding.

  Attributes:
    num_classes: K.
    dim: size of the embedding.
  """

  num_classes: int
  dim: int

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> Any:
    """Maps `(N, 32, 32, C)` to logits `(N, K)` and "pre_logits" `(N, dim)`."""
    x = images
    for i, features in enumerate((16, 32, 64), start=1):
      x = layers.Conv(features, name=f"conv{i}")(layers.average_pool(x, 2, 2))
      x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"norm{i}")(x)
      x = nn.relu(x)
    x = nn.Dense(self.dim, name="embedding")(x.reshape(x.shape[0], -1))
    logits = nn.Dense(self.num_classes, use_bias=False, name="logits")(x)
    return logits, {"pre_logits": x}


class Trained(NamedTuple):
  """Embeddings and metrics of a network on the validation images."""

  points: np.ndarray
  weights: np.ndarray
  metrics: dict[str, Any]


def build_trainer(
  loss: Mapping[str, Any],
  dim: int,
  training: data.Dataset,
  validation: data.Dataset,
  epochs: int,
) -> Callable[[int], Trained]:
  """Compiles training and embedding with one loss, for all seeds.

  Args:
    loss: "name" and arguments, as `losses.get_loss` takes them.
    dim: size of the embedding.
    training: the images to train on.
    validation: those to embed.
    epochs: passes over the training images.

  Returns:
    A function of the seed.
  """
  arguments = {k: v for k, v in loss.items() if k != "name"}
  num_classes = len(training.class_names)
  model = ToyNetwork(num_classes, dim)
  steps = len(training) // BATCH_SIZE
  optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, epochs * steps))
  create = jax.jit(
    functools.partial(
      train_state.create_train_state,
      model=model,
      optimizer=optimizer,
      plateau=optax.contrib.reduce_on_plateau(),  # without effect: never updated
      image_shape=training.images.shape[1:],
      input_scale=1 / 255,
    )
  )
  setup = train_step.StepSetup(
    model=model,
    loss=losses.get_loss(loss["name"], **arguments),
    evaluation_logits=losses.get_evaluation_logits(loss["name"], **arguments),
    optimizer=optimizer,
    augment=lambda key, images: images.astype(jnp.float32),
    class_weights=np.ones(num_classes, np.float32),
  )
  run_epoch = train_step.compile_train_steps(setup, batch_size=BATCH_SIZE)

  apply_fn = gradcam_network.apply_fn_of(setup, modules=False)
  images, labels = jnp.asarray(training.images), jnp.asarray(training.labels)

  def train(seed: int) -> Trained:
    state = create(jax.random.key(seed))
    for _ in range(epochs):
      state = run_epoch(state, images, labels, num_steps=steps)
    if (bad := int(state.totals["bad_step"])) >= 0:
      raise ValueError(f"{loss}: non-finite loss at step {bad} of seed {seed}")
    points, logits = embeddings.compute_embeddings(
      apply_fn,
      state.variables,
      state.input_scale,
      validation.images,
    )
    accuracy = float((logits.argmax(axis=-1) == validation.labels).mean())
    metrics = {"accuracy": accuracy, **separation(points, validation.labels)}
    return Trained(points, np.asarray(state.params["logits"]["kernel"]), metrics)

  return train


def run_all(
  training: data.Dataset,
  validation: data.Dataset,
  seeds: Sequence[int],
  epochs: int,
) -> dict[int, dict[str, list[Trained]]]:
  """Trains all losses, dimensions and seeds.

  Returns:
    By dimension and label of the loss, one per seed.
  """
  total = len(DIMENSIONS) * len(LOSSES) * len(seeds)
  bar = progress.Progress(first=0, total=total)
  done = 0
  found: dict[int, dict[str, list[Trained]]] = {}
  for dim in DIMENSIONS:
    found[dim] = {label: [] for label in LOSSES}
    for label, loss in LOSSES.items():
      train = build_trainer(loss, dim, training, validation, epochs)
      for seed in seeds:
        found[dim][label].append(train(seed))
        done += 1
        bar.update(
          done,
          f"{label}, {dim}-D, seed {seed}: training {done}/{total}",
          images_per_unit=epochs * len(training),
        )
  return found


def summarize(
  found: Mapping[int, Mapping[str, Sequence[Trained]]],
) -> dict[str, dict[str, Any]]:
  """Each metric's mean and deviation, and its paired difference from the first loss.

  Returns:
    By dimension (as text) and loss, by metric "mean", "deviation" and, except for the
    first loss, "difference".
  """
  summary: dict[str, dict[str, Any]] = {}
  for dim, by_loss in found.items():
    first = next(iter(by_loss.values()))
    summary[str(dim)] = {}
    for label, trained in by_loss.items():
      measured: dict[str, Any] = {}
      for metric in METRICS:
        values = [one.metrics[metric] for one in trained]
        mean, deviation = statistics.mean_and_deviation(values)
        measured[metric] = {"values": values, "mean": mean, "deviation": deviation}
        if trained is not first:
          measured[metric]["difference"] = statistics.paired_difference(
            values, [one.metrics[metric] for one in first]
          )
      summary[str(dim)][label] = measured
  return summary
