"""The log in a workdir, and what of it the screen shows."""

import io
import logging
import os
import threading

import pytest
from absl import logging as absl_logging

from emosynth_jax.utils import log_file

# As XLA 0.10 and its predecessors write it.
_ALARM = """\
E0728 12:00:00.000001    4711 slow_operation_alarm.cc:73]
********************************
[Compiling module jit_train] Very slow compile? If you want to file a bug, run with \
envvar XLA_FLAGS=--xla_dump_to=/tmp/foo and attach the results.
********************************
E0728 12:01:00.000001    4712 slow_operation_alarm.cc:140] The operation took 3m0.5s
********************************
[Compiling module jit_train] Very slow compile? If you want to file a bug, run with \
envvar XLA_FLAGS=--xla_dump_to=/tmp/foo and attach the results.
********************************
"""


def _screen(monkeypatch):
  """A stand-in for the screen, apart from descriptor 2."""
  stream = io.StringIO()
  monkeypatch.setattr("sys.stderr", stream)
  monkeypatch.setattr(log_file, "_is_separate", True)
  return stream


def test_the_alarm_of_a_slow_compilation_is_in_the_file_alone(monkeypatch, tmp_path):
  screen = _screen(monkeypatch)
  with log_file.native_errors_to(tmp_path):
    os.write(2, b"W0728 before\n" + _ALARM.encode() + b"E0728 out of memory\n")
  assert screen.getvalue() == "W0728 before\nE0728 out of memory\n"
  written = (tmp_path / log_file.NAME).read_text()
  assert written == f"W0728 before\n{_ALARM}E0728 out of memory\n"


def test_an_error_within_ends_the_redirection(monkeypatch, tmp_path):
  screen = _screen(monkeypatch)

  def fail():
    with log_file.native_errors_to(tmp_path):
      os.write(2, b"the reason\n")
      raise RuntimeError

  with pytest.raises(RuntimeError):
    fail()
  assert screen.getvalue() == "the reason\n"
  os.write(2, b"elsewhere\n")
  assert "elsewhere" not in (tmp_path / log_file.NAME).read_text()


@pytest.fixture
def _info(caplog):
  caplog.set_level(logging.INFO, logger="absl")


@pytest.mark.usefixtures("_info")
def test_lines_for_the_file_alone_are_kept_and_earlier_ones_stay(tmp_path):
  (tmp_path / log_file.NAME).write_text("of the first start\n")
  with log_file.kept_in(tmp_path):
    absl_logging.get_absl_logger().info("step 3", extra={"file_only": True})
  absl_logging.info("after")
  first, line = (tmp_path / log_file.NAME).read_text().splitlines()
  assert first == "of the first start"
  assert line.endswith("INFO step 3")


@pytest.mark.usefixtures("_info")
def test_a_concurrent_run_keeps_its_own_lines(tmp_path):
  def run(name):
    (tmp_path / name).mkdir()
    with log_file.kept_in(tmp_path / name):
      started.wait()
      absl_logging.info("of %s", name)
      started.wait()

  started = threading.Barrier(2, timeout=60)
  threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for name in "ab":
    (line,) = (tmp_path / name / log_file.NAME).read_text().splitlines()
    assert line.endswith(f"of {name}")


@pytest.mark.usefixtures("_info")
def test_a_folder_that_takes_no_log_is_a_warning(tmp_path, caplog):
  (tmp_path / log_file.NAME).mkdir()
  with log_file.kept_in(tmp_path):
    absl_logging.info("a line")
  assert "No log is kept" in caplog.text
