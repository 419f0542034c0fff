"""Epoch boundaries: end of an epoch, start of the next, early stopping."""

import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from absl import logging

from emosynth_jax.config.settings import SELECTION_METRICS
from emosynth_jax.training import optimizers
from emosynth_jax.training.state import TrainState, zero_totals

Array = jax.Array
Schedule = Callable[[Array], Array]


class NonFiniteError(RuntimeError):
  """The loss or the gradient became infinite or not a number."""


def begin(state: TrainState, config: ml_collections.ConfigDict) -> TrainState:
  """The state before an epoch's first step: zero totals, the epoch's input scale."""
  return state.replace(
    totals=zero_totals(), input_scale=input_scale(config, int(state.epoch))
  )


def input_scale(config: ml_collections.ConfigDict, epoch: int) -> jax.Array:
  """The input scale of an epoch, counted from 0."""
  second = config.input.second_scale_epoch
  use_second = second and epoch + 1 >= second
  return jnp.float32(config.input.second_scale if use_second else config.input.scale)


def is_validated(number: int, config: ml_collections.ConfigDict) -> bool:
  """Returns whether an epoch, counted from 1, ends with a validation."""
  return number % config.evaluate_every == 0 or number == config.num_epochs


def is_finished(state: TrainState, config: ml_collections.ConfigDict) -> bool:
  """Returns whether all epochs are done or the patience is exhausted."""
  return is_last(int(state.epoch), int(state.best_epoch), config)


def is_last(epoch: int, best_epoch: int, config: ml_collections.ConfigDict) -> bool:
  """Returns whether training ends after `epoch` epochs, given the best one."""
  patience = config.early_stop_patience
  # Epochs of resized images come before those that they are for.
  began = max(best_epoch, config.progressive_resizing.epochs)
  stale = bool(patience) and epoch - began >= patience
  # The best epoch is known up to the last validation.
  is_known = epoch > 0 and is_validated(epoch, config)
  return epoch >= config.num_epochs or (stale and is_known)


def end(
  state: TrainState,
  summary: dict[str, Any] | None,
  config: ml_collections.ConfigDict,
  plateau: optax.GradientTransformationExtraArgs,
  schedule: Schedule | None = None,
) -> tuple[TrainState, dict[str, Any]]:
  """Updates the state at an epoch's end, with the validation's result if there is one.

  Args:
    state: after the epoch's last step.
    summary: of the validation split, see `classification.summarize`; None for an epoch
      without validation, whose record has none of its metrics.
    config: the run's config.
    plateau: the learning rate's decay.
    schedule: of the learning rate, see `optimizers.build_schedule`.

  Returns:
    The state at the beginning of the next epoch, and the epoch's record, whose
    "learning_rate" is that of the epoch's last step.
  """
  number = int(state.epoch) + 1
  totals = jax.device_get(state.totals)
  record = {
    "epoch": number,
    "train/loss": float(totals["loss"]) / int(totals["steps"]),
    "train/cross_entropy": float(totals["cross_entropy"]) / int(totals["steps"]),
    "train/accuracy": int(totals["correct"]) / int(totals["count"]),
    "train/gradient_norm": float(totals["gradient_norm"]) / int(totals["steps"]),
    "learning_rate": learning_rate(state, config, schedule, int(state.step) - 1),
  }

  # Not recorded for an epoch that was started by a version without this sum.
  if math.isnan(record["train/cross_entropy"]):
    del record["train/cross_entropy"]
  state = state.replace(epoch=jnp.int32(number))
  if summary is None:
    return state, record

  record |= {
    f"validation/{name}": metric.value(summary)
    for name, metric in SELECTION_METRICS.items()
  }
  record["validation/expected_calibration_error"] = summary[
    "expected_calibration_error"
  ]

  value = record[f"validation/{config.selection_metric}"]
  if not SELECTION_METRICS[config.selection_metric].higher_is_better:
    value = -value
  # Compared in the stored precision: otherwise an equal value could count as better.
  value = jnp.float32(value)
  state = state.replace(
    plateau=optimizers.update_plateau(plateau, state.plateau, summary["loss"])
  )
  if value > state.best_value:
    state = state.replace(best_value=value, best_epoch=jnp.int32(number))
  return state, record


def learning_rate(
  state: TrainState,
  config: ml_collections.ConfigDict,
  schedule: Schedule | None,
  step: int,
) -> float:
  """The rate of a step of the running epoch; steps are counted from 0."""
  scale = 1.0 if schedule is None else float(schedule(jnp.int32(step)))
  return config.optimizer.learning_rate * float(state.plateau.scale) * scale


def log(record: dict[str, Any], *, is_best: bool) -> None:
  """Logs the end of an epoch."""
  measured = [
    f"{split} loss {record[f'{split}/loss']:.4f} accuracy "
    f"{100 * record[f'{split}/accuracy']:.2f} %"
    for split in ("train", "validation")
    if f"{split}/loss" in record
  ]
  logging.info(
    "epoch %d: %s | learning rate %.1e%s",
    record["epoch"],
    " | ".join(measured),
    record["learning_rate"],
    " | best so far" if is_best else "",
  )


def warn_if_constant(summary: dict[str, Any], epoch: int) -> None:
  """Logs a warning if all validation images got the same class, from epoch 3 on.

  Before, averaged weights and the warm-up can be the reason.

  Args:
    summary: of the validation split, see `classification.summarize`.
    epoch: its number, from 1.
  """
  confusion = np.asarray(summary["confusion_matrix"])
  predicted = confusion.any(axis=0)
  if epoch < 3 or predicted.sum() != 1 or confusion.any(axis=1).sum() < 2:
    return

  logging.warning(
    "epoch %d: every validation image is predicted to be %r. A network that stays so "
    "does not learn: too high a learning rate can silence all units of a layer for "
    "good. Try a lower config.optimizer.learning_rate, more "
    "config.schedule.warmup_epochs or a config.optimizer.gradient_clip, in a new "
    "workdir.",
    epoch,
    summary["class_names"][int(predicted.argmax())],
  )


def raise_if_not_finite(
  state: TrainState,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  validation_loss: float = 0.0,
  *,
  schedule: Schedule | None = None,
) -> None:
  """Raises an error if a step since the last check or the validation was not finite.

  Args:
    state: after an epoch, or a part of one.
    config: the run's.
    workdir: its folder, for the message.
    validation_loss: the validation's, if there was one.
    schedule: the learning rate by step, if the recipe has one.

  Raises:
    NonFiniteError: names the step, what was not finite there, and the learning rate.
  """
  totals = jax.device_get(state.totals)
  step = int(state.step) - 1
  if totals["bad_step"] >= 0:
    step = int(totals["bad_step"])
    what = (
      f"step {step}: loss {totals['bad_loss']}, gradient norm "
      f"{totals['bad_gradient_norm']}"
    )
  elif not math.isfinite(validation_loss):
    what = f"step {state.step}: validation loss {validation_loss}"
  else:
    return

  rate = learning_rate(state, config, schedule, step)
  raise NonFiniteError(
    f"{what} at learning rate {rate:.3g}. Earlier checkpoints are kept in "
    f"{workdir / 'checkpoints'}. Try a lower config.optimizer.learning_rate"
    f"{', a smaller config.sam.radius' if config.sam.radius else ''} or a "
    "config.optimizer.gradient_clip, in a new workdir."
  )
