"""A run that an earlier version stored is resumed, evaluated, reported and used.

tests/fixtures/stored_run is as commit 2a9b477 wrote it; fixtures/make_stored_run.py has
the commands. Expected numbers are those that that version printed or stored.
"""

import json
import os
import pathlib
import shutil
import types

import commands
import numpy as np
import pytest
from compilation import xla_flags

import emosynth_jax as ej
from emosynth_jax import bundle, evaluate
from emosynth_jax.analysis import result_cache
from emosynth_jax.bundle.calibrate import read_workdir
from emosynth_jax.config.stored import read_config
from emosynth_jax.predict import Predictor
from emosynth_jax.report import report, run_files
from emosynth_jax.training import seeds
from emosynth_jax.workdir import seed_summary

_STORED = pathlib.Path(__file__).parent / "fixtures" / "stored_run"
_EXPECTED = json.loads((_STORED / "expected.json").read_text())
_SEVENTH_EPOCH = """
import pathlib, sys
from emosynth_jax import train_loop
from emosynth_jax.config.stored import read_config

workdir = pathlib.Path(sys.argv[1])
config = read_config(workdir)
config.num_epochs = 7
assert train_loop.train(config, workdir)
"""


@pytest.fixture
def workdir(tmp_path):
  """A copy of the first seed's folder, to be written to."""
  return shutil.copytree(_STORED / "seed0", tmp_path / "seed0")


def _lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_the_run_resumes_with_its_config_data_and_checkpoint(workdir):
  # Compiled as it was: in haste (conftest.py) a few images get another class.
  environment = os.environ | {"XLA_FLAGS": xla_flags(haste=False)}
  done = commands.run("-c", _SEVENTH_EPOCH, workdir, env=environment)
  assert done.returncode == 0, done.stderr
  before, after = (_lines(f / "metrics.jsonl") for f in (_STORED / "seed0", workdir))
  assert after[: len(before)] == before
  (seventh,) = after[len(before) :]
  expected = _EXPECTED["seventh_epoch"]
  # What later versions record beside it.
  assert seventh.keys() == expected.keys() | {"train/cross_entropy"}
  assert (seventh["step"], seventh["epoch"]) == (expected["step"], 7)
  # Equal but for rounding.
  for name in ("train/loss", "train/gradient_norm", "validation/loss"):
    assert seventh[name] == pytest.approx(expected[name], rel=2e-3)
  for name in ("train/accuracy", "validation/accuracy"):
    assert seventh[name] == pytest.approx(expected[name], abs=0.01)
  commits = [line["commit"] for line in _lines(workdir / "provenance.jsonl")]
  assert len(commits) == 2
  assert commits[0].startswith("2a9b477")


def test_the_best_checkpoint_is_evaluated_as_then(workdir, drawn):
  stored = json.loads((_STORED / "seed0" / "report.json").read_text())
  found = evaluate.evaluate_run(read_config(workdir), workdir)
  assert found["best_epoch"] == stored["best_epoch"]
  for name, summary in stored["splits"].items():
    assert found["splits"][name]["accuracy"] == summary["accuracy"]
    assert found["splits"][name]["loss"] == pytest.approx(summary["loss"], rel=1e-5)
  assert {"curves.png", "confusion_matrix.png", "reliability.png"} == set(drawn)


def test_finished_seeds_are_read_and_summed_up_as_then():
  folders = [_STORED / "seed0", _STORED / "seed1"]
  reports = [seeds.finished_report(read_config(folder), folder) for folder in folders]
  assert None not in reports
  stored = seed_summary.read_summary(_STORED)
  found = seed_summary.summarize(reports, folders)
  assert found["splits"] == stored["splits"]
  assert found["seeds"] == [0, 1]
  assert seed_summary.compare(found, stored)["seeds"] == [0, 1]


def test_results_under_old_names_are_those_of_the_new_ones(workdir):
  report = json.loads((workdir / "report.json").read_text())
  report["splits"]["test"]["without_twins"] = {"num_left_out": 3, "accuracy": 0.25}
  (workdir / "report.json").write_text(json.dumps(report))
  read = seeds.finished_report(read_config(workdir), workdir)
  assert read["splits"]["test"]["deduplicated"]["accuracy"] == 0.25
  page = run_files.read_run(workdir)
  assert page.report["splits"] == read["splits"]
  assert page.report["config"]["evaluate_deduplicated"] is False

  summary = seed_summary.summarize([read], [workdir])
  assert summary["splits"]["test"]["figures"]["deduplicated accuracy"]["mean"] == 0.25
  figures = json.loads((_STORED / "seeds.json").read_text())
  figures["splits"]["test"]["figures"]["accuracy without twins"] = {
    "values": [0.5, 0.0],
    "mean": 0.25,
  }
  (workdir / "seeds.json").write_text(json.dumps(figures))
  stored = seed_summary.read_summary(workdir)
  assert stored["splits"]["test"]["figures"]["deduplicated accuracy"]["mean"] == 0.25


def test_a_page_is_made_of_one_run_and_of_both_seeds(workdir, tmp_path):
  given = {
    "output": str(tmp_path / "page.html"),
    "audit": None,
    "paired": False,
    "images": False,
    "mistakes": 12,
    "embedded": 2000,
    "layer": None,
    "batch_size": 256,
    "data_dir": None,
  }
  summary = json.loads((workdir / "report.json").read_text())["splits"]["test"]
  accuracy = f"{100 * summary['accuracy']:.2f}"
  one = report.write_page(types.SimpleNamespace(workdir=[str(workdir)], **given))
  assert accuracy in one.read_text()
  both = [str(workdir), str(_STORED / "seed1")]
  given["images"] = True
  page = report.write_page(types.SimpleNamespace(workdir=both, **given))
  assert accuracy in page.read_text()


def test_an_analysis_of_then_is_not_computed_again(workdir):
  record = json.loads((workdir / "loss_line.json").read_text())
  found = result_cache.read(workdir / "loss_line", record["settings"])
  assert found is not None
  assert found[0] == record
  assert found[1]["loss"].shape == (3,)


def test_the_bundle_predicts_as_then():
  image = np.random.default_rng(0).integers(0, 256, (48, 48, 1), np.uint8)
  predictor = Predictor(_STORED / "bundle.safetensors", faces="none")
  (prediction,) = predictor(image)
  assert prediction.probabilities == pytest.approx(_EXPECTED["probabilities"], abs=1e-5)


def test_the_calibration_of_then_still_holds(workdir):
  before = (workdir / "calibration.json").read_bytes()
  # Another data_dir: that the data is not needed again.
  network = read_workdir(workdir, data_dir="nowhere")
  assert (workdir / "calibration.json").read_bytes() == before
  stored = bundle.read_bundle(_STORED / "bundle.safetensors")
  assert network.temperature == stored.temperature
  assert network.class_names == stored.class_names


def test_a_run_without_records_and_with_older_names_is_loaded(workdir):
  (workdir / "metrics.jsonl").unlink()
  path = workdir / "report.json"
  report = json.loads(path.read_text())
  report["splits"]["test"]["without_twins"] = {"accuracy": 0.5}
  path.write_text(json.dumps(report))
  run = ej.load(workdir)
  assert run.report["splits"]["test"]["deduplicated"] == {"accuracy": 0.5}
