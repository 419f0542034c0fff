"""TensorBoard and Weights & Biases: what their files hold, also of resumed runs."""

import importlib.util
import json
import logging
import re
import struct
import sys
import time

import event_files
import pytest
import tiny_workdir

from emosynth_jax.config import defaults
from emosynth_jax.workdir import metric_writer, tracking


def _config(**changes):
  config = tiny_workdir.change(defaults.get_default_config(), **changes)
  defaults.check_config(config)
  return config


def _write(config, workdir, steps, *, after=-1):
  """The records of a run that is resumed from the checkpoint of step `after`."""
  with metric_writer.open_writer(config, workdir) as writer:
    writer.rewind(after)
    writer.start_tracking()
    for step in steps:
      writer.write(step, {"train/loss": step / 4}, {"seconds": 0.5})


# The curve and the times of steps 2, 4, 6 and 8.
_CURVES = {
  "seconds": [(2, 0.5), (4, 0.5), (6, 0.5), (8, 0.5)],
  "train/loss": [(2, 0.5), (4, 1.0), (6, 1.5), (8, 2.0)],
}

wandb_only = pytest.mark.skipif(
  importlib.util.find_spec("wandb") is None,
  reason="wandb is missing: pip install -e '.[wandb]'",
)


@pytest.fixture(params=["ours", "TensorBoard"])
def curves(request):
  """Reads the curves, without and with the package tensorboard."""
  if request.param == "ours":
    return event_files.curves_of
  accumulators = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="tensorboard is missing: pip install -e '.[tensorboard]'",
  )

  def read(workdir):
    found = accumulators.EventAccumulator(str(workdir)).Reload()
    return {
      tag: [(event.step, event.value) for event in found.Scalars(tag)]
      for tag in found.Tags()["scalars"]
    }

  return read


@event_files.needs_tensorboardx
def test_event_files_have_both_kinds_of_record(tmp_path, curves):
  _write(_config(tensorboard=True), tmp_path, (2, 4, 6, 8))
  assert curves(tmp_path) == _CURVES


@event_files.needs_tensorboardx
def test_steps_that_a_resumed_run_repeats_are_shown_once(tmp_path, curves):
  config = _config(tensorboard=True)
  _write(config, tmp_path, (2, 4, 6))
  # Killed before the checkpoint of step 6; then stopped before any further record.
  _write(config, tmp_path, (), after=4)
  assert curves(tmp_path) == {name: points[:2] for name, points in _CURVES.items()}
  _write(config, tmp_path, (6, 8), after=4)
  assert len(list(tmp_path.glob("events.out.*"))) == 3
  assert curves(tmp_path) == _CURVES


@event_files.needs_tensorboardx
def test_event_files_begin_with_the_records_before_them(tmp_path, curves):
  _write(_config(), tmp_path, (2, 4))
  assert not list(tmp_path.glob("events.out.*"))
  _write(_config(tensorboard=True), tmp_path, (6, 8), after=4)
  assert curves(tmp_path) == _CURVES


@event_files.needs_tensorboardx
def test_each_event_is_on_disk_at_once(tmp_path):
  writer = metric_writer.open_writer(_config(tensorboard=True), tmp_path)
  writer.write(2, {"train/loss": float("nan")})
  ((step, loss),) = event_files.curves_of(tmp_path)["train/loss"]
  assert step == 2
  assert loss != loss
  writer.close()


def test_tracking_that_fails_does_not_end_the_run(tmp_path, caplog):
  class Full:
    def log(self, step, scalars):
      raise OSError(f"no space left at step {step}")

  with caplog.at_level(logging.WARNING):
    writer = metric_writer.MetricWriter(tmp_path, open_trackers=lambda _: [Full()])
    for step in (2, 4):
      writer.write(step, {"train/loss": 1.0})
  (message,) = [record.getMessage() for record in caplog.records]
  assert message == "Full, step 2: not tracked any more (no space left at step 2)"
  records = metric_writer.read_records(tmp_path / "metrics.jsonl")
  assert [record["step"] for record in records] == [2, 4]


@pytest.mark.parametrize(
  ("changes", "package", "extra"),
  [
    ({"tensorboard": True}, "tensorboardX", "tensorboard"),
    ({"wandb__mode": "offline"}, "wandb", "wandb"),
    ({"wandb__mode": "online"}, "wandb", "wandb"),
  ],
)
def test_a_missing_package_is_named_with_its_extra(
  monkeypatch, changes, package, extra
):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  tracking.check(_config())
  message = rf"^config\.\S+: the package {package} is missing: .*\.\[{extra}\]'$"
  with pytest.raises(ModuleNotFoundError, match=message):
    tracking.check(_config(**changes))


def test_by_default_no_tracking_is_imported(tmp_path, monkeypatch):
  for package in ("tensorboardX", "wandb"):
    monkeypatch.setitem(sys.modules, package, None)  # An import would fail.
  _write(_config(), tmp_path, (2,))
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "metrics.jsonl",
    "timing.jsonl",
  ]


# Weights & Biases. A run's file is a LevelDB log with a header of 7 bytes, in blocks of
# 32 KiB, of records with a checksum, a length and a type: whole, first, middle, last.


