"""The command line in real processes: trained, killed, stopped, started again.

The runs share a compilation cache, so that only the first one compiles.
"""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from compilation import xla_flags

from emosynth_jax.workdir.metric_writer import read_records

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# Three epochs of eight steps, two a call, each call saved; all that draws is on. A
# network that is ready soon after each of a dozen starts.
_CONFIG = f"--config={_ROOT}/configs/synthetic_faces.py:small"
_SETTINGS = (
  f"--config.model.name={_ROOT}/tests/own_network.py:OwnNetwork",
  "--config.model.features=8",
  "--config.data.options.num_examples=64",
  "--config.class_weights=balanced",
  "--config.mixup_alpha=0.2",
  # A rate that no number of epochs changes, and no averages: the best epoch is not the
  # last one.
  "--config.optimizer.name=adam",
  "--config.optimizer.learning_rate=4e-4",
  "--config.optimizer.weight_decay=0.0",
  "--config.optimizer.base_fan_in=0",
  "--config.schedule.name=constant",
  "--config.schedule.warmup_epochs=0.0",
  "--config.plateau.patience=2",
  "--config.plateau.factor=0.3",
  "--config.ema_decay=0.0",
  "--config.augment.zoom=0.0",
  "--config.augment.shift=0.0",
  "--config.augment.rotation=0.0",
  "--config.input.second_scale_epoch=2",
  "--config.batch_size=8",
  "--config.eval_batch_size=40",
  "--config.num_epochs=3",
  "--config.steps_per_call=2",
  "--config.checkpoint.minutes=0",
)
_LAST_STEP = 24
_TIMEOUT = 300


class _Program:
  """Starts the program, always with the same cache and a TensorFlow that tells."""

  def __init__(self, folder):
    self.folder = folder
    self.tensorflow_was_imported = folder / "tensorflow_was_imported"
    package = folder / "packages" / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
      f"open({os.fspath(self.tensorflow_was_imported)!r}, 'w').close()\n"
    )
    self.environment = os.environ | {
      "JAX_COMPILATION_CACHE_DIR": os.fspath(folder / "cache"),
      # Says whose code may run; the user's stays as it is.
      "XDG_STATE_HOME": os.fspath(folder / "state"),
      # On a GPU sums may be taken in another order each time.
      "JAX_PLATFORMS": "cpu",
      # Compiled as users have it, unlike the tests' own programs: same bits are
      # promised of these.
      "XLA_FLAGS": xla_flags(haste=False),
      "PYTHONPATH": os.pathsep.join((os.fspath(package.parent), os.fspath(_ROOT))),
    }
    self.processes = []

  def start(self, *flags, log):
    with log.open("wb") as file:
      process = subprocess.Popen(
        [sys.executable, "-m", "emosynth_jax.main", *flags],
        cwd=self.folder,
        env=self.environment,
        stdout=file,
        stderr=subprocess.STDOUT,
      )
    self.processes.append(process)
    return process

  def run(self, *flags):
    """Runs to the end: `(exit code, all that was printed)`."""
    log = self.folder / f"{len(self.processes)}.log"
    code = self.start(*flags, log=log).wait(_TIMEOUT)
    return code, log.read_text()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
  program = _Program(tmp_path_factory.mktemp("main"))
  yield program
  for process in program.processes:
    if process.poll() is None:
      process.kill()
      process.wait()


@pytest.fixture(scope="module")
def whole(program):
  """The workdir of a run that nothing interrupted."""
  workdir = program.folder / "whole"
  code, text = program.run(_CONFIG, *_SETTINGS, f"--workdir={workdir}")
  assert code == 0, text
  return workdir


