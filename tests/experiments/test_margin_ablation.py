"""The ablation's command: records, resumption, the user's margin, what it writes."""

import json
import math
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax.data import Dataset
from emosynth_jax.workdir import record as run_record
from experiments import margin_ablation
from experiments.lib import (
  ablation_grids,
  ablation_members,
  ablation_records,
  ablation_report,
)

_MARGIN = """
import jax

def margin(logits):
  top = jax.lax.top_k(logits, 2)[0]
  return jax.lax.stop_gradient(0.5 * (top[:, 0] - top[:, 1]))
"""


def _dataset(count, split):
  rng = np.random.default_rng(len(split))
  labels = np.arange(count, dtype=np.int32) % 3
  images = rng.integers(0, 100, (count, 32, 32, 1)) + 60 * labels[:, None, None, None]
  return Dataset(
    images.astype(np.uint8), labels, ("a", "b", "c"), split, ("row",) * count
  )


def _run(settings, workdir, seeds=2):
  return margin_ablation.run_ablation(
    settings,
    _dataset(70, "train"),
    _dataset(12, "validation"),
    workdir,
    seeds=seeds,
    epochs=1,
    width=0.02,
    learning_rate=4e-3,
    mapping="map",
  )


@pytest.mark.parametrize(
  "grid", ablation_grids.GRIDS.values(), ids=ablation_grids.GRIDS
)
def test_every_grid_holds_cross_entropy_and_nothing_that_a_loss_refuses(grid):
  settings = ablation_members.expand_grid(grid)
  assert {"loss": "cross_entropy"} in settings
  for setting in settings:
    ablation_members.check_values(setting, 7)


def test_a_value_out_of_range_is_refused_before_anything_is_trained(tmp_path):
  settings = [{"loss": "cross_entropy"}, {"loss": "cosface", "margin": -1.0}]
  with pytest.raises(ValueError, match="margin: expected a number"):
    _run(settings, tmp_path)
  assert not list(tmp_path.iterdir())


def test_a_second_run_trains_only_what_is_missing(tmp_path, monkeypatch):
  settings = ablation_members.expand_grid(
    [{"loss": "cross_entropy"}, {"loss": "sm_softmax", "margin": [0.5, 1.0]}]
  )
  records = _run(settings, tmp_path)
  assert [(r["setting"]["loss"], r["seed"]) for r in records] == [
    ("cross_entropy", 0),
    ("cross_entropy", 1),
    *[("sm_softmax", 0), ("sm_softmax", 1)] * 2,
  ]
  # As a kill leaves it: one member is missing, another one's line is cut short.
  path = tmp_path / "results.jsonl"
  lines = path.read_text().splitlines(keepends=True)
  path.write_text("".join(lines[:4]) + lines[4][:30])
  trained = []
  stack = ablation_members.stack_members

  def count(members, formulas):
    trained.extend(seed for _, seed in members)
    return stack(members, formulas)

  monkeypatch.setattr(ablation_members, "stack_members", count)
  again = _run(settings, tmp_path)
  assert trained == [0, 1]
  measured = ("setting", "seed", "accuracy", "loss", "train_loss")
  assert [[r[k] for k in measured] for r in again] == [
    [r[k] for k in measured] for r in records
  ]


def test_folders_of_another_protocol_are_refused(tmp_path):
  path = tmp_path / "protocol.json"
  ablation_records.keep_protocol(path, {"epochs": 3})
  ablation_records.keep_protocol(path, {"epochs": 3})
  with pytest.raises(ValueError, match=r"epochs 3, now 4.*--workdir"):
    ablation_records.keep_protocol(path, {"epochs": 4})


def test_a_second_ablation_in_one_folder_is_refused(tmp_path, real_data):
  with run_record.only_training_in(tmp_path):
    done = subprocess.run(
      [
        *(sys.executable, "-m", "experiments.margin_ablation"),
        f"--data_dir={real_data / 'tfds'}",
        f"--workdir={tmp_path}",
      ],
      cwd=pathlib.Path(__file__).resolve().parents[2],
      capture_output=True,
      text=True,
      check=False,
    )
  assert done.returncode == 1
  assert "another process is training in" in done.stderr


def test_margin_of_a_users_file(tmp_path):
  file = tmp_path / "mine.py"
  file.write_text(_MARGIN)
  margin = ablation_grids.load_margin(str(file))
  np.testing.assert_allclose(margin(jnp.array([[1.0, 4.0, 2.0]])), [1.0])


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (None, "no file"),
    ("def margin(:", "does not run"),
    ("import sys; sys.exit(3)", "does not run"),
    ("def other(logits): return 0", r"expected a function margin\(logits\)"),
    ("def margin(logits): return logits", r"should return shape \(2,\).*got \(2, 7\)"),
    ("def margin(logits): return logits.nothing", "fails for logits"),
  ],
)
def test_margin_files_that_are_none(tmp_path, content, message):
  file = tmp_path / "mine.py"
  if content is not None:
    file.write_text(content)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    ablation_grids.load_margin(str(file))


def test_a_margin_file_that_is_no_python_file_is_refused(tmp_path):
  file = tmp_path / "mine.txt"
  file.write_text(_MARGIN)
  with pytest.raises(ValueError, match=r"NAME\.py, got .*mine\.txt"):
    ablation_grids.load_margin(str(file))


