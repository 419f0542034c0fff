"""Teachers of the folds of one training split, trained by one compiled program.

All of them draw from the same images on the device, each from its own rows. They share
the step, the schedule and the program; seeds, parameters and batches are their own.
"""

import contextlib
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging
from jax import lax

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.parallel import batched_map
from emosynth_jax.training import build, epoch, eval_step, programs, train_step
from emosynth_jax.training.state import TrainState, zero_totals
from emosynth_jax.utils import errors
from emosynth_jax.utils.stop_signal import EXIT_CODE, StopSignal
from emosynth_jax.workdir import record
from emosynth_jax.workdir.checkpoints import Checkpoints

Array = jax.Array

# Execution of the teachers of a program: in turn, epoch by epoch, or as one batch of
# networks. On a CPU, convolutions with batched weights take six times longer (see
# benchmarks/ablation_mappings.py); neither was measured on a GPU, which one teacher's
# batch fills.
MAPPINGS = ("map", "vmap")


class Teachers(NamedTuple):
  """The trained teachers.

  Attributes:
    experiment: their functions.
    states: their states, every array but the step with a leading axis of F.
  """

  experiment: build.Experiment
  states: TrainState


def rows_outside_folds(folds: np.ndarray, num_folds: int, *, seed: int) -> np.ndarray:
  """The images that each teacher is trained on.

  Teachers of one program have equally many: of a fold that leaves more, some are left
  out at random.

  Args:
    folds: int `(N,)`, the fold of each image, 0 to F-1.
    num_folds: F.
    seed: of what is left out.

  Returns:
    int32 `(F, S)`, in order.
  """
  rng = np.random.default_rng(seed)
  rows = [np.flatnonzero(folds != fold) for fold in range(num_folds)]
  size = min(map(len, rows))
  chosen = [np.sort(rng.choice(r, size, replace=False)) for r in rows]
  return np.stack(chosen).astype(np.int32)


def compile_steps(
  setup: train_step.StepSetup, *, batch_size: int, num_steps: int, mapping: str
) -> Callable[..., TrainState]:
  """Compiles `num_steps` steps of all teachers.

  Args:
    setup: what the steps have in common.
    batch_size: of each teacher.
    num_steps: within an epoch.
    mapping: one of `MAPPINGS`.

  Returns:
    `(states, images, labels, subsets) -> states`, jitted, the states donated; `images`
    and `labels` as of `train_step.train_steps`, `subsets` int32 `(F, S)`.

  Raises:
    ValueError: for an unknown mapping.
  """
  errors.check_choice("--mapping", mapping, MAPPINGS)

  def steps(states, images, labels, subsets):
    # Of all teachers, and no array of the members: under vmap a condition on it stays
    # one, and does not become a choice between two branches that both run.
    step = states.step

    def of_one(member_and_subset):
      member, subset = member_and_subset
      state = train_step.train_steps(
        member.replace(step=step),
        images,
        labels,
        setup=setup,
        num_steps=num_steps,
        batch_size=batch_size,
        subset=subset,
      )
      return state.replace(step=None)

    members = (states.replace(step=None), subsets)
    new = jax.vmap(of_one)(members) if mapping == "vmap" else lax.map(of_one, members)
    return new.replace(step=step + num_steps)

  return jax.jit(steps, donate_argnames="states")


def create_states(experiment: build.Experiment, seeds: np.ndarray) -> TrainState:
  """The states before the first step, of a seed each.

  Args:
    experiment: the teachers' functions.
    seeds: uint32 `(F,)`.

  Returns:
    See `Teachers.states`.
  """
  # One after the other, as a run's is made: one program, that compiles quickly.
  states = [build.create_state(experiment, int(seed)) for seed in seeds]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
  return stacked.replace(step=jnp.int32(0))


