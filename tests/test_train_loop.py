"""The training loop: epochs, stops and starts, on a network that compiles at once."""

import dataclasses
import functools
import importlib.util
import json
import os
import re
import shutil
import signal

import event_files
import jax
import numpy as np
import pytest
import tiny_network
import tiny_workdir
from tiny_workdir import restore

from emosynth_jax import data, evaluate, train_loop
from emosynth_jax.config import defaults
from emosynth_jax.data import deduplicate, run_data
from emosynth_jax.data.datasets import synthetic_faces
from emosynth_jax.training import (
  build,
  epoch,
  eval_step,
  initialization,
  programs,
  seeds,
)
from emosynth_jax.utils import progress
from emosynth_jax.utils.stop_signal import StopSignal
from emosynth_jax.workdir import record as run_record
from emosynth_jax.workdir.checkpoints import Checkpoints
from emosynth_jax.workdir.metric_writer import read_records

pytestmark = pytest.mark.usefixtures("tiny_networks", "without_plots")


def _config(**changes):
  """Three epochs of two steps."""
  settings = {"num_epochs": 3, "steps_per_call": 1, "input__second_scale_epoch": 2}
  config = tiny_workdir.config(**settings | changes)
  defaults.check_config(config)
  return config


def _assert_same_run(config, workdir, expected):
  assert (workdir / "metrics.jsonl").read_bytes() == (
    expected / "metrics.jsonl"
  ).read_bytes()
  for kind in ("last", "best"):
    states = [restore(config, folder, kind) for folder in (workdir, expected)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def _stop_after_steps(patch, is_last=lambda done: True):
  """Sends a real SIGTERM just after a step, given the number of those that are done."""
  patch.setattr(
    progress.Progress,
    "update",
    lambda self, done, *_, **__: is_last(done) and os.kill(os.getpid(), signal.SIGTERM),
  )


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_networks):
  """The workdir of a run that nothing interrupted."""
  workdir = tmp_path_factory.mktemp("whole")
  assert train_loop.train(_config(), workdir)
  return workdir


def test_a_command_loads_and_checksums_each_split_once(tmp_path, monkeypatch):
  loaded, checksummed = [], []
  load_splits, fingerprint = data.load_splits, run_data.fingerprint

  def count_load(name, data_dir, splits, **options):
    loaded.extend(splits)
    return load_splits(name, data_dir, splits, **options)

  def count_checksums(datasets):
    checksummed.extend(datasets)
    return fingerprint(datasets)

  monkeypatch.setattr(data, "load_splits", count_load)
  monkeypatch.setattr(run_data, "fingerprint", count_checksums)
  config = _config(num_epochs=1, evaluate_deduplicated=True)
  load = run_data.shared_loader(config)
  assert train_loop.train(config, tmp_path, load=load)
  report = evaluate.evaluate_run(config, tmp_path, load=load)
  assert set(report["splits"]) == {"validation", "test"}
  assert sorted(loaded) == sorted(checksummed) == ["test", "train", "validation"]


def test_a_run_leaves_a_record_an_epoch_and_its_checkpoints(whole):
  records = read_records(whole / "metrics.jsonl")
  assert [(r["step"], r["epoch"]) for r in records] == [(2, 1), (4, 2), (6, 3)]
  last, best = (restore(_config(), whole, kind) for kind in ("last", "best"))
  assert (int(last.step), int(last.epoch)) == (6, 3)
  accuracies = [r["validation/accuracy"] for r in records]
  assert int(best.best_epoch) == int(best.epoch) == 1 + int(np.argmax(accuracies))
  assert float(best.best_value) == pytest.approx(max(accuracies))
  # The scale that the network was trained with goes with it: 1/512 from epoch 2 on.
  assert float(last.input_scale) == pytest.approx(1 / 512)