def test_files_of_something_else_are_refused(tmp_path):
  records = tmp_path / "results.jsonl"
  records.write_text('{"step": 1}\n')
  with pytest.raises(ValueError, match=r"results\.jsonl has no records.*--workdir"):
    ablation_records.read_records(records)
  protocol = tmp_path / "protocol.json"
  protocol.write_text('{"epochs": 3')
  with pytest.raises(ValueError, match=r"protocol\.json is damaged"):
    ablation_records.keep_protocol(protocol, {"epochs": 3})


def test_settings_that_differ_in_late_digits_are_not_mixed():
  records = _records(cross_entropy=[0.5, 0.6])
  for margin in (0.1234561, 0.1234562):
    for record in _records(cosface=[0.5, 0.7]):
      record["setting"] = {"loss": "cosface", "margin": margin}
      records.append(record)
  assert [r["seeds"] for r in ablation_report.compare(records, 4)] == [2, 2, 2]


def test_a_changed_margin_file_is_another_setting():
  setting = {"loss": "mam_softmax", "margin_fn": len}
  assert ablation_grids.describe(setting, "aa") != ablation_grids.describe(
    setting, "bb"
  )


def _records(**accuracies):
  return [
    {
      "setting": {"loss": loss},
      "seed": seed,
      "accuracy": value,
      "balanced_accuracy": value,
      **dict.fromkeys(
        ("f1_macro", "loss", "train_accuracy", "train_loss", "seconds"), 0.5
      ),
      "first_bad_step": -1,
    }
    for loss, values in accuracies.items()
    for seed, value in enumerate(values)
  ]


_PROTOCOL = {
  "data_set": "mnist",
  "num_classes": 4,
  "train_images": 70,
  "validation_images": 12,
  "network": "tiny",
  "epochs": 1,
}


def test_verdicts():
  records = _records(
    cross_entropy=[0.60, 0.70, 0.65, 0.64],
    focal=[0.651, 0.749, 0.70, 0.691],
    mse=[0.55, 0.652, 0.60, 0.589],
    arcface=[0.64, 0.66, 0.63, 0.66],
    # Chance is 25 %: less than a quarter of the way to 65 % is below 35 %.
    cosface=[0.66, 0.75, 0.70, 0.34],
  )
  rows = {r["label"]: r for r in ablation_report.compare(records, 4)}
  assert {name: row["verdict"] for name, row in rows.items()} == {
    "cross_entropy": "baseline",
    "focal": "better",
    "mse": "worse",
    "arcface": "no difference shown",
    "cosface": "collapses",
  }
  assert rows["cosface"]["collapsed"] == 1
  assert rows["focal"]["difference"]["mean"] == pytest.approx(0.05025)
  # Four settings stand against cross-entropy: Holm's correction raises p.
  assert rows["mse"]["p_holm"] > rows["mse"]["difference"]["p_value"]


def test_a_comparison_needs_cross_entropy():
  with pytest.raises(ValueError, match="cross_entropy"):
    ablation_report.compare(_records(focal=[0.5, 0.6]), 4)


def test_seeds_without_a_partner_are_left_out():
  records = _records(cross_entropy=[0.5, 0.6], focal=[0.6, 0.7, 0.1])
  rows = {r["label"]: r for r in ablation_report.compare(records, 4)}
  assert rows["focal"]["seeds"] == 2
  assert rows["focal"]["accuracy"] == pytest.approx(0.65)


def test_files_of_a_report(tmp_path):
  records = _records(cross_entropy=[0.6, 0.7], focal=[0.65, 0.72], cosface=[0.3, 0.7])
  records[0]["commit"], records[1]["commit"] = "one", "two"
  text = ablation_report.write(records, _PROTOCOL, tmp_path)
  assert (tmp_path / "table.txt").read_text() == text
  assert "12 validation images; test images are not used" in text
  # The other records are of the protocol's commit, which this one does not know.
  assert "commit    one, two, unknown" in text
  assert (tmp_path / "results.csv").read_text().splitlines()[:2] == [
    "loss,seed,accuracy,balanced_accuracy,f1_macro,validation_loss,train_accuracy,"
    "train_loss,first_bad_step,seconds",
    "cross_entropy,0,0.6,0.6,0.5,0.5,0.5,0.5,-1,0.5",
  ]
  assert (tmp_path / "ablation.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_on_real_digits(tmp_path, real_data):
  file = tmp_path / "mine.py"
  file.write_text(_MARGIN)
  command = [
    *(sys.executable, "-m", "experiments.margin_ablation", "--grid=mine"),
    f"--data_dir={real_data / 'tfds'}",
    f"--margin_file={file}",
    f"--workdir={tmp_path / 'out'}",
    *("--seeds=0,1", "--epochs=1", "--train_images=64", "--validation_images=30"),
  ]
  done = subprocess.run(
    command,
    cwd=pathlib.Path(__file__).resolve().parents[2],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert "mam_softmax kappa=2 margin_file" in done.stdout
  protocol = json.loads((tmp_path / "out" / "protocol.json").read_text())
  assert protocol["num_classes"] == 10
  records = ablation_records.read_records(tmp_path / "out" / "results.jsonl")
  assert len(records) == 2 * 4
  assert all(math.isfinite(record["loss"]) for record in records)
