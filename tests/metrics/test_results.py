"""The plain-text table, report.json and the origin of a result."""

import datetime
import json
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

import emosynth_jax
from emosynth_jax.metrics import classification
from emosynth_jax.metrics.table import format_table
from emosynth_jax.utils import files
from emosynth_jax.workdir import provenance

_NAMES = ["angry", "a longer name", "happy", "never seen"]


def _example():
  """Labels, predictions and the summary; one class of four does not occur."""
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 200)
  logits = rng.standard_normal((200, 4)).astype(np.float32)
  logits[np.arange(200), labels] += 1
  statistics = jax.jit(classification.batch_statistics, static_argnums=3)(
    logits, labels, None, 4
  )
  return labels, logits.argmax(axis=1), classification.summarize(statistics, _NAMES)


def test_the_table_holds_sklearns_report():
  labels, predictions, summary = _example()
  lines = format_table(summary).splitlines()
  report = sklearn.metrics.classification_report(
    labels,
    predictions,
    labels=range(4),
    target_names=_NAMES,
    output_dict=True,
    zero_division=0,
  )
  for name in [*_NAMES, "macro"]:
    expected = report["macro avg" if name == "macro" else name]
    (line,) = [line for line in lines if line.startswith(f"{name}  ")]
    *figures, support = line.removeprefix(name).split()
    keys = ("precision", "recall", "f1-score")
    assert figures == [f"{100 * expected[key]:.2f}" for key in keys]
    assert int(support) == expected["support"]


def test_the_table_names_protocol_totals_and_absent_classes():
  labels, predictions, summary = _example()
  protocol = {"data set": "FER-2013", "split": "PrivateTest", "seed": 3}
  table = format_table(summary, protocol)
  assert table.startswith(
    "data set  FER-2013\nsplit     PrivateTest\nseed      3\n\nclass"
  )
  accuracy = sklearn.metrics.accuracy_score(labels, predictions)
  assert f"\naccuracy                     {100 * accuracy:.2f} %\n" in table
  for label, key in (
    ("balanced accuracy", "balanced_accuracy"),
    ("calibration error, expected", "expected_calibration_error"),
    ("calibration error, maximum", "max_calibration_error"),
  ):
    (line,) = [line for line in table.splitlines() if line.startswith(label)]
    assert line.split()[-2:] == [f"{100 * summary[key]:.2f}", "%"]
  assert f"{summary['loss']:.4f}" in table
  assert table.endswith("excluded from balanced accuracy: never seen\n")


def test_the_columns_of_the_table_line_up():
  _, _, summary = _example()
  summary["per_class"]["happy"] = {
    "precision": 1.0,
    "recall": 1.0,
    "f1": 1.0,
    "support": 1234567,
  }
  body = format_table(summary).split("\n\n")[0].splitlines()
  assert len({len(line) for line in body}) == 1
  assert not any(line.endswith(" ") for line in body)


def test_the_table_survives_a_loss_that_is_not_finite():
  _, _, summary = _example()
  table = format_table({**summary, "loss": float("nan")})
  assert "\nloss" in table
  assert "nan" in table


def _refuse(constant):
  raise AssertionError(f"{constant} is not JSON")


def test_the_report_is_strict_json_that_reads_back(tmp_path):
  report = {
    "nan": float("nan"),
    "array": np.array([1.5, np.inf, -np.inf]),
    "jax": jnp.arange(3),
    "bfloat16": jnp.ones(2, jnp.bfloat16),
    "scalar": np.float32(0.5),
    "flag": np.bool_(True),
    "path": pathlib.PurePosixPath("runs/a"),
    "nested": {"tuple": (1, None, "façade")},
  }
  path = tmp_path / "new" / "report.json"
  files.write_report(path, report)
  text = path.read_text(encoding="utf-8")
  assert json.loads(text, parse_constant=_refuse) == {
    "nan": "NaN",
    "array": [1.5, "Infinity", "-Infinity"],
    "jax": [0, 1, 2],
    "bfloat16": [1.0, 1.0],
    "scalar": 0.5,
    "flag": True,
    "path": "runs/a",
    "nested": {"tuple": [1, None, "façade"]},
  }
  assert text.endswith("}\n")
  assert "façade" in text