def _count_compilations(monkeypatch, config, workdir, **arguments):
  """Programs that each epoch of a training compiled, by number of the epoch."""
  compiled = [0]

  def count(event, duration, **about):
    if event == "/jax/core/compile/backend_compile_duration":
      compiled[-1] += 1

  monkeypatch.setattr(epoch, "log", lambda *_, **__: compiled.append(0))
  jax.monitoring.register_event_duration_secs_listener(count)
  try:
    assert train_loop.train(config, workdir, **arguments)
  finally:
    jax.monitoring.unregister_event_duration_listener(count)
  return compiled[:-1]


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"selection_metric": "loss", "data__pipeline": "grain"},
    {"optimizer__name": "sgd", "schedule__name": "cosine", "plateau__patience": 0},
  ],
  ids=["plateau", "streamed", "schedule"],
)
def test_nothing_compiles_after_the_first_epoch(tmp_path, monkeypatch, changes):
  config = _config(num_epochs=4, **changes)
  # A cold start: else an earlier test's programs would be counted as compiled.
  jax.clear_caches()
  first, *later = _count_compilations(monkeypatch, config, tmp_path)
  assert first > 0
  assert later == [0, 0, 0]


def test_with_progressive_resizing_the_third_epoch_compiles_once(tmp_path, monkeypatch):
  config = _config(
    num_epochs=4,
    model={"name": "tiny_maps", "dtype": "float32"},
    progressive_resizing__epochs=2,
    progressive_resizing__side=24,
  )
  jax.clear_caches()
  first, second, third, fourth = _count_compilations(monkeypatch, config, tmp_path)
  assert first > 1
  assert (second, third, fourth) == (0, 1, 0)


def test_a_finished_run_stays_as_it_is(whole):
  before = (whole / "metrics.jsonl").read_bytes()
  assert train_loop.train(_config(), whole)
  assert (whole / "metrics.jsonl").read_bytes() == before


def test_stopped_at_every_step_it_comes_to_the_same_end(whole, tmp_path, monkeypatch):
  # After the last step of an epoch too: the epoch's validation must then neither be
  # lost nor be done twice.
  _stop_after_steps(monkeypatch)
  handler = signal.getsignal(signal.SIGTERM)
  for stops in range(1, 7):
    assert not train_loop.train(_config(), tmp_path)
    assert signal.getsignal(signal.SIGTERM) == handler
    assert int(restore(_config(), tmp_path, "last").step) == stops
    # Two steps an epoch: the stop does not wait for the validation of the second one.
    path = tmp_path / "metrics.jsonl"
    assert len(read_records(path) if path.exists() else []) == (stops - 1) // 2
  assert train_loop.train(_config(), tmp_path)
  _assert_same_run(_config(), tmp_path, whole)


def test_validated_every_second_epoch_it_trains_the_same_and_resumes(
  whole, tmp_path, monkeypatch
):
  config = _config(evaluate_every=2)
  assert train_loop.train(config, tmp_path / "whole")
  records = read_records(tmp_path / "whole" / "metrics.jsonl")
  # Of three epochs the last one too. The plateau has no patience to lose in them.
  assert ["validation/loss" in record for record in records] == [False, True, True]
  expected = read_records(whole / "metrics.jsonl")
  for every, found in zip(expected, records, strict=True):
    assert found == {name: every[name] for name in found}
  last = restore(config, tmp_path / "whole", "last")
  assert int(last.best_epoch) in (2, 3)
  # It would have validated the second and the fourth.
  with pytest.raises(ValueError, match="num_epochs is 4, was 3"):
    train_loop.train(_config(evaluate_every=2, num_epochs=4), tmp_path / "whole")

  # Stopped after the last step of the epoch without validation.
  with monkeypatch.context() as patch:
    _stop_after_steps(patch, lambda done: done == 2)
    assert not train_loop.train(config, tmp_path / "stopped")
  assert train_loop.train(config, tmp_path / "stopped")
  _assert_same_run(config, tmp_path / "stopped", tmp_path / "whole")