def _assert_one_error(code, text, *parts):
  """One line that says what is wrong, and no traceback."""
  assert code == 1, text
  assert "Traceback" not in text
  (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
  assert text.rstrip().endswith(line)
  for part in parts:
    assert part in line


# Interruptions.


def _interrupt(process, number, moment):
  """Sends a signal at the moment; whether it came before the process ended."""
  while process.poll() is None:
    if moment():
      # Held, so that the moment cannot pass between the look and the signal.
      process.send_signal(signal.SIGSTOP)
      os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
      if moment():
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        process.wait(_TIMEOUT)
        return True
      process.send_signal(signal.SIGCONT)
    time.sleep(0.0005)
  return False


def _moments(workdir, log):
  """The moments to interrupt at, in an order in which each one comes."""
  rng = random.Random(0)
  checkpoints = workdir / "checkpoints"

  def after(seconds):
    due = time.monotonic() + seconds
    return lambda: time.monotonic() >= due

  def is_saving(kind):
    return lambda: any((checkpoints / kind).glob("*tmp*"))

  def has_trained():
    return b"training steps done" in log.read_bytes()

  def is_between_record_and_checkpoint():
    path = workdir / "metrics.jsonl"
    records = read_records(path) if path.exists() else []
    return records and not (checkpoints / "last" / str(records[-1]["step"])).exists()

  def is_evaluating():
    return (checkpoints / "last" / str(_LAST_STEP)).exists()

  is_full = os.environ.get("EMOSYNTH_TEST_FULL")
  yield "start-up", signal.SIGKILL, after(rng.uniform(0.2, 1.5))
  if is_full:
    # Otherwise that of the best, which is a save of the other kind.
    yield "first save", signal.SIGKILL, is_saving("last")
  yield "stop in an epoch", signal.SIGTERM, has_trained
  yield "save of the best", signal.SIGKILL, is_saving("best")
  if is_full:
    # Otherwise test_train_loop.py's, within its process.
    yield "save before the record", signal.SIGKILL, is_between_record_and_checkpoint
    trained, pause = [], rng.uniform(0.05, 0.4)

    def some_time_after_training():
      if has_trained() and not trained:
        trained.append(time.monotonic())
      return bool(trained) and time.monotonic() >= trained[0] + pause

    yield "some step", signal.SIGKILL, some_time_after_training
    yield "start-up again", signal.SIGKILL, after(rng.uniform(0.2, 1.5))
    yield "later save", signal.SIGKILL, is_saving("last")
  yield "evaluation", signal.SIGKILL, is_evaluating


@pytest.fixture(scope="module")
def interrupted(program, whole):
  """A workdir whose run was interrupted at every moment, and what was printed then."""
  workdir, log = program.folder / "interrupted", program.folder / "interrupted.log"
  command = (_CONFIG, *_SETTINGS, f"--workdir={workdir}")
  printed = {}
  for name, number, moment in _moments(workdir, log):
    process = program.start(*command, log=log)
    assert _interrupt(process, number, moment), f"{name}: {log.read_text()}"
    # A shell reports 137 and 143, and ends a loop.
    assert process.returncode == -number, name
    printed[name] = log.read_text()
  code, printed["end"] = program.run(*command)
  assert code == 0, printed["end"]
  return workdir, printed


def _arrays(workdir, kind):
  """The newest checkpoint's arrays, read without the project's own code."""
  steps = (workdir / "checkpoints" / kind).glob("[0-9]*")
  newest = max(steps, key=lambda path: int(path.name))
  checkpointer = ocp.PyTreeCheckpointer()
  as_numpy = jax.tree.map(
    lambda _: ocp.RestoreArgs(restore_type=np.ndarray),
    checkpointer.metadata(newest / "state").item_metadata.tree,
  )
  arrays = checkpointer.restore(newest / "state", restore_args=as_numpy)
  return int(newest.name), arrays


def _leaves(tree, path=""):
  if isinstance(tree, dict):
    return {
      k: v for key in tree for k, v in _leaves(tree[key], f"{path}/{key}").items()
    }
  if isinstance(tree, list | tuple):
    return _leaves(dict(enumerate(tree)), path)
  return {path: np.asarray(tree)}


@pytest.mark.parametrize("kind", ["last", "best"])
def test_an_interrupted_run_ends_with_the_same_bits(whole, interrupted, kind):
  step, arrays = _arrays(whole, kind)
  other_step, other_arrays = _arrays(interrupted[0], kind)
  assert step == other_step == {"last": _LAST_STEP, "best": 16}[kind]
  leaves, other_leaves = _leaves(arrays), _leaves(other_arrays)
  # Three of each parameter (Adam has two moments), statistics, and what a run counts.
  assert len(leaves) > 40
  assert leaves.keys() == other_leaves.keys()
  for name, leaf in leaves.items():
    np.testing.assert_array_equal(leaf, other_leaves[name], err_msg=name, strict=True)


def test_an_interrupted_run_ends_with_the_same_record(whole, interrupted):
  records = (whole / "metrics.jsonl").read_bytes()
  assert [json.loads(line)["step"] for line in records.splitlines()] == [8, 16, 24]
  assert (interrupted[0] / "metrics.jsonl").read_bytes() == records
  report, other = (
    json.loads((folder / "report.json").read_text())
    for folder in (whole, interrupted[0])
  )
  assert report["splits"] == other["splits"]
  assert report["best_epoch"] == other["best_epoch"] == 2
  assert report["splits"]["test"]["num_examples"] == 64


def test_no_interruption_leaves_a_trace_in_the_workdir(interrupted):
  names = [path.name for path in interrupted[0].rglob("*")]
  assert not [name for name in names if "tmp" in name]
  assert "damaged" not in names


def test_sigterm_saves_the_step_and_says_so(interrupted):
  _, printed = interrupted
  assert "Traceback" not in printed["stop in an epoch"]
  (step,) = re.findall(
    r"Interrupted by SIGTERM at step (\d+); rerun to resume",
    printed["stop in an epoch"],
  )
  assert f"Resuming from step {step} in " in printed["save of the best"]
  assert "report.txt" not in printed["stop in an epoch"]


# Evaluation.


def test_evaluating_again_writes_the_same_report(program, whole):
  workdir = program.folder / "again"  # Other tests read the first report.
  shutil.copytree(whole, workdir)
  before = json.loads((workdir / "report.json").read_text())
  (workdir / "report.json").unlink()
  checkpoints = sorted((workdir / "checkpoints").rglob("*"))
  # Without --config: the run's own, which can be overridden.
  code, text = program.run(
    "--mode=eval", f"--workdir={workdir}", "--config.num_epochs=9"
  )
  assert code == 0, text
  after = json.loads((workdir / "report.json").read_text())
  # The moment and the command are others, and the number of epochs was changed.
  for part in ("config", "evaluated_by"):
    assert before.pop(part) != after.pop(part)
  assert after == before
  assert sorted((workdir / "checkpoints").rglob("*")) == checkpoints
  for name in ("report.txt", "curves.png", "confusion_matrix.png", "reliability.png"):
    assert (workdir / name).stat().st_size > 0
  assert "accuracy" in text
  assert f"HTML report: emosynth report --workdir={workdir}\n" in text


def test_evaluating_before_training_is_one_error(program):
  workdir = program.folder / "never"
  code, text = program.run(_CONFIG, *_SETTINGS, "--mode=eval", f"--workdir={workdir}")
  _assert_one_error(code, text, "never has no best checkpoint", "--mode=train")
  assert not workdir.exists()


def test_nothing_imports_tensorflow(program, whole):
  assert not program.tensorflow_was_imported.exists()
  # The trap itself works.
  subprocess.run(
    [sys.executable, "-c", "import tensorflow"], env=program.environment, check=True
  )
  assert program.tensorflow_was_imported.exists()
  program.tensorflow_was_imported.unlink()


# Several seeds.


def test_a_finished_seed_is_read_and_summed_up(program, whole):
  folder = program.folder / "several"
  shutil.copytree(whole, folder / "seed0")
  before = (folder / "seed0/report.json").read_bytes()
  command = (_CONFIG, *_SETTINGS, f"--workdir={folder}", "--seeds=0")
  code, text = program.run(*command)
  assert code == 0, text
  assert "is already finished" in text
  assert "One seed: no standard deviation" in text
  # Once for all seeds.
  assert text.count("HTML report: ") == 1
  assert (folder / "seed0/report.json").read_bytes() == before
  summary = json.loads((folder / "seeds.json").read_text())
  accuracy = json.loads(before)["splits"]["test"]["accuracy"]
  assert summary["splits"]["test"]["figures"]["accuracy"]["values"] == [accuracy]
  assert "no standard deviation" in (folder / "seeds.txt").read_text()
  code, text = program.run(*command, f"--compare={folder}")
  assert code == 0, text
  assert "test, accuracy: +0.00" in text


@pytest.mark.parametrize(
  ("flags", "parts"),
  [
    (["--compare=anywhere"], ["--compare", "--seeds"]),
    (["--seeds=1", "--compare=nowhere"], ["nowhere/seeds.json is missing"]),
  ],
)
def test_a_mistake_about_seeds_is_one_error_before_any_training(program, flags, parts):
  _assert_one_error(*program.run(_CONFIG, *flags, "--workdir=unused"), *parts)
  assert not (program.folder / "unused").exists()


# Errors.


@pytest.mark.slow  # Within a process: test_train_loop.py.
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoints(
  program, whole
):
  # Without --workdir: the folder is named after the config, its variants and the seed.
  code, text = program.run(_CONFIG, *_SETTINGS, "--config.input.second_scale=3e38")
  _assert_one_error(
    code, text, "step 8: loss nan", "gradient norm nan", "learning rate 0.0004"
  )
  workdir = program.folder / "runs" / "synthetic_faces-small-seed0"
  (record,) = read_records(workdir / "metrics.jsonl")
  assert record["step"] == 8
  # Up to there nothing differs from the other run, whose scale changes then too.
  assert (
    (whole / "metrics.jsonl")
    .read_bytes()
    .startswith((workdir / "metrics.jsonl").read_bytes())
  )
  for kind in ("last", "best"):
    step, arrays = _arrays(workdir, kind)
    assert step == 8
    assert all(np.isfinite(leaf).all() for leaf in _leaves(arrays["params"]).values())


@pytest.mark.parametrize(
  ("flags", "parts"),
  # One that reading the command line finds and one of `main`'s. The others, within a
  # process: tests/utils/test_config_files.py, test_train_loop.py.
  [
    ([_CONFIG, "--config.optimizer.lr=3"], ["lr=3", "optimizer.learning_rate?"]),
    ([_CONFIG, "extra"], ["flags only", "extra"]),
  ],
)
def test_a_mistake_on_the_command_line_is_one_error(program, flags, parts):
  _assert_one_error(*program.run(*flags), *parts)
