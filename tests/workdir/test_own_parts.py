import json

import pytest

from emosynth_jax.config import defaults
from emosynth_jax.workdir import own_parts


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
  (tmp_path / "mine.py").write_text("import beside\n\ndef loss(logits, labels): ...\n")
  (tmp_path / "beside.py").write_text("")
  config = defaults.get_default_config()
  config.loss.name = "mine.py:loss"
  return config


def test_a_config_of_built_in_parts_has_no_own_code(tmp_path):
  config = defaults.get_default_config()
  assert own_parts.read_sources(config) == {}
  own_parts.keep({}, tmp_path)
  assert list(tmp_path.iterdir()) == []
  assert own_parts.of_run(config, tmp_path) is config


def test_a_workdir_keeps_the_code_and_is_read_from_its_copy(config, tmp_path):
  own_parts.keep(own_parts.read_sources(config), tmp_path / "run")
  (tmp_path / "mine.py").unlink()
  built = own_parts.of_run(config, tmp_path / "run")
  copy = tmp_path / "run" / "own_parts" / "loss.name" / "mine.py"
  assert built.loss.name == f"{copy}:loss"
  assert (copy.parent / "beside.py").is_file()
  # What is recorded stays as it was typed.
  assert config.loss.name == "mine.py:loss"
  assert set(own_parts.hashes_of(tmp_path / "run")["loss.name"]) == {
    "mine.py",
    "beside.py",
  }


def test_an_own_loss_under_a_margin_is_found_and_replaced(config, tmp_path):
  config.loss.name = "mam_softmax+mine.py:loss"
  own_parts.keep(own_parts.read_sources(config), tmp_path / "run")
  built = own_parts.of_run(config, tmp_path / "run")
  copy = tmp_path / "run" / "own_parts" / "loss.name.1" / "mine.py"
  assert built.loss.name == f"mam_softmax+{copy}:loss"


def test_what_was_trained_here_is_trusted_where_nothing_can_be_remembered(
  config, tmp_path, monkeypatch
):
  monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
  own_parts.keep(own_parts.read_sources(config), tmp_path / "run")
  own_parts.of_run(config, tmp_path / "run")


def test_a_second_training_does_not_replace_the_copy(config, tmp_path):
  own_parts.keep(own_parts.read_sources(config), tmp_path / "run")
  before = own_parts.hashes_of(tmp_path / "run")
  (tmp_path / "mine.py").write_text("def loss(logits): ...\n")
  own_parts.keep(own_parts.read_sources(config), tmp_path / "run")
  assert own_parts.hashes_of(tmp_path / "run") == before


def test_code_of_another_user_is_not_run_without_trust(config, tmp_path, monkeypatch):
  own_parts.keep(own_parts.read_sources(config), tmp_path / "run")
  monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
  monkeypatch.setattr(own_parts, "_TRUSTED_HERE", set())
  with pytest.raises(ValueError, match=r"own_parts.* is Python code.*--trust"):
    own_parts.of_run(config, tmp_path / "run")
  own_parts.trust_workdir(tmp_path / "run")
  own_parts.of_run(config, tmp_path / "run")


@pytest.mark.parametrize("damage", ["edit", "delete", "index", "outside"])
def test_damaged_copies_are_refused(config, tmp_path, damage):
  own_parts.keep(own_parts.read_sources(config), tmp_path / "run")
  folder = tmp_path / "run" / "own_parts"
  index = folder / "index.json"
  if damage == "edit":
    (folder / "loss.name" / "beside.py").write_text("import os\n")
    message = r"beside\.py was changed since the training"
  elif damage == "delete":
    (folder / "loss.name" / "mine.py").unlink()
    message = r"mine\.py: this run's own code is missing"
  elif damage == "index":
    index.write_text(index.read_text()[:40])
    message = r"index\.json is damaged"
  else:
    text = index.read_text().replace('"mine.py"', '"../../../mine.py"')
    index.write_text(text)
    message = "this run's own code is missing"
  with pytest.raises(ValueError, match=message):
    own_parts.of_run(config, tmp_path / "run")


def test_a_bundle_gets_no_code(config):
  config.data.name = "mine.py:load"
  clean = own_parts.without_code(config)
  assert clean.loss.to_dict() == {"name": "cross_entropy"}
  assert clean.data.name == "load"
  config.model.name = "mine.py:Net"
  with pytest.raises(ValueError, match=r"mine\.py:Net is code of this run"):
    own_parts.without_code(config)


def test_the_index_names_each_part_as_it_was_typed(config, tmp_path):
  own_parts.keep(own_parts.read_sources(config), tmp_path / "run")
  index = json.loads((tmp_path / "run" / "own_parts" / "index.json").read_text())
  assert index["loss.name"]["name"] == "mine.py:loss"
