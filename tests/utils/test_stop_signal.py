"""SIGTERM and Ctrl-C: announced at once, a second one ends the process."""

import os
import signal
import subprocess
import sys

import pytest

from emosynth_jax.utils.stop_signal import StopSignal

# The main thread hangs in C, as it does in a compilation: no Python handler runs.
_PROGRAM = """
import ctypes
from emosynth_jax.utils import stop_signal
with stop_signal.StopSignal(ends_process=True) as stop:
  if {at_once}:
    stop.at_once = lambda: print("cleaned up", flush=True)
  print("ready", flush=True)
  mutex = ctypes.create_string_buffer(128)
  for _ in range(2):
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
"""


@pytest.fixture(autouse=True)
def _interruptible():
  """Undoes what the tests inherit where a shell runs them in the background."""
  previous = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, previous)


def _start(at_once, command=(sys.executable, "-c")):
  process = subprocess.Popen(
    [*command, _PROGRAM.format(at_once=at_once)],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert process.stdout.readline() == "ready\n"
  return process


def test_the_first_signal_is_announced_within_a_call_and_the_second_ends_it():
  process = _start(at_once=False)
  process.send_signal(signal.SIGINT)
  lines = [process.stdout.readline() for _ in range(2)]
  assert lines == ["\n", "Ctrl-C: stopping after this step; Ctrl-C again stops now\n"]
  process.send_signal(signal.SIGINT)
  assert process.communicate(timeout=60)[0] == "\nstopped by Ctrl-C\n"
  assert process.returncode == -signal.SIGINT


def test_before_there_is_anything_to_save_one_signal_is_enough():
  process = _start(at_once=True)
  process.send_signal(signal.SIGTERM)
  assert process.communicate(timeout=60)[0] == "\nstopped by SIGTERM\ncleaned up\n"
  assert process.returncode == -signal.SIGTERM


def test_a_shell_reports_130_and_ends_its_loop():
  # A shell continues its loop after an exit code alone, also 130.
  script = f"{sys.executable} -c '{_PROGRAM.format(at_once=True)}'; echo code $? >&2"
  loop = f"for i in 1 2; do {script}; done; echo second"
  process = subprocess.Popen(
    ["bash", "-c", loop],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
    start_new_session=True,
  )
  assert process.stdout.readline() == "ready\n"
  os.killpg(process.pid, signal.SIGINT)
  output = process.communicate(timeout=60)[0]
  assert "ready" not in output
  assert "second" not in output


def test_a_caller_s_process_survives_and_gets_its_handlers_back():
  before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
  with StopSignal() as stop:
    assert stop.number == 0
    signal.raise_signal(signal.SIGTERM)
    assert stop.number == signal.SIGTERM
  assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


def test_the_first_signal_is_the_one_that_is_reported():
  with StopSignal() as stop:
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
  assert stop.number == signal.SIGTERM


def test_a_caller_s_second_interrupt_has_its_usual_effect():
  with StopSignal() as stop:
    signal.raise_signal(signal.SIGINT)
    assert stop.number == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