@event_files.needs_tensorboardx
def test_event_files_of_a_resumed_run_show_each_epoch_once(tmp_path, monkeypatch):
  config = _config(tensorboard=True)
  with monkeypatch.context() as patch:
    # Killed after the second epoch's record, before its checkpoint.
    patch.setattr(Checkpoints, "save", _save_until_step_4)
    with pytest.raises(OSError, match="disk full"):
      train_loop.train(config, tmp_path)
  assert len(read_records(tmp_path / "metrics.jsonl")) == 2
  assert train_loop.train(config, tmp_path)

  records = read_records(tmp_path / "metrics.jsonl")
  shown = event_files.curves_of(tmp_path)
  assert len(records) == 3
  for name in ("train/loss", "validation/accuracy"):
    steps, values = zip(*shown[name], strict=True)
    assert steps == (2, 4, 6), name
    assert values == pytest.approx([record[name] for record in records]), name
  assert [step for step, _ in shown["seconds"]] == [2, 4, 6]


def _save_until_step_4(self, kind, state, **options):
  if kind == "last" and int(state.step) == 4:
    raise OSError("disk full")
  return _SAVE(self, kind, state, **options)


_SAVE = Checkpoints.save


def test_a_missing_tracking_package_is_said_before_data_is_read(tmp_path, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  monkeypatch.setattr(data, "load_splits", None)
  with pytest.raises(ModuleNotFoundError, match=r"config\.wandb\.mode: the package"):
    train_loop.train(_config(wandb__mode="offline"), tmp_path / "new")
  assert not (tmp_path / "new").exists()


def test_killed_before_an_epochs_last_save_it_comes_to_the_same_end(
  whole, tmp_path, monkeypatch
):
  """The epoch's record and best are there; what resumes is from before both."""
  config = _config()
  with monkeypatch.context() as patch:
    # Stopped after the last step of the first epoch, before its validation.
    stops = iter([False, True])
    _stop_after_steps(patch, lambda done: next(stops))
    assert not train_loop.train(config, tmp_path)

  save = Checkpoints.save

  def break_down(self, kind, state, *, replace=False):
    if replace:
      raise KeyboardInterrupt
    save(self, kind, state)

  with monkeypatch.context() as patch:
    patch.setattr(Checkpoints, "save", break_down)
    with pytest.raises(KeyboardInterrupt):
      train_loop.train(config, tmp_path)
  assert [r["epoch"] for r in read_records(tmp_path / "metrics.jsonl")] == [1]
  assert int(restore(config, tmp_path, "last").epoch) == 0
  assert int(restore(config, tmp_path, "best").epoch) == 1
  assert train_loop.train(config, tmp_path)
  _assert_same_run(config, tmp_path, whole)


@pytest.mark.parametrize(
  "ended_by", [pytest.param("error", marks=pytest.mark.slow), "kill", "stop"]
)
def test_epochs_that_share_a_checkpoint_come_to_the_same_end(
  whole, tmp_path, monkeypatch, ended_by
):
  config = _config(checkpoint__min_seconds=1e6)
  log = epoch.log

  def end_after_epoch_2(record, *, is_best):
    log(record, is_best=is_best)
    if record["epoch"] == 2:
      if ended_by == "stop":
        return os.kill(os.getpid(), signal.SIGTERM)
      raise KeyboardInterrupt

  close = Checkpoints.close

  def lose_held(self):
    self._held_best = None
    close(self)

  # By the loss every epoch is the best one.
  config.selection_metric = "loss"
  monkeypatch.setattr(epoch, "log", end_after_epoch_2)
  if ended_by == "kill":
    monkeypatch.setattr(Checkpoints, "close", lose_held)
  if ended_by == "stop":
    assert not train_loop.train(config, tmp_path)
  else:
    with pytest.raises(KeyboardInterrupt):
      train_loop.train(config, tmp_path)
  monkeypatch.undo()
  assert len(read_records(tmp_path / "metrics.jsonl")) == 2
  steps = [int(restore(config, tmp_path, kind).step) for kind in ("last", "best")]
  assert steps == {"error": [2, 4], "kill": [2, 2], "stop": [4, 4]}[ended_by]

  assert train_loop.train(config, tmp_path)
  expected = _config(selection_metric="loss")
  assert (whole / "metrics.jsonl").read_bytes() == (
    tmp_path / "metrics.jsonl"
  ).read_bytes()
  last, best = (restore(expected, tmp_path, kind) for kind in ("last", "best"))
  jax.tree.map(
    np.testing.assert_array_equal, last.params, restore(_config(), whole, "last").params
  )
  losses = [r["validation/loss"] for r in read_records(whole / "metrics.jsonl")]
  assert int(best.epoch) == int(last.best_epoch) == 1 + int(np.argmin(losses))


def test_a_stop_saves_from_the_message_of_the_first_steps_on(tmp_path, monkeypatch):
  stop, seen = StopSignal(), []
  stop.at_once = lambda: None  # A command's: a signal ends it without a save.
  info = train_loop.logging.info

  def log(text, *arguments):
    seen.append((text, stop.at_once))
    info(text, *arguments)

  monkeypatch.setattr(train_loop.logging, "info", log)
  assert train_loop.train(_config(num_epochs=1), tmp_path, stop=stop)
  (after,) = [at_once for text, at_once in seen if "training steps done" in text]
  assert after is None
  assert stop.at_once is not None


@pytest.mark.parametrize("moment", ["validation", "last save"])
def test_a_stop_after_the_last_step_begins_nothing_more(
  whole, tmp_path, monkeypatch, moment
):
  config = _config()
  begun, evaluated = [], []

  def run_one(own, workdir):
    begun.append(own.seed)
    if not train_loop.train(own, workdir):
      return None
    evaluated.append(own.seed)
    return {}

  def stop():
    os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    if moment == "validation":
      end = epoch.end

      def end_and_stop(state, *arguments):
        if int(state.step) == 6:
          stop()
        return end(state, *arguments)

      patch.setattr(epoch, "end", end_and_stop)
    else:
      close = Checkpoints.close
      patch.setattr(Checkpoints, "close", lambda self: (close(self), stop()))
    assert seeds.run_seeds(config, [0, 1], lambda s: tmp_path / f"{s}", run_one) is None
  assert (begun, evaluated) == ([0], [])
  assert not (tmp_path / "1").exists()
  # Nothing is lost: the same command finds the training whole.
  assert train_loop.train(config, tmp_path / "0")
  _assert_same_run(config, tmp_path / "0", whole)


@pytest.mark.parametrize(
  ("changes", "text"),
  [
    ({"loss": {"name": "arcfase"}}, "did you mean arcface"),
    ({"data__name": "fer2012"}, "did you mean fer2013"),
    ({"data__options": {"lazy": 1}}, "unknown option lazy"),
    ({"model__featurs": 1}, r"'featurs'.* did you mean features\?"),
    ({"init_from": "nowhere"}, "nowhere has no best checkpoint"),
    ({"pretrained__file": "nothing.npz"}, "no file nothing.npz"),
    (
      {"data__label_noise": {"rate": 0.0, "confusion": ("a:b",), "seed": 0}},
      "got 'a:b",
    ),
  ],
)
def test_names_are_checked_before_any_data_is_read(tmp_path, changes, text):
  def load(mesh):
    raise AssertionError("the data was read")

  with pytest.raises((ValueError, FileNotFoundError), match=text):
    train_loop.train(_config(**changes), tmp_path / "run", load=load)
  assert not (tmp_path / "run").exists()


def test_a_run_that_fails_before_its_first_steps_leaves_nothing(tmp_path):
  def load(mesh):
    assert (tmp_path / "run" / ".lock").exists()
    raise ValueError("the data is damaged")

  for folder in ("run", "run"):
    with pytest.raises(ValueError, match="the data is damaged"):
      train_loop.train(_config(), tmp_path / folder, load=load)
    assert list(tmp_path.iterdir()) == []
  # What a user has there stays.
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "notes.txt").write_text("mine")
  with pytest.raises(ValueError, match="the data is damaged"):
    train_loop.train(_config(), tmp_path / "run", load=load)
  assert [path.name for path in (tmp_path / "run").iterdir()] == ["notes.txt"]