def train(
  config: ml_collections.ConfigDict,
  training: Dataset,
  folds: np.ndarray,
  workdir: pathlib.Path,
  *,
  num_folds: int,
  mapping: str,
) -> Teachers:
  """Trains the teachers, or resumes from the last checkpoint in `workdir`.

  They train for all epochs of the config, without validation: no image chooses one of
  their epochs.

  Args:
    config: of all teachers; the seed is that of the first, the others' follow.
    training: the whole split, in memory.
    folds: int `(N,)`, 0 to F-1.
    workdir: the folder for their checkpoint.
    num_folds: F.
    mapping: one of `MAPPINGS`.

  Returns:
    The teachers.

  Raises:
    NonFiniteError: if a loss or a gradient of a teacher is not finite.
    ValueError: if the folder has teachers of another config, or another process trains
      them.
    SystemExit: after SIGTERM or Ctrl-C; the states are saved.
  """
  record.check_same_config(config, workdir)
  experiment = build.experiment_of(config, training)
  subsets = rows_outside_folds(folds, num_folds, seed=config.seed)
  steps_per_epoch = subsets.shape[1] // config.batch_size
  if not steps_per_epoch:
    raise ValueError(
      f"config.batch_size: expected at most the {subsets.shape[1]:,} images outside of "
      f"a fold, got {config.batch_size}"
    )
  setup = programs.build_setup(
    config, experiment, training, steps_per_epoch=steps_per_epoch
  )
  take_epoch = compile_steps(
    setup, batch_size=config.batch_size, num_steps=steps_per_epoch, mapping=mapping
  )
  arrays = [jnp.asarray(x) for x in (training.images, training.targets, subsets)]

  states = create_states(experiment, config.seed + np.arange(num_folds))
  with (
    record.only_training_in(workdir),
    contextlib.closing(Checkpoints(workdir, keep=1)) as checkpoints,
    StopSignal() as stop,
  ):
    states = checkpoints.restore("last", states) or states
    saved = time.monotonic()
    for number in range(int(states.step) // steps_per_epoch, config.num_epochs):
      totals = jax.vmap(lambda _: zero_totals())(jnp.arange(num_folds))
      scale = jnp.full(num_folds, epoch.input_scale(config, number))
      states = take_epoch(states.replace(totals=totals, input_scale=scale), *arrays)
      _end_epoch(states, number + 1)

      is_last = number + 1 == config.num_epochs
      is_late = time.monotonic() - saved > 60 * config.checkpoint.minutes
      if is_last or is_late or stop.number:
        checkpoints.save("last", states)
        record.keep_config(config, workdir)
        saved = time.monotonic()
      if stop.number and not is_last:
        checkpoints.wait()
        logging.info("Interrupted in epoch %d of the teachers; rerun.", number + 1)
        raise SystemExit(EXIT_CODE + stop.number)

  return Teachers(experiment, states)


def _end_epoch(states: TrainState, number: int) -> None:
  """Logs an epoch of all teachers; raises an error if a step was not finite."""
  totals = jax.device_get(states.totals)
  bad = np.flatnonzero(totals["bad_step"] >= 0)
  if bad.size:
    raise epoch.NonFiniteError(
      f"teacher {bad[0]}, step {totals['bad_step'][bad[0]]}: loss "
      f"{totals['bad_loss'][bad[0]]}, gradient norm "
      f"{totals['bad_gradient_norm'][bad[0]]}; use a lower learning rate in a new "
      "--workdir"
    )
  losses, accuracies = (
    ", ".join(f"{x:.{digits}f}" for x in factor * totals[name] / totals[count])
    for name, count, factor, digits in (
      ("loss", "steps", 1, 4),
      ("correct", "count", 100, 2),
    )
  )
  logging.info(
    "teachers, epoch %d: train loss %s accuracy %s %%", number, losses, accuracies
  )


def left_out_logits(
  teachers: Teachers, images: np.ndarray, folds: np.ndarray, *, batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Logits of each image, by the teacher that was not trained on it, and by the others.

  Args:
    teachers: F trained ones.
    images: uint8 `(N, H, W, C)`, of the training split.
    folds: int `(N,)`, 0 to F-1.
    batch_size: images at a time.

  Returns:
    float32 `(N, K)` of the teacher that was trained without the image's fold, and
    `(N, K)` of the next one, which was trained with it.
  """
  logits_of = eval_step.logits_of(teachers.experiment)

  @jax.jit
  def program(variables, scales, images):
    def of_one(variables_and_scale):
      variables, scale = variables_and_scale
      return batched_map.over_batches(
        lambda batch: logits_of(variables, scale, batch),
        (images,),
        batch_size=batch_size,
      )

    return lax.map(of_one, (variables, scales))

  states = teachers.states
  every: Any = jax.device_get(
    program(states.evaluation_variables, states.input_scale, jnp.asarray(images))
  )
  rows, num_folds = np.arange(len(images)), len(every)
  return every[folds, rows], every[(folds + 1) % num_folds, rows]
