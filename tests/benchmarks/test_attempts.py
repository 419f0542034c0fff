"""A failure in a benchmark is one line, and the others continue."""

import numpy as np
import pytest

from benchmarks import accelerator_runs, attempts, cases, throughput

CASES = [cases.Case("tiny", "tiny", batch) for batch in (2, 4)]


def test_an_error_is_one_line_and_what_comes_after_goes_on(capsys):
  failures = []
  with attempts.in_one_line("a", failures):
    raise RuntimeError("\nno compiler\nof many lines")
  assert capsys.readouterr().out == "failed: a: RuntimeError: no compiler\n"
  with pytest.raises(SystemExit) as end:
    attempts.end(failures)
  assert end.value.code == 1
  attempts.end([])


def test_how_a_process_ended():
  assert attempts.describe_end(-9, "") == "the process ended with signal 9"
  said = attempts.describe_end(1, "Traceback\nValueError: x\n")
  assert said == "the process ended with exit code 1: ValueError: x"


class _Torch:
  """PyTorch's cases, of which one form fails."""

  TOLERANCE = 1e-4

  @staticmethod
  def inference(case, form, count):
    if form == "compile":
      raise RuntimeError("no compiler")
    return lambda: np.ones(1) if form == "eager" else np.full(1, 2.0)


def _programs(monkeypatch):
  """Ours: the case of four images fails."""

  def inference(case, count):
    if case.batch == 4:
      raise MemoryError("out of memory")
    return lambda: np.ones(1)

  monkeypatch.setattr(cases, "inference", inference)
  monkeypatch.setattr(cases, "multiply_adds", lambda case: 1)


def test_forms_and_cases_that_fail_are_lines_of_the_table(monkeypatch, capsys):
  _programs(monkeypatch)
  failures = []
  forms = ["compile", "channels_last", "eager"]
  throughput.compare("inference", CASES[::-1], _Torch, forms, 1, failures)
  out = capsys.readouterr().out
  first, second, third = failures
  assert first == "inference, 32x32x1 tiny, batch 4: MemoryError: out of memory"
  assert second.endswith("batch 2: torch compile: RuntimeError: no compiler")
  assert "torch channels_last: ValueError: JAX against PyTorch: logits" in third
  rows = [line for line in out.splitlines() if line.startswith("32x32x1")]
  assert [row.split(": ")[1].split("  ")[0] for row in rows] == ["JAX", "torch eager"]


def test_a_case_is_printed_before_the_next_begins(monkeypatch, capsys):
  _programs(monkeypatch)
  said = []
  ours = cases.inference

  def inference(case, count):
    said.append(capsys.readouterr().out)
    return ours(case, count)

  monkeypatch.setattr(cases, "inference", inference)
  throughput.compare("inference", CASES, None, [], 1, [])
  assert "32x32x1 tiny, batch 2: JAX" not in said[0]
  assert "32x32x1 tiny, batch 2: JAX" in said[1]


def test_a_start_that_fails_is_a_line(monkeypatch, capsys):
  def start_once(command, environment):
    if "--batch=2" in command:
      raise RuntimeError("no compiler")
    return 1.0, 100

  monkeypatch.setattr(throughput, "_start_once", start_once)
  failures = []
  throughput.start(CASES, None, [], failures)
  assert failures == ["start, 32x32x1 tiny, batch 2: jax: RuntimeError: no compiler"]
  assert "32x32x1 tiny, batch 4: jax" in capsys.readouterr().out


def test_whole_runs_go_on_after_one_that_fails(tmp_path, monkeypatch, capsys):
  def whole_run(run, data_dir, workdir, *, tiny):
    if workdir.name == "mnist":
      raise RuntimeError("no data")
    return f"{workdir.name} is done"

  monkeypatch.setattr(accelerator_runs, "whole_run", whole_run)
  failures = []
  runs = accelerator_runs.RUNS
  accelerator_runs.whole_runs(runs, "data", tmp_path, failures, tiny=True)
  assert failures == ["mnist: RuntimeError: no data"]
  assert capsys.readouterr().out.splitlines()[1:] == [
    "cifar10 is done",
    "fer2013 is done",
  ]


def test_a_finished_run_is_not_timed_again(tmp_path):
  (tmp_path / "report.json").write_text("{}")
  with pytest.raises(FileExistsError, match="has a finished run"):
    accelerator_runs.whole_run(accelerator_runs.DRY_RUN, "", tmp_path, tiny=True)