@pytest.mark.parametrize(
  ("report", "message"),
  [
    (
      {"a": {"b": [0, {1, 2}]}},
      r"report\['a'\]\['b'\]\[1\]: set is not JSON-serializable",
    ),
    ({"a": {3: "x"}}, r"report\['a'\]: expected strings as keys, got 3"),
    ({"a": np.array([1j])}, r"report\['a'\]: ndarray is not JSON-serializable"),
  ],
)
def test_what_json_cannot_hold_is_refused_and_the_old_report_stays(
  tmp_path, report, message
):
  path = tmp_path / "report.json"
  files.write_report(path, {"old": 1})
  with pytest.raises(TypeError, match=message):
    files.write_report(path, report)
  assert json.loads(path.read_text()) == {"old": 1}


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch):
  path = tmp_path / "report.json"
  files.write_report(path, {"old": 1})

  def fail(_):
    raise OSError("disk full")

  monkeypatch.setattr(os, "fsync", fail)
  with pytest.raises(OSError, match="disk full"):
    files.write_report(path, {"new": 1})
  assert json.loads(path.read_text()) == {"old": 1}
  assert os.listdir(tmp_path) == ["report.json"]


def test_a_report_is_replaced_and_never_overwritten(tmp_path):
  """A second name for the old file still finds the old text: no moment of mixture."""
  path = tmp_path / "report.json"
  files.write_report(path, {"old": 1})
  os.link(path, tmp_path / "kept.json")
  files.write_report(path, {"new": 1})
  assert json.loads(path.read_text()) == {"new": 1}
  assert json.loads((tmp_path / "kept.json").read_text()) == {"old": 1}


def _git(folder, *arguments):
  identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
  done = subprocess.run(
    ["git", *identity, *arguments],
    cwd=folder,
    capture_output=True,
    text=True,
    check=True,
  )
  return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
  """A repository with one committed file, free of the machine's git settings."""
  if shutil.which("git") is None:
    pytest.skip("git is not installed")
  monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
  monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
  folder = tmp_path / "checkout"
  (folder / "package").mkdir(parents=True)
  _git(folder, "init", "--quiet")
  (folder / "package" / "module.py").write_text("x = 1\n")
  _git(folder, "add", ".")
  _git(folder, "commit", "--quiet", "-m", "m")
  return folder


def test_the_commit_is_that_of_the_packages_checkout(checkout, monkeypatch):
  file = checkout / "package" / "module.py"
  commit = _git(checkout, "rev-parse", "HEAD")
  monkeypatch.chdir(checkout.parent)
  # As inside a hook of another repository.
  monkeypatch.setenv("GIT_DIR", str(checkout.parent / "elsewhere"))
  assert provenance._commit(file) == commit


def test_a_changed_file_makes_the_commit_dirty(checkout):
  (checkout / "README").write_text("untracked")
  (checkout / "package" / "module.py").write_text("x = 2\n")
  commit = _git(checkout, "rev-parse", "HEAD")
  assert provenance._commit(checkout / "package" / "module.py") == f"{commit}+dirty"


@pytest.mark.parametrize("name", ["emosynth_jax.new", "benchmarks.new", "__main__"])
def test_a_new_file_makes_the_commit_dirty_only_if_it_is_imported(
  checkout, monkeypatch, name
):
  new = checkout / "package" / "new.py"
  new.write_text("x = 2\n")
  commit = _git(checkout, "rev-parse", "HEAD")
  assert provenance._commit(checkout / "package" / "module.py") == commit

  module = types.ModuleType(name)
  # As reached through a link to the checkout.
  (checkout.parent / "link").symlink_to(checkout)
  module.__file__ = str(checkout.parent / "link" / "package" / "new.py")
  module.__spec__ = types.SimpleNamespace(name="experiments.new")
  monkeypatch.setitem(sys.modules, name, module)
  assert provenance._commit(checkout / "package" / "module.py") == f"{commit}+dirty"


