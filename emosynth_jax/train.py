"""The training loop: everything between the compiled programs and the disk."""

import math
import os
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from absl import logging

from emosynth_jax import experiment as experiments
from emosynth_jax import fine_tune, optimizers, run_config
from emosynth_jax.checkpoints import Checkpoints
from emosynth_jax.evaluate import build_evaluate
from emosynth_jax.metric_writer import MetricWriter
from emosynth_jax.progress import Progress
from emosynth_jax.stop_signal import StopSignal
from emosynth_jax.train_state import TrainState, zero_totals
from emosynth_jax.train_step import compile_train_steps


class NonFiniteError(RuntimeError):
  """The loss or the gradient became infinite or not a number."""


def train(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  *,
  began: float | None = None,
) -> bool:
  """Trains, or goes on from the last checkpoint in `workdir`.

  Args:
    config: a checked config.
    workdir: where checkpoints and metrics go.
    began: `time.monotonic()` at the start of the process, for the log.

  Returns:
    Whether the training is at its end; False after SIGTERM or Ctrl-C, when a
    checkpoint of the moment is in `workdir`.

  Raises:
    NonFiniteError: at the first non-finite loss or gradient, or validation loss; the
      checkpoints hold the last good state of before.
    ValueError: for a config or data that do not fit those `workdir` was begun with, or
      if another process trains in it.
  """
  began = time.monotonic() if began is None else began
  with run_config.only_training_in(workdir):
    return _train(config, pathlib.Path(workdir), began)


def _train(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, began: float
) -> bool:
  run_config.check_same_config(config, workdir)
  # The test split too: what is wrong with it is better said now than after training.
  datasets = experiments.load_data(config, experiments.splits(config))
  run_config.check_same_data(datasets, workdir)
  training, validation = datasets["train"], datasets["validation"]
  if config.batch_size > len(training):
    raise ValueError(
      f"config.batch_size: expected at most the {len(training)} training images, got "
      f"{config.batch_size}"
    )
  experiment = experiments.build_experiment(
    config,
    image_shape=training.images.shape[1:],
    num_classes=len(training.class_names),
  )
  weights = jnp.asarray(experiments.class_weights(config.class_weights, training))
  run_steps = compile_train_steps(
    model=experiment.model,
    loss=experiment.loss,
    evaluation_logits=experiment.evaluation_logits,
    class_counts=jnp.asarray(training.class_counts, jnp.int32),
    optimizer=experiment.optimizer,
    augment=experiment.augment,
    mixup=experiment.mixup,
    batch_size=config.batch_size,
  )
  evaluate = build_evaluate(
    experiment,
    class_names=training.class_names,
    batch_size=config.eval_batch_size,
  )
  train_arrays = experiments.on_device(training)
  validation_arrays = experiments.on_device(validation)
  steps_per_epoch = len(training) // config.batch_size
  chunk = chunk_length(steps_per_epoch, config.steps_per_call)

  writer = open_writer(workdir, tensorboard=config.tensorboard)
  checkpoints = Checkpoints(workdir, keep=config.checkpoint.keep)
  try:
    state = checkpoints.restore("last", experiments.state_shapes(experiment))
    if state is None:
      state = experiments.create_state(experiment, config.seed)
      if config.init_from:
        state = fine_tune.init_from(
          config.init_from,
          state,
          class_names=training.class_names,
          model=config.model.to_dict(),
        )
    else:
      logging.info("Resuming from step %d in %s.", state.step, workdir)
    checkpoints.rewind(int(state.step))
    writer.rewind(int(state.step))
    progress = Progress(
      first=int(state.step), total=config.num_epochs * steps_per_epoch
    )
    saved = time.monotonic()
    first_call = True
    epoch_began = time.monotonic()

    with StopSignal() as stop:
      while not is_finished(state, config):
        done = int(state.step) - int(state.epoch) * steps_per_epoch
        if done < steps_per_epoch:
          if done == 0:
            epoch_began = time.monotonic()
            state = state.replace(
              totals=zero_totals(), input_scale=input_scale(config, int(state.epoch))
            )
          count = min(chunk, steps_per_epoch - done)
          state = run_steps(state, *train_arrays, weights, num_steps=count)
          raise_if_not_finite(state, config, workdir)
          done += count
          if first_call:
            first_call = False
            # Not before: settings that fail at once have begun nothing.
            run_config.keep_config(config, workdir)
            run_config.keep_fingerprint(datasets, workdir)
            run_config.keep_provenance(workdir, step=int(state.step) - count)
            logging.info(
              "First %d training steps done %.1f s after the start.",
              count,
              time.monotonic() - began,
            )
          progress.update(
            int(state.step),
            f"epoch {int(state.epoch) + 1}/{config.num_epochs} "
            f"step {done}/{steps_per_epoch} loss "
            f"{float(state.totals['loss']) / int(state.totals['steps']):.4f}",
            images_per_unit=config.batch_size,
          )
        if done == steps_per_epoch:
          summary = evaluate(state, *validation_arrays)
          raise_if_not_finite(state, config, workdir, summary["loss"])
          state, record = end_epoch(state, summary, config, experiment.plateau)
          if int(state.best_epoch) == int(state.epoch):
            checkpoints.save("best", state)
          writer.write(int(state.step), record)
          writer.write_timing(
            int(state.step), {"seconds": time.monotonic() - epoch_began}
          )
          checkpoints.save("last", state)
          saved = time.monotonic()
          log_epoch(record, is_best=int(state.best_epoch) == int(state.epoch))
        elif stop.name or time.monotonic() - saved > 60 * config.checkpoint.minutes:
          checkpoints.save("last", state)
          saved = time.monotonic()
        if stop.name:
          checkpoints.wait()
          logging.info(
            "Stopped by %s at step %d; the same command goes on from there.",
            stop.name,
            state.step,
          )
          return False
  finally:
    checkpoints.close()
    writer.close()
  return True


