"""The bar on a terminal, the lines elsewhere, and what their numbers contain."""

import io
import logging
import re
import time

import pytest

from emosynth_jax.utils import progress


class _Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  """Seconds that pass only if a test says so."""
  now = [0.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

  def wait(seconds):
    now[0] += seconds

  return wait


@pytest.fixture
def lines(caplog):
  caplog.set_level(logging.INFO, logger="absl")
  return lambda: [record.getMessage() for record in caplog.records]


def _compile_then_run(clock):
  """A compilation of 100 s, then 2 of 20 units a second."""
  bar = progress.Progress(first=0, total=20, interval=1.0)
  clock(100)
  for done in (2, 4, 6):
    bar.update(done, f"step {done}", images_per_unit=32)
    clock(1)
  return bar


def test_rate_and_eta_do_not_contain_the_compilation(clock, lines):
  _compile_then_run(clock)
  assert lines() == [
    "compiling; 0 of 20 done",
    "step 2",
    "step 4 | 64 images/s | ETA 0:00:08",
    "step 6 | 64 images/s | ETA 0:00:07",
  ]


def test_the_rate_is_that_of_the_last_steps(clock, lines):
  bar = progress.Progress(first=0, total=1000, interval=1.0)
  for done in range(0, 100):
    bar.update(done, "step", images_per_unit=1)
    clock(10 if done < 50 else 1)
  assert lines()[-1] == "step | 1 images/s | ETA 0:15:01"


def test_a_restart_excludes_what_was_compiled_in_between(clock, lines):
  bar = _compile_then_run(clock)
  clock(1000)
  bar.restart()
  clock(1)
  bar.update(8, "step 8", images_per_unit=32)
  assert lines()[-1] == "step 8 | 64 images/s | ETA 0:00:06"


def test_a_call_that_compiles_has_no_rate(clock, lines):
  bar = _compile_then_run(clock)
  bar.restart(next_compiles=True)
  clock(1000)
  bar.update(8, "step 8", images_per_unit=32)
  assert lines()[-1] == "step 8"
  clock(20)
  bar.update(9, "step 9", images_per_unit=32)
  assert lines()[-1].startswith("step 9 | 2 images/s | ETA")


def test_a_terminal_has_a_bar_and_the_lines_are_for_the_log(clock, caplog, monkeypatch):
  screen = _Terminal()
  monkeypatch.setattr("sys.stderr", screen)
  monkeypatch.setenv("COLUMNS", "100")
  caplog.set_level(logging.INFO, logger="absl")
  bar = _compile_then_run(clock)
  drawn = re.split("[\r\n]", screen.getvalue())
  assert any(line.startswith("compiling") for line in drawn)
  assert "step 6 |######  " in drawn[-1]
  assert drawn[-1].rstrip().endswith("30 %, 64 images/s | ETA 0:00:07")
  assert all(len(line) <= 100 for line in drawn)
  assert [record.file_only for record in caplog.records] == [True] * 3
  bar.close()
  # Nothing is left of it.
  assert re.split("[\r\n]", screen.getvalue())[-2].strip() == ""


def test_a_second_compilations_time_is_shown_from_its_own_start(clock, monkeypatch):
  screen = _Terminal()
  monkeypatch.setattr("sys.stderr", screen)
  bar = _compile_then_run(clock)
  bar.restart(next_compiles=True)
  clock(7)
  # The thread that draws does so each second, of its own time.
  for _ in range(200):
    if "0:00:07" in screen.getvalue():
      break
    time.sleep(0.05)
  bar.close()
  assert "0:00:07" in screen.getvalue()


def test_a_dumb_terminal_gets_lines(clock, lines, monkeypatch):
  monkeypatch.setattr("sys.stderr", _Terminal())
  monkeypatch.setenv("TERM", "dumb")
  _compile_then_run(clock)
  assert lines()[0] == "compiling; 0 of 20 done"
