"""Config, data and provenance that a workdir records of its run."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tiny_workdir

from emosynth_jax.config import defaults
from emosynth_jax.data import fingerprints, run_data
from emosynth_jax.data.datasets import synthetic_faces
from emosynth_jax.workdir import record as run_record


def _config(**changes):
  config = defaults.get_default_config()
  for key, value in changes.items():
    config[key] = value
  return config


def test_the_same_settings_pass_and_a_new_workdir_takes_any(tmp_path):
  run_record.check_same_config(_config(seed=3), tmp_path / "new")
  assert not (tmp_path / "new").exists()
  run_record.keep_config(_config(seed=3), tmp_path / "new")
  run_record.check_same_config(_config(seed=3), tmp_path / "new")
  # Written as JSON, where a tuple is a list and 1 may stand for 1.0.
  assert json.loads((tmp_path / "new/config.json").read_text())["seed"] == 3


def test_every_setting_that_differs_is_named_with_both_values(tmp_path):
  run_record.keep_config(_config(), tmp_path)
  changed = _config(seed=1, batch_size=32)
  changed.model.dense_features = (64, 64)
  changed.loss.gamma = 2.0
  with pytest.raises(ValueError, match=r"config mismatch with .*config\.json") as error:
    run_record.check_same_config(changed, tmp_path)
  for difference in (
    "batch_size is 32, was 64",
    "loss.gamma is 2.0, was None",
    "model.dense_features is [64, 64], was [128, 64]",
    "seed is 1, was 0",
  ):
    assert difference in str(error.value)
  assert str(error.value).count(" was ") == 4


def test_settings_that_change_no_step_may_differ(tmp_path):
  run_record.keep_config(_config(), tmp_path)
  config = _config(num_epochs=3, early_stop_patience=0, steps_per_call=7)
  config.data.data_dir = "elsewhere"
  config.checkpoint.keep = 9
  config.checkpoint.minutes = 0.5
  run_record.check_same_config(config, tmp_path)


@pytest.mark.parametrize("content", ['{"seed": 0', "[1, 2]", ""])
def test_a_damaged_config_is_told_of_and_what_to_do(tmp_path, content):
  (tmp_path / "config.json").write_text(content)
  with pytest.raises(ValueError, match=r"config\.json is damaged \(.*\): delete it"):
    run_record.check_same_config(_config(), tmp_path)


def _check_same_data(datasets, workdir):
  run_record.check_same_fingerprint(run_data.fingerprint(datasets), workdir)


def test_other_data_are_refused_by_split_and_kind(tmp_path):
  data = {
    split: synthetic_faces.load(None, split, num_examples=14)
    for split in ("train", "validation")
  }
  _check_same_data(data, tmp_path)
  tiny_workdir.keep_fingerprint(data, tmp_path)
  _check_same_data(data, tmp_path)
  # A part of the splits may be compared, and a split that was not there before.
  _check_same_data({"validation": data["validation"]}, tmp_path)
  _check_same_data({"test": data["train"]}, tmp_path)

  train = data["train"]
  darker = dataclasses.replace(train, images=train.images.copy())
  darker.images[13, 47, 47, 0] ^= 1
  relabelled = dataclasses.replace(train, labels=np.roll(train.labels, 1))
  renamed = dataclasses.replace(train, class_names=tuple("abcdefg"))
  for other, part in (
    (darker, "images"),
    (relabelled, "labels"),
    (renamed, "class_names"),
    (train.take(np.arange(13)), "num_examples"),
  ):
    with pytest.raises(ValueError, match=f"train split differs in .*{part}"):
      _check_same_data({"train": other}, tmp_path)


def _with_forms(dataset, original):
  """The data set with so many original images, the rest equalized."""
  forms = (np.arange(len(dataset)) >= original).astype(np.uint8)
  return dataclasses.replace(dataset, pixel_forms=forms)


@pytest.fixture(scope="module")
def faces():
  return synthetic_faces.load(None, "train", num_examples=14)


def test_the_fingerprint_counts_forms_and_older_ones_without_them_are_accepted(
  faces, tmp_path
):
  train = _with_forms(faces, original=10)
  counts = {"original": 10, "equalized": 4, "unknown": 0}
  found = run_data.fingerprint({"train": train, "test": faces})
  assert fingerprints.form_counts(found) == {"train": counts}
  # A file of an earlier run, and one whose forms were told by another rule.
  for old in (faces, _with_forms(faces, original=9)):
    tiny_workdir.keep_fingerprint({"train": old}, tmp_path)
    _check_same_data({"train": train}, tmp_path)
  run_record.keep_provenance(tmp_path, step=3, pixel_forms={"train": counts})
  assert run_record.read_provenance(tmp_path)[0]["pixel_forms"] == {"train": counts}


def test_a_changed_form_is_refused_by_name(faces, tmp_path):
  brighter = dataclasses.replace(faces, images=faces.images ^ 1)
  tiny_workdir.keep_fingerprint({"train": _with_forms(faces, original=14)}, tmp_path)
  message = (
    r"images_crc32 \(pixel form was 14 original, is 2 original and 12 equalized\). "
    r"Set config.data.data_dir to the data of this run"
  )
  with pytest.raises(ValueError, match=message):
    _check_same_data({"train": _with_forms(brighter, 2)}, tmp_path)
  tiny_workdir.keep_fingerprint({"train": faces}, tmp_path)
  with pytest.raises(ValueError, match="form was not recorded, is 2 orig"):
    _check_same_data({"train": _with_forms(brighter, 2)}, tmp_path)
  with pytest.raises(ValueError, match=r"images_crc32. Set config"):
    _check_same_data({"train": brighter}, tmp_path)


def test_a_network_that_meets_the_other_form_is_said_in_one_line(
  faces, tmp_path, caplog
):
  tiny_workdir.keep_fingerprint({"train": _with_forms(faces, original=2)}, tmp_path)
  # A test split that the run had none of; most of its images are of the same form.
  _check_same_data({"test": _with_forms(faces, original=6)}, tmp_path)
  _check_same_data({"test": faces}, tmp_path)
  assert not caplog.records
  _check_same_data({"test": _with_forms(faces, original=12)}, tmp_path)
  line = (
    "Pixel form mismatch: the network was trained on 2 original and 12 equalized "
    "images and is evaluated (test) on 12 original and 2 equalized ones; results on "
    "the two forms are not comparable (docs/guides/data.md)."
  )
  assert [record.getMessage() for record in caplog.records] == [line]

  # The splits of one run, as a training finds them.
  caplog.clear()
  found = run_data.fingerprint(
    {
      "train": _with_forms(faces, original=2),
      "validation": _with_forms(faces, original=0),
      "test": _with_forms(faces, original=12),
    }
  )
  run_record.check_same_fingerprint(found, tmp_path / "new")
  assert [record.getMessage() for record in caplog.records] == [line]


def test_provenance_has_a_line_for_each_start(tmp_path):
  assert run_record.read_provenance(tmp_path) == []
  run_record.keep_provenance(tmp_path, step=0)
  run_record.keep_provenance(tmp_path, step=12)
  first, second = run_record.read_provenance(tmp_path)
  assert (first["step"], second["step"]) == (0, 12)
  assert second["packages"]["python"] == sys.version.split()[0]


def test_a_second_process_is_kept_out_until_the_first_is_gone(tmp_path):
  holder = subprocess.Popen(
    [
      sys.executable,
      "-c",
      "import sys\nfrom emosynth_jax.workdir import record\n"
      "with record.only_training_in(sys.argv[1]):\n  print('in', flush=True)\n"
      "  sys.stdin.read()",
      os.fspath(tmp_path),
    ],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  try:
    assert holder.stdout.readline() == b"in\n"
    with (
      pytest.raises(ValueError, match="another process is training in"),
      run_record.only_training_in(tmp_path),
    ):
      pass
    holder.kill()  # The hold of a killed process does not outlive it.
    holder.wait()
    with run_record.only_training_in(tmp_path):
      pass
  finally:
    holder.kill()
    holder.communicate()