def _wandb_records(folder):
  """The records of a run's file, once the client's own process has written the last."""
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    records = list(_parse(folder))
    if any(record.HasField("exit") for record in records):
      return records
    time.sleep(0.05)
  raise TimeoutError(f"{folder}: a run without end")


def _parse(folder):
  from wandb.proto import wandb_internal_pb2

  (path,) = folder.glob("run-*.wandb")
  content, position, parts = path.read_bytes(), 7, b""
  while position < len(content):
    if (left := 32768 - position % 32768) < 7:
      position += left
      continue
    if len(content) < position + 7:
      return
    length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
    if len(content) < position + 7 + length:
      return
    parts += content[position + 7 : position + 7 + length]
    position += 7 + length
    if kind in (1, 4):
      yield wandb_internal_pb2.Record.FromString(parts)
      parts = b""


def _rows(folder):
  """The history of a run's file, by step."""
  found = {}
  for record in _wandb_records(folder):
    if record.HasField("history"):
      row = {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for item in record.history.item
      }
      found[row.pop("_step")] = {
        name: value for name, value in row.items() if not name.startswith("_")
      }
  return found


def _sessions(workdir):
  """The folders of a run's sessions, named by their time, in its order."""
  return sorted((workdir / "wandb").glob("offline-run-*"))


@pytest.fixture
def offline(monkeypatch):
  """A config with Weights & Biases offline, of nobody's account."""
  monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
  for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_ID", "WANDB_RUN_GROUP"):
    monkeypatch.delenv(name, raising=False)
  return _config(wandb__mode="offline", wandb__group="margins", seed=3)


@wandb_only
def test_an_offline_run_has_settings_names_and_records(tmp_path, offline):
  workdir = tmp_path / "runs" / "mine"
  _write(offline, workdir, (2, 4))
  (session,) = _sessions(workdir)
  assert _rows(session) == {
    2: {"train/loss": 0.5, "seconds": 0.5},
    4: {"train/loss": 1.0, "seconds": 0.5},
  }

  records = _wandb_records(session)
  (run,) = [record.run for record in records if record.HasField("run")]
  assert (run.project, run.run_group) == ("emosynth_jax", "margins")
  assert run.display_name == str(workdir)
  assert run.run_id == json.loads((workdir / "wandb.json").read_text())["id"]
  stored = {item.key: json.loads(item.value_json) for item in run.config.update}
  assert stored["seed"] == 3
  assert stored["optimizer"]["learning_rate"] == offline.optimizer.learning_rate
  assert [r.exit.exit_code for r in records if r.HasField("exit")] == [0]


@wandb_only
def test_a_resumed_run_continues_the_run_of_its_workdir(tmp_path, offline):
  _write(_config(), tmp_path, (2, 4))
  _write(offline, tmp_path, (6,), after=4)
  # Killed before the checkpoint of step 6, which is repeated.
  _write(offline, tmp_path, (6, 8), after=4)
  first, second = _sessions(tmp_path)
  # Tracked from step 6 on, with what was recorded before; then no step twice.
  assert list(_rows(first)) == [2, 4, 6]
  assert list(_rows(second)) == [8]
  ids = [
    record.run.run_id
    for session in (first, second)
    for record in _wandb_records(session)
    if record.HasField("run")
  ]
  assert len(ids) == 2
  assert len(set(ids)) == 1


@wandb_only
def test_the_report_is_in_the_summary(tmp_path, offline):
  summary = {
    "accuracy": 0.75,
    "balanced_accuracy": 0.5,
    "macro": {"f1": 0.25},
    "loss": 1.5,
  }
  tracking.log_report(offline, tmp_path, {"test": summary})
  assert not list(tmp_path.iterdir())  # It was not tracked in training.

  _write(offline, tmp_path, (2,))
  tracking.log_report(offline, tmp_path, {"test": summary})
  found = {
    "/".join(item.nested_key) or item.key: json.loads(item.value_json)
    for record in _wandb_records(_sessions(tmp_path)[-1])
    for item in record.summary.update
  }
  assert found["report/test/accuracy"] == 0.75
  assert found["report/test/macro_F1"] == 0.25


@wandb_only
def test_concurrent_seeds_have_a_run_each(tmp_path, offline):
  writers = [
    metric_writer.open_writer(offline, tmp_path / seed) for seed in ("seed0", "seed1")
  ]
  for step in (2, 4):
    for seed, writer in enumerate(writers):
      writer.write(step, {"train/loss": float(seed)})
  for writer in writers:
    writer.close()
  for seed in (0, 1):
    (session,) = _sessions(tmp_path / f"seed{seed}")
    losses = {step: row["train/loss"] for step, row in _rows(session).items()}
    assert losses == {2: seed, 4: seed}


@wandb_only
def test_online_needs_an_api_key(monkeypatch, tmp_path):
  import wandb

  monkeypatch.setattr(wandb, "login", lambda **_: False)
  with pytest.raises(ValueError, match=re.escape("run `wandb login`, set WANDB_API")):
    tracking.check(_config(wandb__mode="online"))
