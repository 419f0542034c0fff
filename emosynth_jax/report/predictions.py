"""Predictions of a trained network on a split, with Grad-CAM."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special

from emosynth_jax.analysis.embeddings import embeddings
from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.analysis.gradcam import plots as gradcam_plots
from emosynth_jax.training.restore import Network, load_network
from emosynth_jax.utils import progress


class Answers(NamedTuple):
  """Predictions of a network on a split of N images.

  Attributes:
    network: the network and the split.
    embeddings: float32 `(N, D)`, of the layer before the last.
    probabilities: float64 `(N, K)`, the softmax of the margin-free logits.
  """

  network: Network
  embeddings: np.ndarray
  probabilities: np.ndarray

  @property
  def labels(self) -> np.ndarray:
    """int32 `(N,)`."""
    return self.network.dataset.labels

  @property
  def predicted(self) -> np.ndarray:
    """int `(N,)`, the first of the most probable classes."""
    return self.probabilities.argmax(axis=1)


class Maps(NamedTuple):
  """Grad-CAM of some images: the layer, its shape, and the maps, `(M, H, W)`."""

  layer: str
  shape: tuple[int, int, int]
  maps: np.ndarray


def compute_answers(
  workdir: str | os.PathLike, split: str, *, data_dir: str | None, batch_size: int
) -> Answers:
  """Evaluates a run's best network on a split.

  Args:
    workdir: the run's folder.
    split: "validation" or "test".
    data_dir: data set directory, if it moved since training; else None.
    batch_size: images at a time.

  Returns:
    The predictions.

  Raises:
    FileNotFoundError: if the checkpoint or the data is missing.
    ValueError: for data that is not the run's.
    CheckpointError: if the checkpoints are damaged, or of another network.
  """
  # In the evaluation's precision, as its metrics are shown beside these predictions.
  network = load_network(workdir, split, data_dir, dtype=None)
  state, images = network.state, network.dataset.images
  bar = progress.Progress(first=0, total=len(images))
  features, logits = embeddings.compute_embeddings(
    gradcam_network.apply_fn_of(network.experiment, modules=False),
    state.evaluation_variables,
    state.input_scale,
    images,
    preprocess=network.experiment.preprocess,
    batch_size=batch_size,
    report=lambda done: bar.update(
      done, f"predictions: image {done:,}/{len(images):,}", images_per_unit=1
    ),
  )
  probabilities = scipy.special.softmax(logits.astype(np.float64), axis=1)
  return Answers(network, features, probabilities)


def confident_mistakes(answers: Answers, count: int) -> list[int]:
  """Most confident errors: misclassified images by descending probability."""
  wrong = np.flatnonzero(answers.predicted != answers.labels)
  confidence = answers.probabilities[wrong].max(axis=1)
  return wrong[np.argsort(-confidence, kind="stable")[:count]].tolist()


def hardest_of_each_class(answers: Answers, count: int) -> list[int]:
  """Hardest images of each class: lowest probability of the label."""
  label_probability = answers.probabilities[
    np.arange(len(answers.labels)), answers.labels
  ]
  found: list[int] = []
  for k in range(answers.probabilities.shape[1]):
    own = np.flatnonzero(answers.labels == k)
    found += own[np.argsort(label_probability[own], kind="stable")[:count]].tolist()
  return found


def describe_image(answers: Answers, row: int) -> dict[str, Any]:
  """Describes an image: index, file, label and prediction.

  Args:
    answers: of its split.
    row: its index in the split.

  Returns:
    "row", "source" (may be ""), "label", "predicted", "confidence" (the predicted
    class's probability), "label_probability" and "right".
  """
  dataset = answers.network.dataset
  guess, label = int(answers.predicted[row]), int(answers.labels[row])
  return {
    "row": row,
    "source": dataset.sources[row],
    "label": dataset.class_names[label],
    "predicted": dataset.class_names[guess],
    "confidence": float(answers.probabilities[row, guess]),
    "label_probability": float(answers.probabilities[row, label]),
    "right": guess == label,
  }


def drawn_examples(answers: Answers) -> list[tuple[int | None, int | None]]:
  """Draws one correctly and one incorrectly classified image of each class.

  The random order is fixed, so that networks with the same predictions get the same
  images.
  """
  order = np.random.Generator(np.random.PCG64(0)).permutation(len(answers.labels))
  pairs = gradcam_plots.choose_examples(
    answers.labels[order], answers.predicted[order], answers.probabilities.shape[1]
  )
  return [
    (None if a is None else int(order[a]), None if b is None else int(order[b]))
    for a, b in pairs
  ]


def grad_cam(
  answers: Answers, rows: Sequence[int], *, layer: str | None, batch_size: int
) -> Maps:
  """Grad-CAM of the predicted class of some images.

  Args:
    answers: predictions on their split.
    rows: the images, at least one.
    layer: see `gradcam_network.choose_layer`.
    batch_size: images at a time.

  Returns:
    The maps, at the images' size.

  Raises:
    ValueError: if the network has no such layer.
  """
  network = answers.network
  layer, shape, margin = gradcam_network.choose_layer(network, layer)
  program = gradcam_network.compile_maps(
    network, layer, margin, batch_size=min(batch_size, len(rows)), guided=False
  )
  state, images = network.state, network.dataset.images[np.asarray(rows)]
  found = program(state.evaluation_variables, state.input_scale, images)
  return Maps(layer, shape, np.asarray(found["grad_cam"]))