def test_a_failed_save_does_not_hide_why_the_run_failed(tmp_path, monkeypatch, caplog):
  def break_down(*arguments, **keywords):
    raise RuntimeError("the device broke")

  def close(self):
    raise RuntimeError("a save broke too")

  monkeypatch.setattr(progress.Progress, "update", break_down)
  monkeypatch.setattr(Checkpoints, "close", close)
  with pytest.raises(RuntimeError, match="the device broke"):
    train_loop.train(_config(), tmp_path)
  assert "The save in progress failed (a save broke too)" in caplog.text


def test_more_epochs_go_on_from_the_last_one(whole, tmp_path):
  assert train_loop.train(_config(num_epochs=1), tmp_path)
  assert len(read_records(tmp_path / "metrics.jsonl")) == 1
  assert train_loop.train(_config(), tmp_path)
  _assert_same_run(_config(), tmp_path, whole)


# The loss keeps two states, a margin's running means and the class centers.
_MODERN = {
  "loss": {"name": "mam_softmax_class_ema+center_loss", "decay": 0.5},
  "optimizer__name": "sgd",
  "optimizer__weight_decay": 1e-3,
  "schedule__name": "cosine",
  "schedule__warmup_epochs": 1.5,
  "plateau__patience": 0,
  "ema_decay": 0.9,
  "augment__crop_padding": 2,
  "augment__cutout_side": 5,
}


