"""A training of an experiment ends with the exit code of the signal that stopped it."""

import os
import signal

import pytest

from emosynth_jax import train_loop
from experiments.lib.trainer import train_to_end


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_signal_ends_the_command_with_its_code(monkeypatch, is_whole):
  def train(config, workdir, *, load, stop):
    # Also where the training was over before the signal was seen.
    os.kill(os.getpid(), signal.SIGTERM)
    return is_whole

  monkeypatch.setattr(train_loop, "train", train)
  with pytest.raises(SystemExit) as ended:
    train_to_end(None, "runs/a", load=None)
  assert ended.value.code == 143


def test_a_training_that_is_whole_returns(monkeypatch):
  monkeypatch.setattr(train_loop, "train", lambda *_, **__: True)
  train_to_end(None, "runs/a", load=None)
