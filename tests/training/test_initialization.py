"""Starting from another run's best checkpoint: what is taken over, what is refused."""

import json
import logging
import re
import shutil

import jax
import numpy as np
import pytest
import tiny_network
import tiny_workdir

from emosynth_jax import evaluate, models, train_loop
from emosynth_jax.config import defaults
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.training import initialization
from emosynth_jax.workdir import record as run_record
from emosynth_jax.workdir.checkpoints import CheckpointError

_OLD_CLASSES = ("angry", "sad", "fear")
_MODEL = {"name": "tiny", "features": 5, "dropout_rate": 0.0}


def _config(model=None):
  config = defaults.get_default_config()
  config.model = dict(model or _MODEL)
  return config


def _write_run(workdir, state, class_names=_OLD_CLASSES, pixel_forms=None):
  """What a training leaves in its workdir, as far as it is needed here."""
  dataset = Dataset(
    images=np.zeros((1, *tiny_network.IMAGE_SHAPE), np.uint8),
    labels=np.zeros(1, np.int32),
    class_names=class_names,
    split="train",
    sources=("",),
    pixel_forms=pixel_forms,
  )
  tiny_workdir.write(workdir, _config(), state, {"train": dataset})


@pytest.fixture(scope="module")
def old():
  """A trained state: no array is what any initialization gives."""
  state = tiny_network.create_state(seed=1)
  change = lambda tree: jax.tree.map(lambda x: x + 0.25, tree)  # noqa: E731
  return state.replace(
    params=change(state.params), batch_stats=change(state.batch_stats)
  )


@pytest.fixture(scope="module")
def run(tmp_path_factory, old):
  workdir = tmp_path_factory.mktemp("run")
  _write_run(workdir, old)
  return workdir


def _init(run, class_names=_OLD_CLASSES, state=None, model=_MODEL):
  return initialization.init_from(
    run,
    state or tiny_network.create_state(),
    class_names=class_names,
    model=model,
  )


def test_the_same_classes_take_all_and_the_optimizer_starts_anew(run, old):
  fresh = tiny_network.create_state()
  state = _init(run)
  jax.tree.map(np.testing.assert_array_equal, state.params, old.params)
  jax.tree.map(np.testing.assert_array_equal, state.batch_stats, old.batch_stats)
  expected = fresh.replace(params=state.params, batch_stats=state.batch_stats)
  assert jax.tree.structure(state) == jax.tree.structure(fresh)
  jax.tree.map(np.testing.assert_array_equal, state, expected)


def test_columns_follow_the_names_and_new_classes_stay_random(run, old, caplog):
  names = ("fear", "happy", "angry", "neutral")
  fresh = tiny_network.create_state(tiny_network.TinyNetwork(num_classes=4))
  with caplog.at_level(logging.INFO):
    state = _init(run, names, fresh)
  for key in ("kernel", "bias"):
    found, before = (np.asarray(s.params["logits"][key]) for s in (state, fresh))
    source = np.asarray(old.params["logits"][key])
    # Old columns: angry 0, sad 1, fear 2.
    np.testing.assert_array_equal(found[..., 0], source[..., 2])
    np.testing.assert_array_equal(found[..., 2], source[..., 0])
    np.testing.assert_array_equal(found[..., [1, 3]], before[..., [1, 3]])
  np.testing.assert_array_equal(
    state.params["Dense_0"]["kernel"], old.params["Dense_0"]["kernel"]
  )
  for part in ("transferred: fear, angry;", "new: happy, neutral;", "unused: sad."):
    assert part in caplog.text


def test_columns_follow_other_names_of_the_classes(run, old, caplog):
  with caplog.at_level(logging.INFO):
    state = _init(run, ("Fearful", "Anger", "sadness"))
  kernel = np.asarray(old.params["logits"]["kernel"])
  np.testing.assert_array_equal(state.params["logits"]["kernel"], kernel[:, [2, 0, 1]])
  assert "Fearful (from fear), Anger (from angry), sadness (from sad)" in caplog.text


@pytest.mark.parametrize(
  ("network", "message"),
  [
    (
      {"features": 6},
      # And its scale, mean and variance, and two kernels.
      r"params/BatchNorm_0/bias is \(5\) there and \(6\) here; 5 more arrays differ",
    ),
    ({}, r"model\.norm_order is None there and 'last' here"),
  ],
)
def test_another_network_is_refused_by_its_first_layer(run, network, message):
  state = tiny_network.create_state(tiny_network.TinyNetwork(**network))
  model = _MODEL if network else _MODEL | {"norm_order": "last"}
  with pytest.raises(ValueError, match=message) as error:
    _init(run, state=state, model=model)
  assert f"network mismatch with {run}" in str(error.value)


def test_a_default_may_be_written_out(tmp_path, old, monkeypatch):
  monkeypatch.setitem(models.MODELS, "tiny", tiny_network.TinyNetwork)
  _write_run(tmp_path, old)
  brief = {k: v for k, v in _MODEL.items() if k != "features"}
  _init(tmp_path, model=brief)
  with pytest.raises(ValueError, match=r"model\.features is 5 there and 6 here"):
    _init(tmp_path, model=_MODEL | {"features": 6})


def test_what_only_changes_training_may_differ(run):
  _init(run, model=_MODEL | {"dropout_rate": 0.5, "dtype": "bfloat16"})