def open_writer(workdir: pathlib.Path, *, tensorboard: bool) -> MetricWriter:
  """The run's records; TensorBoard's events are done without where they can't be."""
  try:
    return MetricWriter(workdir, tensorboard=tensorboard)
  except ModuleNotFoundError as error:
    logging.warning("%s. The run goes on without them.", error)
    return MetricWriter(workdir)


def chunk_length(steps_per_epoch: int, steps_per_call: int) -> int:
  """How many steps run as one program.

  Args:
    steps_per_epoch: steps in an epoch.
    steps_per_call: the wanted number; 0 for a whole epoch on accelerators and 10 on
      a CPU.

  Returns:
    The largest divisor of the epoch up to that number, so that a single program
    serves, unless all but much smaller ones are ruled out.
  """
  if not steps_per_call:
    steps_per_call = 10 if jax.default_backend() == "cpu" else steps_per_epoch
  wanted = min(steps_per_call, steps_per_epoch)
  for length in range(wanted, wanted // 2, -1):
    if steps_per_epoch % length == 0:
      return length
  return wanted


def input_scale(config: ml_collections.ConfigDict, epoch: int) -> jax.Array:
  """The input scale of an epoch, counted from 0."""
  second = config.input.second_scale_epoch
  use_second = second and epoch + 1 >= second
  return jnp.float32(config.input.second_scale if use_second else config.input.scale)


def is_finished(state: TrainState, config: ml_collections.ConfigDict) -> bool:
  """Whether the epochs are done or the patience is at its end."""
  epoch, patience = int(state.epoch), config.early_stop_patience
  stale = bool(patience) and epoch - int(state.best_epoch) >= patience
  return epoch >= config.num_epochs or (epoch > 0 and stale)


def end_epoch(
  state: TrainState,
  summary: dict[str, Any],
  config: ml_collections.ConfigDict,
  plateau: Any,
) -> tuple[TrainState, dict[str, Any]]:
  """Takes the validation's result into the state.

  Args:
    state: after the epoch's last step.
    summary: of the validation split, see `metrics.summarize`.
    config: the run's config.
    plateau: the learning rate's decay.

  Returns:
    The state at the beginning of the next epoch, and the epoch's record.
  """
  epoch = int(state.epoch) + 1
  totals = jax.device_get(state.totals)
  record = {
    "epoch": epoch,
    "train/loss": float(totals["loss"]) / int(totals["steps"]),
    "train/accuracy": int(totals["correct"]) / int(totals["count"]),
    "train/gradient_norm": float(totals["gradient_norm"]) / int(totals["steps"]),
    "learning_rate": config.optimizer.learning_rate * float(state.plateau.scale),
  }
  validation = {
    "loss": summary["loss"],
    "accuracy": summary["accuracy"],
    "balanced_accuracy": summary["balanced_accuracy"],
    "f1_macro": summary["macro"]["f1"],
    "expected_calibration_error": summary["expected_calibration_error"],
  }
  record |= {f"validation/{name}": number for name, number in validation.items()}
  value = validation[config.selection_metric]
  if config.selection_metric == "loss":
    value = -value
  # Compared as it is stored, or an equal value could count as a better one.
  value = jnp.float32(value)
  state = state.replace(
    epoch=jnp.int32(epoch),
    plateau=optimizers.update_plateau(plateau, state.plateau, summary["loss"]),
  )
  if value > state.best_value:
    state = state.replace(best_value=value, best_epoch=jnp.int32(epoch))
  return state, record


def log_epoch(record: dict[str, Any], *, is_best: bool) -> None:
  """Says how an epoch ended."""
  logging.info(
    "epoch %d: train loss %.4f accuracy %.2f %% | validation loss %.4f accuracy "
    "%.2f %% | learning rate %.1e%s",
    record["epoch"],
    record["train/loss"],
    100 * record["train/accuracy"],
    record["validation/loss"],
    100 * record["validation/accuracy"],
    record["learning_rate"],
    " | best so far" if is_best else "",
  )


def raise_if_not_finite(
  state: TrainState,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  validation_loss: float = 0.0,
) -> None:
  """Stops the run if a step since the last look, or the validation, was not finite."""
  totals = jax.device_get(state.totals)
  if totals["bad_step"] >= 0:
    what = (
      f"step {totals['bad_step']}: loss {totals['bad_loss']}, gradient norm "
      f"{totals['bad_gradient_norm']}"
    )
  elif not math.isfinite(validation_loss):
    what = f"step {state.step}: validation loss {validation_loss}"
  else:
    return
  learning_rate = config.optimizer.learning_rate * float(state.plateau.scale)
  raise NonFiniteError(
    f"{what} at learning rate {learning_rate:.3g}. What was saved before is kept under "
    f"{workdir / 'checkpoints'}. Try a lower config.optimizer.learning_rate or a "
    "config.optimizer.gradient_clip, in a new workdir."
  )