@pytest.mark.parametrize(
  "pipeline", ["resident", pytest.param("grain", marks=pytest.mark.slow)]
)
def test_a_run_trains_under_64_bits(tmp_path, pipeline):
  """JAX_ENABLE_X64 is set by those who follow the losses in float64."""
  config = _config(num_epochs=1, data__pipeline=pipeline, **_MODERN)
  with jax.enable_x64(True):
    assert train_loop.train(config, tmp_path)
    report = evaluate.evaluate_run(config, tmp_path)
  assert np.isfinite(report["splits"]["test"]["loss"])
  state = restore(config, tmp_path, "last")
  assert {leaf.dtype.itemsize for leaf in jax.tree.leaves(state)} == {4}


@pytest.fixture(scope="module")
def modern(tmp_path_factory, tiny_networks):
  """The workdir of an uninterrupted run with a schedule, averages and loss states."""
  workdir = tmp_path_factory.mktemp("modern")
  assert train_loop.train(_config(**_MODERN), workdir)
  return workdir


def test_a_scheduled_and_averaged_run_resumes_to_the_same_end(
  modern, tmp_path, monkeypatch
):
  config = _config(**_MODERN)
  with monkeypatch.context() as patch:
    _stop_after_steps(patch)
    for _ in range(3):  # within the warm-up and at an epoch's end, in the second epoch
      assert not train_loop.train(config, tmp_path)
  margins, centers = restore(config, tmp_path, "last").loss_state
  assert np.any(margins)
  assert np.any(centers)
  assert train_loop.train(config, tmp_path)
  _assert_same_run(config, tmp_path, modern)


def test_the_rates_of_a_scheduled_run_are_in_its_record(modern):
  rates = [r["learning_rate"] for r in read_records(modern / "metrics.jsonl")]
  # Steps 1, 3 and 5: two thirds of the way up, and the ends of the cosine of 3 steps.
  expected = [2 / 3, 1, (1 + np.cos(2 / 3 * np.pi)) / 2]
  np.testing.assert_allclose(rates, 1e-3 * np.array(expected), rtol=1e-5)


