"""A workdir with any one file damaged: the same numbers, or refused before training."""

import os
import pathlib
import re
import shutil
import subprocess

import commands
import jax
import numpy as np
import pytest
import tiny_workdir

from emosynth_jax import evaluate, train_loop
from emosynth_jax.report import run_files
from emosynth_jax.training import restore
from emosynth_jax.utils import errors
from emosynth_jax.workdir.checkpoints import CheckpointError, Checkpoints

pytestmark = pytest.mark.usefixtures("tiny_networks")


def _flip(path):
  content = bytearray(path.read_bytes())
  if content:
    content[len(content) // 2] ^= 1
  path.write_bytes(content)


_DAMAGES = {
  "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
  "emptied": lambda path: path.write_bytes(b""),
  "deleted": lambda path: path.unlink(),
  "one bit": _flip,
}


def _config(**changes):
  """Two epochs of two steps."""
  return tiny_workdir.config(**{"num_epochs": 2} | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_networks):
  """The workdir of a finished training."""
  workdir = tmp_path_factory.mktemp("whole")
  assert train_loop.train(_config(), workdir)
  return workdir


@pytest.fixture
def workdir(whole, tmp_path):
  return pathlib.Path(shutil.copytree(whole, tmp_path / "run"))


def _files(workdir):
  return sorted(
    path.relative_to(workdir)
    for path in workdir.rglob("*")
    if path.is_file() and path.name != ".lock"
  )


def _states(workdir):
  return [tiny_workdir.restore(_config(), workdir, kind) for kind in ("last", "best")]


@pytest.fixture(scope="module")
def expected(whole):
  """The states of the finished training."""
  return _states(whole)


def _assert_same_or_refused(whole, workdir, expected):
  """Runs the training again; returns the error, if it was refused."""
  try:
    assert train_loop.train(_config(), workdir)
  except (ValueError, errors.UserError) as error:
    return str(error)
  assert (workdir / "metrics.jsonl").read_bytes() == (
    whole / "metrics.jsonl"
  ).read_bytes()
  for state, other in zip(_states(workdir), expected, strict=True):
    jax.tree.map(np.testing.assert_array_equal, state, other)
  return ""


@pytest.mark.parametrize("damage", _DAMAGES)
def test_every_file_may_be_damaged(whole, expected, tmp_path, damage, monkeypatch):
  """Each file has one of the damages here; `slow` has the rest.

  Without the last checkpoints: tests/workdir/test_checkpoints.py damages each of their
  files, and each costs a training here.
  """
  started = []
  take_steps = train_loop._take_steps
  monkeypatch.setattr(
    train_loop, "_take_steps", lambda *given: (started.append(1), take_steps(*given))[1]
  )
  refused = {}
  number = list(_DAMAGES).index(damage)
  files = [path for path in _files(whole) if path.parts[:2] != ("checkpoints", "last")]
  for i, path in enumerate(files[number::4]):
    workdir = pathlib.Path(shutil.copytree(whole, tmp_path / str(i)))
    _DAMAGES[damage](workdir / path)
    started.clear()
    if error := _assert_same_or_refused(whole, workdir, expected):
      refused[path] = error
      assert not started
  for path, error in refused.items():
    # Neither has a second copy.
    assert len(path.parts) == 1 or path.parts[:2] == ("checkpoints", "best")
    # One line that names the file or the folder of the kind of checkpoint.
    assert "\n" not in error
    assert str(tmp_path) in error
  assert damage == "deleted" or refused


@pytest.mark.parametrize("damage", _DAMAGES)
@pytest.mark.parametrize("name", ["metrics.jsonl", "data.json", "provenance.jsonl"])
def test_damaged_records_are_refused_by_name(workdir, whole, expected, name, damage):
  _DAMAGES[damage](workdir / name)
  error = _assert_same_or_refused(whole, workdir, expected)
  # data.json and provenance.jsonl may be deleted: neither changes a number.
  may_pass = damage == "deleted" and name != "metrics.jsonl"
  may_pass |= damage == "one bit" and name == "provenance.jsonl"
  assert may_pass or str(workdir / name) in error


@pytest.mark.parametrize(
  ("damage", "missing"), [("cut", "2"), ("emptied", "1 to 2"), ("deleted", "1 to 2")]
)
def test_an_evaluation_says_which_records_are_missing(
  workdir, damage, missing, drawn, caplog
):
  _DAMAGES[damage](workdir / "metrics.jsonl")
  report = evaluate.evaluate_run(_config(), workdir)
  # As the last checkpoint knows, whatever is left of the records.
  assert report["epochs_trained"] == 2
  text = (workdir / "report.txt").read_text()
  assert re.search(rf"^missing records +of epochs {missing}$", text, re.MULTILINE)
  assert f"metrics.jsonl has no record of epochs {missing};" in caplog.text
  assert ("curves.png" in drawn) == (damage == "cut")
  run = run_files.read_run(workdir)
  assert run.missing_epochs == missing


def test_a_record_with_another_number_is_refused(workdir):
  path = workdir / "metrics.jsonl"
  path.write_text(path.read_text().replace('"epoch": 1', '"epoch": 3'))
  with pytest.raises(ValueError, match=r"metrics\.jsonl is not as it was at the last"):
    train_loop.train(_config(), workdir)


def test_records_of_runs_without_their_digest_are_counted(workdir, monkeypatch):
  """Checkpoints of earlier versions have none."""
  monkeypatch.setattr(Checkpoints, "stored_records", lambda self, step: "")
  assert train_loop.train(_config(), workdir)
  path = workdir / "metrics.jsonl"
  path.write_text(path.read_text().splitlines(keepends=True)[0])
  with pytest.raises(ValueError, match="has records of 1 epochs, the last checkpoint"):
    train_loop.train(_config(), workdir)


@pytest.mark.parametrize("what", ["deleted", "emptied"])
def test_a_best_checkpoint_that_is_gone_is_named(workdir, expected, what):
  config = _config()
  last, best = expected
  folder = workdir / "checkpoints" / "best"
  shutil.rmtree(folder)
  if what == "emptied":
    folder.mkdir()
  with pytest.raises(FileNotFoundError, match="best"):
    restore.load_best(config, workdir, ("test",))
  if int(best.step) == int(last.step):
    assert train_loop.train(config, workdir)
    return
  message = rf"best lacks a sound best checkpoint, of epoch {int(best.epoch)} \(step"
  with pytest.raises(CheckpointError, match=message):
    train_loop.train(config, workdir)


def test_a_last_that_is_the_best_replaces_it(tmp_path):
  config = _config(num_epochs=1)
  assert train_loop.train(config, tmp_path)
  shutil.rmtree(tmp_path / "checkpoints" / "best")
  assert train_loop.train(config, tmp_path)
  last, best = _states(tmp_path)
  jax.tree.map(np.testing.assert_array_equal, last, best)


_ON_A_FULL_DISK = """
import pathlib, resource, signal, sys
from absl import app

sys.path[:0] = [{tests!r}]
import test_damaged_workdir as own
import tiny_network
import tiny_workdir
from emosynth_jax import models, train_loop
from emosynth_jax.training import epoch
from emosynth_jax.utils import cli

models.MODELS["tiny"] = tiny_network.TinyNetwork
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = epoch.log


def fill(*given, **named):
  log(*given, **named)
  resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def main(argv):
  config = own._config(num_epochs=3)
  config.model.features = 300
  cli.start_logging()
  with cli.mistakes_in_one_line(False):
    epoch.log = fill
    train_loop.train(config, {workdir!r})


app.run(main)
"""


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_resumes(tmp_path):
  """A limit on the size of files refuses writes as a full disk does, with EFBIG."""
  code = _ON_A_FULL_DISK.format(
    tests=str(pathlib.Path(__file__).parent), workdir=str(tmp_path / "run")
  )
  together = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
  done = commands.run("-c", code, capture_output=False, **together)
  lines = done.stdout.splitlines()
  assert done.returncode == 1, done.stdout
  assert lines[-1].startswith(
    f"error: cannot write {tmp_path}/run/checkpoints: File too"
  )
  assert "Traceback" not in done.stdout
  # The header and the first epoch; there were 364 lines.
  assert len(lines) < 20, done.stdout
  config = _config(num_epochs=3)
  config.model.features = 300
  assert train_loop.train(config, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("damage", _DAMAGES)
def test_every_damage_of_every_file(whole, expected, tmp_path, damage):
  for i, path in enumerate(_files(whole)):
    workdir = pathlib.Path(shutil.copytree(whole, tmp_path / str(i)))
    _DAMAGES[damage](workdir / path)
    error = _assert_same_or_refused(whole, workdir, expected)
    assert "\n" not in error
    assert not error or str(workdir) in error


@pytest.mark.slow
def test_commands_resume_or_refuse_in_one_line(tmp_path):
  """A file and a damage at a time, in turn; the records with every damage."""

  def run(workdir):
    options = ["data.options.num_examples=14", "batch_size=7", "num_epochs=2"]
    return commands.run(
      *("-m", "emosynth_jax.main", "--config=configs/synthetic_faces.py:small"),
      f"--workdir={workdir}",
      *(f"--config.{option}" for option in options),
      env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")},
    )

  whole = tmp_path / "whole"
  assert run(whole).returncode == 0
  names = list(_DAMAGES)
  for i, path in enumerate(_files(whole)):
    for damage in names if len(path.parts) == 1 else [names[i % 4]]:
      workdir = pathlib.Path(shutil.copytree(whole, tmp_path / "run"))
      _DAMAGES[damage](workdir / path)
      done = run(workdir)
      case = f"{path} {damage}: {done.stderr[-500:]}"
      if done.returncode:
        assert done.stderr.splitlines()[-1].startswith("error: "), case
        assert "Traceback" not in done.stderr, case
      else:
        for name in ("metrics.jsonl",):
          assert (workdir / name).read_bytes() == (whole / name).read_bytes(), case
      shutil.rmtree(workdir)
