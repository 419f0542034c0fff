"""Trains one network of an experiment to its end."""

import os
from typing import Any

import ml_collections

from emosynth_jax import train_loop
from emosynth_jax.utils.stop_signal import EXIT_CODE, StopSignal


def train_to_end(
  config: ml_collections.ConfigDict, workdir: str | os.PathLike[str], *, load: Any
) -> None:
  """Trains a network to its end; resumes what an earlier command began.

  Args:
    config: of the training.
    workdir: its folder.
    load: of `run_data.shared_loader`.

  Raises:
    SystemExit: after SIGTERM or Ctrl-C, with the exit code of the signal; the training
      is saved.
  """
  with StopSignal() as stop:
    is_whole = train_loop.train(config, workdir, load=load, stop=stop)
  # A signal may have come after the training's own last look.
  if not is_whole or stop.number:
    raise SystemExit(EXIT_CODE + stop.number)