def test_validation_report_and_fine_tuning_take_the_averages(modern, tmp_path):
  config = _config(**_MODERN)
  best = restore(config, modern, "best")
  assert best.ema is not None
  plain = best.replace(ema=None)
  averaged = plain.replace(**best.ema)
  built = build.build_experiment(config, image_shape=(48, 48, 1), num_classes=7)
  splits = run_data.load_data(config, ("train", "validation"))
  judge = tiny_network.build_evaluate(
    built, class_names=splits["train"].class_names, batch_size=14
  )
  validation = splits["validation"]
  of_plain, of_averages = (
    judge(state, validation.images, validation.labels) for state in (plain, averaged)
  )
  assert of_plain["loss"] != pytest.approx(of_averages["loss"], rel=1e-4)
  records = read_records(modern / "metrics.jsonl")
  assert records[int(best.best_epoch) - 1]["validation/loss"] == pytest.approx(
    of_averages["loss"], rel=1e-6
  )
  report = evaluate.evaluate_run(config, modern)
  assert report["splits"]["validation"]["loss"] == pytest.approx(
    of_averages["loss"], rel=1e-6
  )
  assert "test_time_augmentation" not in report["splits"]["validation"]
  tuned = initialization.init_from(
    modern,
    build.create_state(built, seed=9),
    class_names=splits["train"].class_names,
    model=config.model.to_dict(),
  )
  for variables in (tuned.variables, tuned.ema):
    jax.tree.map(np.testing.assert_array_equal, variables, best.ema)


def test_test_time_augmentation_is_reported_beside_the_plain_figure(modern):
  plain = evaluate.evaluate_run(_config(**_MODERN), modern)["splits"]
  # It may be asked for after the training.
  config = _config(**_MODERN, eval_augment="ten_crop")
  report = evaluate.evaluate_run(config, modern)
  text = (modern / "report.txt").read_text()
  assert (
    text.count("test-time augmentation (mean probability over ten crops, 43x43") == 2
  )
  for name, summary in report["splits"].items():
    augmented = summary.pop("test_time_augmentation")
    assert augmented["name"] == "ten_crop"
    assert augmented["loss"] != summary["loss"]
    assert f"loss {augmented['loss']:.4f}" in text
    assert summary == plain[name]
  assert "averaged with decay 0.9" in text


def test_deduplicated_metrics_stand_beside_those_with_them(
  whole, tmp_path, monkeypatch, caplog
):
  seen = []

  def find_groups(datasets, **thresholds):
    seen.append(([dataset.split for dataset in datasets], thresholds))
    train, validation, test = np.split(np.arange(42), 3)
    # Three of the test images are shown in train and one in validation.
    test[:4] = [*train[:3], validation[5]]
    return [train, validation, test]

  monkeypatch.setattr(deduplicate, "duplicate_groups", find_groups)
  # It may be asked for after the training.
  report = evaluate.evaluate_run(_config(evaluate_deduplicated=True), whole)
  assert seen == [
    (["train", "validation", "test"], {"max_distance": 12, "min_correlation": 0.9})
  ]
  rest = {name: s.pop("deduplicated") for name, s in report["splits"].items()}
  assert [(s["num_left_out"], s["num_examples"]) for s in rest.values()] == [
    (0, 14),
    (4, 10),
  ]
  assert rest["validation"] == {
    "num_left_out": 0,
    **report["splits"]["validation"],
  }
  text = (whole / "report.txt").read_text()
  (figure,) = re.findall(r"accuracy, deduplicated \(4 images removed\) +(\S+) %", text)
  assert figure == f"{100 * rest['test']['accuracy']:.2f}"
  assert report["batch_invariance"]["passed"]
  assert report["batch_invariance"]["split"] == "validation"
  assert len(re.findall(r"batch invariance +holds", text)) == 1

  # What a first network has seen is not searched, and that is said.
  warning = "only the network it started from was trained on"
  assert warning not in caplog.text
  monkeypatch.setattr(evaluate.run_record, "check_same_config", lambda *_: None)
  copy = shutil.copytree(whole, tmp_path / "copy")
  evaluate.evaluate_run(_config(evaluate_deduplicated=True, init_from="first"), copy)
  assert warning in caplog.text