def test_asking_for_the_commit_writes_nothing(checkout):
  file = checkout / "package" / "module.py"
  os.utime(file, (1, 1))  # git status would refresh its index after this
  index = checkout / ".git" / "index"
  before = index.read_bytes()
  assert provenance._commit(file) == _git(checkout, "rev-parse", "HEAD")
  assert index.read_bytes() == before


def test_the_commit_is_unknown_outside_git_and_for_a_file_git_does_not_track(
  checkout, monkeypatch
):
  file = checkout / "package" / "module.py"
  untracked = checkout / "site-packages" / "module.py"
  untracked.parent.mkdir()
  untracked.write_text("")
  assert provenance._commit(untracked) == "unknown"
  outside = checkout.parent / "module.py"
  outside.write_text("")
  monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(checkout.parent.parent))
  assert provenance._commit(outside) == "unknown"
  _git(checkout, "update-ref", "-d", "HEAD")  # tracked, and no commit yet
  assert provenance._commit(file) == "unknown"
  monkeypatch.setenv("PATH", "")
  assert provenance._commit(file) == "unknown"


def test_provenance_names_program_packages_machine_and_moment():
  before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
  origin = provenance.provenance()
  assert json.loads(json.dumps(origin, allow_nan=False)) == origin
  assert origin["packages"]["jax"] == jax.__version__
  assert origin["packages"]["emosynth_jax"] == emosynth_jax.__version__
  assert origin["packages"]["numpy"] == np.__version__
  assert origin["packages"]["python"] == ".".join(map(str, sys.version_info[:3]))
  assert "unknown" not in origin["packages"].values()
  assert origin["jax_backend"] == jax.default_backend()
  assert origin["device_count"] == jax.device_count()
  assert 1 <= origin["cpu_cores"] <= os.cpu_count()
  assert origin["cpu_model"] in origin["hardware"]
  moment = datetime.datetime.fromisoformat(origin["date"])
  assert moment.utcoffset() == datetime.timedelta(0)
  assert before <= moment <= datetime.datetime.now(datetime.UTC)


def test_provenance_names_an_accelerator(monkeypatch):
  class Device:
    device_kind = "NVIDIA H100"

  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(jax, "devices", lambda: [Device(), Device()])
  assert provenance.provenance()["hardware"].startswith("2 x NVIDIA H100 (gpu); ")


def test_the_command_is_the_one_typed_and_git_may_be_missing(tmp_path):
  (tmp_path / "program.py").write_text(
    textwrap.dedent("""
      import json
      from emosynth_jax.workdir import provenance
      print(json.dumps(provenance.provenance()))
    """)
  )
  root = pathlib.Path(emosynth_jax.__file__).resolve().parents[1]
  environment = {**os.environ, "PATH": "", "PYTHONPATH": f"{root}:{tmp_path}"}
  done = subprocess.run(
    [sys.executable, "-m", "program", "--config=a b.py:small"],
    env=environment,
    capture_output=True,
    check=True,
  )
  origin = json.loads(done.stdout)
  python = pathlib.Path(sys.executable).name
  assert origin["command"] == f"{python} -m program '--config=a b.py:small'"
  assert origin["commit"] == "unknown"


def test_a_copy_of_a_checkout_has_the_commit_that_it_is_told(tmp_path, monkeypatch):
  monkeypatch.delenv("EMOSYNTH_COMMIT", raising=False)
  assert provenance._commit(tmp_path / "module.py") == "unknown"
  monkeypatch.setenv("EMOSYNTH_COMMIT", "abc+dirty")
  assert provenance._commit(tmp_path / "module.py") == "abc+dirty"
