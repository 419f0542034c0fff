"""Trains the networks of the commands in this folder, one after the other."""

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
  if not is_whole:
    raise SystemExit(EXIT_CODE + stop.number)