def test_a_layer_that_one_side_lacks_is_named(tmp_path, old):
  extra = old.params | {"Dense_9": {"bias": np.zeros(3, np.float32)}}
  _write_run(tmp_path, old.replace(params=extra))
  with pytest.raises(
    ValueError, match=r"params/Dense_9/bias is \(3\) there and absent here"
  ):
    _init(tmp_path)


def test_a_folder_without_a_trained_run(tmp_path, run):
  with pytest.raises(
    FileNotFoundError, match=r"workdir of a trained run, .*data\.json"
  ):
    _init(tmp_path / "nowhere")
  assert not (tmp_path / "nowhere").exists()
  shutil.copytree(run, tmp_path / "run")
  shutil.rmtree(tmp_path / "run/checkpoints")
  with pytest.raises(FileNotFoundError, match="has no best checkpoint; train it"):
    _init(tmp_path / "run")
  (tmp_path / "run/data.json").write_text("{")
  with pytest.raises(ValueError, match=r"data\.json is damaged"):
    _init(tmp_path / "run")


def test_a_damaged_checkpoint_is_not_started_from(tmp_path, run, old):
  shutil.copytree(run, tmp_path / "run")
  damaged = shutil.copytree(
    tmp_path / "run/checkpoints/best/0", tmp_path / "run/checkpoints/best/1"
  )
  for path in damaged.rglob("*"):
    if path.is_file() and "digest" not in path.parts:
      path.write_bytes(b"")
  state = _init(tmp_path / "run")
  jax.tree.map(np.testing.assert_array_equal, state.params, old.params)
  shutil.rmtree(tmp_path / "run/checkpoints/best/0")
  with pytest.raises(CheckpointError, match=r"every checkpoint .* is damaged"):
    _init(tmp_path / "run")
  assert damaged.is_dir()  # The other run's folder is only read.


@pytest.mark.usefixtures("tiny_networks", "without_plots")
def test_a_run_starts_there_once_and_resumes_without_it(tmp_path):
  config = _config({"name": "tiny", "features": 4, "dtype": "float32"})
  config.data.options.num_examples = 14
  config.batch_size = 7
  config.num_epochs = 1
  config.steps_per_call = 1
  assert train_loop.train(config, tmp_path / "old")
  second = config.copy_and_resolve_references()
  second.seed = 5
  second.init_from = str(tmp_path / "old")
  second.optimizer.learning_rate = 1e-9
  defaults.check_config(second)
  assert train_loop.train(second, tmp_path / "new")

  close = lambda x, y: np.testing.assert_allclose(x, y, atol=1e-7)  # noqa: E731
  jax.tree.map(
    close,
    tiny_workdir.restore(config, tmp_path / "new", "last").params,
    tiny_workdir.restore(config, tmp_path / "old", "best").params,
  )
  shutil.rmtree(tmp_path / "old")
  second.num_epochs = 2
  assert train_loop.train(second, tmp_path / "new")
  assert int(tiny_workdir.restore(config, tmp_path / "new", "last").epoch) == 2
  evaluate.evaluate_run(second, tmp_path / "new")
  report = (tmp_path / "new/report.txt").read_text()
  origins = re.findall(r"^initialization +(.+)$", report, re.MULTILINE)
  assert origins == [str(tmp_path / "old")]
  with pytest.raises(FileNotFoundError, match=r"config\.init_from: expected"):
    train_loop.train(second, tmp_path / "another")


def test_runs_from_before_this_setting_go_on(tmp_path):
  old = _config().to_dict()
  del old["init_from"]
  run_record.keep_config(type(_config())(old), tmp_path)
  run_record.check_same_config(_config(), tmp_path)
  changed = _config()
  changed.init_from = "elsewhere"
  with pytest.raises(ValueError, match="init_from is 'elsewhere', was ''"):
    run_record.check_same_config(changed, tmp_path)


def test_another_pixel_form_is_said_in_one_line(run, old, tmp_path, caplog):
  _write_run(tmp_path, old, pixel_forms=np.array([1], np.uint8))

  def warnings_of(workdir, pixel_forms):
    caplog.clear()
    initialization.init_from(
      workdir,
      tiny_network.create_state(),
      class_names=_OLD_CLASSES,
      model=_MODEL,
      pixel_forms=pixel_forms,
    )
    return [r.getMessage() for r in caplog.records if r.module == "fingerprints"]

  (line,) = warnings_of(tmp_path, {"original": 28561, "equalized": 148, "unknown": 0})
  assert (
    "was trained on 1 equalized images and is fine-tuned on 28,561 original" in line
  )
  assert not warnings_of(tmp_path, {"original": 1, "equalized": 148, "unknown": 0})
  # Where one of the two is not recorded, nothing is known to differ.
  assert not warnings_of(tmp_path, None)
  assert not warnings_of(run, {"original": 28561, "equalized": 148, "unknown": 0})


def test_several_columns_a_class_are_not_matched_by_class(tmp_path, old):
  """As a sub-center loss has them: by class, wrong columns would be transferred."""
  _write_run(tmp_path, old, class_names=("angry", "sad"))
  with pytest.raises(ValueError, match="has 3 columns for 2 classes"):
    initialization.init_from(
      tmp_path, tiny_network.create_state(), class_names=_OLD_CLASSES, model=_MODEL
    )


def test_a_run_with_older_names_is_read(tmp_path, old):
  _write_run(tmp_path, old)
  path = tmp_path / "config.json"
  config = json.loads(path.read_text())
  config["data"]["twins"] = config["data"].pop("near_duplicates")
  path.write_text(json.dumps(config))
  _init(tmp_path)
