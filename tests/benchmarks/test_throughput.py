"""The benchmark commands: what they say, refuse and compute; nothing is timed."""

import types

import commands
import numpy as np
import pytest
from absl import flags

from benchmarks import accelerator, accelerator_runs, cases, measure, throughput
from emosynth_jax.workdir.metric_writer import MetricWriter


def _run(module, *arguments):
  return commands.run("-m", f"benchmarks.{module}", *arguments)


def test_no_import_defines_a_flag():
  assert not {"quick", "dry_run", "framework"} & set(flags.FLAGS)


@pytest.mark.slow
def test_help_names_the_flags():
  assert "--[no]quick" in _run("throughput", "--help").stdout


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"data": ["svhn"]}, "--data: expected some of cifar10, fer2013, tiny; got 'svhn'"),
    ({"widths": ["half"]}, "--width: expected some of full, small, tiny; got 'half'"),
    ({"batches": ["0"]}, "--batch: expected numbers from 1, got '0'"),
    ({"batches": ["many"]}, "--batch: expected numbers from 1, got 'many'"),
  ],
)
def test_unknown_cases_are_refused(changes, message):
  arguments = {"data": ["cifar10"], "widths": ["full"], "batches": ["64"]} | changes
  with pytest.raises(ValueError, match=message):
    throughput.selected(False, **arguments)


def test_training_alone_has_a_precision():
  given = types.SimpleNamespace(precision="bfloat16", parts=["training", "start"])
  with pytest.raises(ValueError, match=r"--precision=bfloat16: .* --parts=training"):
    throughput.print_tables(given)


@pytest.mark.parametrize("precision", throughput.PRECISIONS)
def test_both_frameworks_train_in_the_precision(monkeypatch, precision):
  asked = []

  def training(*_, mixed=False):
    asked.append(mixed)
    return lambda: None

  logits = lambda *_: lambda: np.ones((8, 7))  # noqa: E731
  theirs = types.SimpleNamespace(training=training, inference=logits, TOLERANCE=1e-4)
  monkeypatch.setattr(cases, "training", training)
  monkeypatch.setattr(cases, "inference", logits)
  case = cases.Case("fer2013", "small", 64)
  failures: list[str] = []
  arguments = "training", case, theirs, ["eager"], 1, failures
  found = throughput.candidates(*arguments, precision=precision)
  assert (list(found), failures) == (["JAX", "torch eager"], [])
  assert asked == [precision == "bfloat16"] * 2


def test_cases_are_those_of_the_configs():
  case = throughput.selected(True, [], [], [])[0]
  assert str(case) == "48x48x1 small, batch 64"
  assert case.config().model.width == 0.125
  assert case.images(2).shape == (2, 48, 48, 1)
  # docs/reference/models.md: 1.355 G multiply-adds at 32x32x3 and full width, ten
  # classes.
  full = cases.Case("cifar10", "full", 64)
  assert round(cases.multiply_adds(full) / 1e9, 3) == 1.355


def test_candidates_are_timed_in_turn():
  order = []
  programs = {name: lambda name=name: order.append(name) for name in "ab"}
  seconds = measure.alternate(programs, 3)
  assert order == list("ababab")
  assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_rows_have_the_ratio_of_each_round_and_the_share_of_the_rate():
  case = cases.Case("tiny", "tiny", 4)
  # Two calls of one batch: we take 1 s and 2 s, they take 3 s and 4 s.
  seconds = {"JAX": [1.0, 2.0], "torch eager": [3.0, 4.0]}
  rate = 2 * cases.multiply_adds(case) * 3 * 4 / 1.5
  ours, theirs = throughput.rows(case, seconds, 4, 3, rate)
  assert ours[1:5] == [f"{4 / 1.5:.1f}", "4.0", "1500.00", ""]
  assert ours[6] == "100 %"
  assert theirs[4] == "2.50"  # The median of 3 / 1 and 4 / 2.


def test_time_to_a_target_counts_the_epochs_until_then(tmp_path):
  epochs = [(0.9, 20.0), (0.95, 10.0), (0.99, 9.0)]
  with MetricWriter(tmp_path) as writer:
    for step, (accuracy, seconds) in enumerate(epochs):
      writer.write(step, {"validation/accuracy": accuracy}, {"seconds": seconds})
  found = accelerator_runs.describe(tmp_path, 0.94)
  assert found.startswith("94 % on validation after 30.0 s, 39.0 s of epochs")
  assert "99.5 % not reached" in accelerator_runs.describe(tmp_path, 0.995)


def test_peaks_are_found_by_the_kind_of_device():
  assert accelerator.peak("NVIDIA H100 80GB HBM3") == 989e12
  assert accelerator.peak("NVIDIA L40S") == 362e12
  assert accelerator.peak("NVIDIA L40") == 181e12
  assert accelerator.peak("cpu") is None


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([], "JAX sees no accelerator"),
    pytest.param(
      ["--parts=runs"],
      "--parts: expected some of throughput, mnist, cifar10, fer2013",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      ["--data=mnist"],
      "--data: expected some of cifar10, fer2013; got 'mnist'",
      marks=pytest.mark.slow,
    ),
  ],
)
def test_accelerator_says_a_mistake_in_one_line(flags, message):
  done = _run("accelerator", *flags)
  assert done.returncode == 1
  assert f"error: {message}" in done.stderr
  assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_dry_run_of_the_whole_epoch_without_transfers():
  failures = []
  row = accelerator.throughput(cases.Case("tiny", "tiny", 4), 2, 1, failures)
  assert failures == []
  assert row[0] == "32x32x1 tiny, batch 4"
  assert float(row[1]) > 0
  assert row[3:5] == ["unknown", "not run"]


def test_both_programs_answer_with_numbers():
  logits = cases.inference(cases.Case("tiny", "tiny", 2), 1)()
  assert logits.shape == (2, 3)
  assert np.isfinite(logits).all()
