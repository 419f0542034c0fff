"""Streamed training: batches are read during computation."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from emosynth_jax.data import grain_pipeline
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.parallel.mesh import Placement
from emosynth_jax.training import train_step
from emosynth_jax.training.state import TrainState


class StreamedSteps:
  """Takes training steps on batches that are read while the devices compute.

  The batches are those that `train_step.train_steps` draws from a resident split.
  """

  def __init__(
    self,
    dataset: Dataset,
    program: Callable[..., TrainState],
    *,
    batch_size: int,
    placement: Placement,
  ):
    """Creates the stream; nothing is read yet.

    Args:
      dataset: the training split.
      program: of `train_step.compile_train_on_batches`.
      batch_size: N.
      placement: the run's.
    """
    self._dataset = dataset
    self._program = program
    self._batch_size = batch_size
    self._placement = placement
    self._steps_per_epoch = len(dataset) // batch_size
    self._source: Iterator[tuple[np.ndarray, np.ndarray]] | None = None
    self._next_step = -1
    self._ahead: tuple[int, int, Any] | None = None

  def __call__(self, state: TrainState, *, num_steps: int) -> TrainState:
    """Takes steps within an epoch, as `train_steps` does."""
    step, key = int(state.step), np.asarray(state.key)
    if self._ahead is not None and self._ahead[:2] == (step, num_steps):
      arrays = self._ahead[2]
    else:
      arrays = self._read(key, step, num_steps)

    self._ahead = None
    state = self._program(state, *arrays)
    # The program runs asynchronously now: prefetch the batches of the next call.
    done = step + num_steps
    left = -done % self._steps_per_epoch
    if left:
      count = min(num_steps, left)
      self._ahead = (done, count, self._read(key, done, count))

    return state

  def _read(self, key: np.ndarray, step: int, count: int) -> tuple[Any, Any]:
    if self._source is None or step != self._next_step:
      self._source = self._batches(key, step)
    batches = [next(self._source) for _ in range(count)]
    self._next_step = step + count
    images, labels = (np.stack(part) for part in zip(*batches, strict=True))
    placed = jax.make_array_from_process_local_data(
      NamedSharding(self._placement.mesh, PartitionSpec(None, "data")),
      images,
      (count, self._batch_size, *images.shape[2:]),
    )
    return placed, self._placement.put(labels)

  def _batches(
    self, key: np.ndarray, step: int
  ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """This process's images of each batch from `step` on, and all its targets."""
    draw = jax.jit(train_step.epoch_order, static_argnames=("num_images", "batch_size"))
    while True:
      first = step % self._steps_per_epoch
      order = np.asarray(
        draw(
          key,
          np.int32(step),
          num_images=len(self._dataset),
          batch_size=self._batch_size,
        )
      )
      images = grain_pipeline.batches(
        self._dataset.images,
        order,
        batch_size=self._batch_size,
        part=self._placement.own_rows(self._batch_size),
        first=first,
      )
      for number, batch in enumerate(images, first):
        start = number * self._batch_size
        rows = order[start : start + self._batch_size]
        yield batch, self._dataset.targets[rows]
        step += 1