def test_pixel_forms_are_recorded_reported_and_compared(
  whole, tmp_path, monkeypatch, caplog
):
  load = synthetic_faces.load

  @functools.wraps(load)
  def load_with_forms(data_dir, split, **options):
    dataset = load(data_dir, split, **options)
    forms = np.full(14, split == "test", np.uint8)
    forms[:3] = 2
    return dataclasses.replace(dataset, pixel_forms=forms)

  monkeypatch.setattr(synthetic_faces, "load", load_with_forms)
  original = {"original": 11, "equalized": 0, "unknown": 3}
  equalized = {"original": 0, "equalized": 11, "unknown": 3}

  assert train_loop.train(_config(num_epochs=1), tmp_path)
  (line,) = run_record.read_provenance(tmp_path)
  counts = {"train": original, "validation": original, "test": equalized}
  assert line["pixel_forms"] == counts
  stored = json.loads((tmp_path / "data.json").read_text())
  assert {name: split["pixel_forms"] for name, split in stored.items()} == counts
  (said,) = [r.getMessage() for r in caplog.records if r.module == "fingerprints"]
  assert "trained on 11 original and 3 unknown images and is evaluated (test)" in said

  # A run of before forms were looked at is evaluated all the same.
  report = evaluate.evaluate_run(_config(), whole)
  assert report["pixel_forms"] == {"validation": original, "test": equalized}
  text = (whole / "report.txt").read_text()
  rows = re.findall(r"^pixel form +(.+)$", text, re.MULTILINE)
  assert rows == ["11 original and 3 unknown", "11 equalized and 3 unknown"]


def test_answers_that_depend_on_the_batch_end_in_an_error(whole, monkeypatch):
  plain = tiny_network.TinyNetwork.__call__

  def look_at_neighbors(self, images, *, train):
    logits, out = plain(self, images, train=train)
    return logits + jax.numpy.roll(logits, 1, axis=0), out

  monkeypatch.setattr(tiny_network.TinyNetwork, "__call__", look_at_neighbors)
  (whole / "report.json").unlink(missing_ok=True)
  with pytest.raises(ValueError, match=r"depend on the other images.*report\.json"):
    evaluate.evaluate_run(_config(), whole)
  # The report is there all the same, and says so.
  report = json.loads((whole / "report.json").read_text())
  assert not report["batch_invariance"]["passed"]
  assert "FAILS" in (whole / "report.txt").read_text()


def test_a_cosine_cannot_be_lengthened(modern):
  with pytest.raises(ValueError, match="num_epochs is 4, was 3"):
    train_loop.train(_config(**_MODERN | {"num_epochs": 4}), modern)


def test_a_damaged_last_checkpoint_costs_steps_and_no_result(whole, tmp_path, caplog):
  config = _config(checkpoint__minutes=0.0)  # saves after every step
  assert train_loop.train(_config(num_epochs=2, checkpoint__minutes=0.0), tmp_path)
  folder = tmp_path / "checkpoints/last/4"
  for path in folder.rglob("*"):
    if path.is_file() and "digest" not in path.parts:
      path.write_bytes(b"")
  assert train_loop.train(config, tmp_path)
  assert "last/4 is damaged" in caplog.text
  _assert_same_run(config, tmp_path, whole)


def test_settings_that_fail_at_once_bind_no_workdir(tmp_path):
  with pytest.raises(ValueError, match=r"config\.batch_size: .* 14 training images"):
    train_loop.train(_config(batch_size=15), tmp_path)
  with pytest.raises(ValueError, match="unknown loss"):
    train_loop.train(_config(loss__name="typing error"), tmp_path)
  with pytest.raises(epoch.NonFiniteError, match="step 0: "):
    train_loop.train(_config(input__scale=3e38), tmp_path)
  assert train_loop.train(_config(num_epochs=1), tmp_path)
  with pytest.raises(ValueError, match="batch_size is 5, was 7"):
    train_loop.train(_config(batch_size=5), tmp_path)


def test_a_workdir_of_other_settings_is_refused_and_stays(whole):
  before = {p: p.read_bytes() for p in sorted(whole.rglob("*")) if p.is_file()}
  message = r"config mismatch with .*: model\.features is 5, was 4"
  for run in (train_loop.train, evaluate.evaluate_run):
    with pytest.raises(ValueError, match=message):
      run(_config(model__features=5), whole)
  assert before == {p: p.read_bytes() for p in sorted(whole.rglob("*")) if p.is_file()}


def test_a_validation_loss_that_is_not_finite_ends_the_run(tmp_path, monkeypatch):
  config = _config()
  real = eval_step.build_evaluation

  def broken(*arguments, **keywords):
    evaluation = real(*arguments, **keywords)

    def of_split(dataset):
      evaluate = evaluation(dataset)

      def evaluate_epoch(state):
        summary = evaluate(state)
        return summary | ({"loss": float("nan")} if int(state.step) == 4 else {})

      return evaluate_epoch

    return of_split

  monkeypatch.setattr(programs, "build_evaluation", broken)
  with pytest.raises(
    epoch.NonFiniteError, match=r"step 4: validation loss nan at learning rate 0\.001"
  ):
    train_loop.train(config, tmp_path)
  assert len(read_records(tmp_path / "metrics.jsonl")) == 1
  assert int(restore(config, tmp_path, "last").step) == 2


@pytest.mark.parametrize(
  ("steps_per_epoch", "steps_per_call", "expected"),
  [
    (12, 12, 12),
    (12, 100, 12),
    (12, 5, 4),
    (448, 10, 8),
    (448, 0, 8),  # ten on a CPU
    (13, 10, 10),  # a prime: a shorter last call rather than thirteen calls
    (3, 2, 2),
    (1, 10, 1),
  ],
)
def test_a_call_takes_a_divisor_of_the_epoch(steps_per_epoch, steps_per_call, expected):
  if not steps_per_call and jax.default_backend() != "cpu":
    expected = steps_per_epoch
  assert programs.chunk_length(steps_per_epoch, steps_per_call) == expected


@pytest.mark.parametrize("pipeline", ["resident", "grain"])
def test_first_epochs_train_on_resized_images(tmp_path, monkeypatch, pipeline):
  """The sides that the network is traced with, in order, also by a resumed run."""
  sides = []
  call = tiny_network.TinyMaps.__call__

  def noted(self, images, *, train):
    if train:
      sides.append(images.shape[1:3])
    return call(self, images, train=train)

  monkeypatch.setattr(tiny_network.TinyMaps, "__call__", noted)
  config = _config(
    data__pipeline=pipeline,
    model={"name": "tiny_maps", "dtype": "float32"},
    progressive_resizing__epochs=2,
    progressive_resizing__side=24,
  )
  with monkeypatch.context() as patch:
    _stop_after_steps(patch, lambda done: done == 3)
    assert not train_loop.train(config, tmp_path)
  assert set(sides) == {(24, 24)}

  sides.clear()
  assert train_loop.train(config, tmp_path)
  assert list(dict.fromkeys(sides)) == [(24, 24), (48, 48)]


def test_sizes_that_do_not_suit_are_refused_before_anything_is_written(tmp_path):
  config = _config(progressive_resizing__epochs=2, progressive_resizing__side=48)
  with pytest.raises(ValueError, match="expected less than the images' side, 48"):
    train_loop.train(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()
