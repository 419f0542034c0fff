import re

import pytest

from emosynth_jax.config import defaults, listing, recipes, settings


def lines(config, *, diff=False):
  return list(listing.describe(defaults.flatten(config.to_dict()), diff=diff))


def test_every_setting_is_printed_with_value_and_sentence():
  printed = lines(defaults.get_default_config())
  assert len(printed) == 2 * len(settings.SETTINGS)
  for path, setting in settings.SETTINGS.items():
    at = printed.index(f"  {path} = {setting.default!r}")
    assert setting.help in re.sub(r"\s+", " ", printed[at + 1])


def test_a_difference_is_marked_and_alone_with_diff():
  config = defaults.get_default_config()
  assert lines(config, diff=True) == []
  config.optimizer.learning_rate = 0.5
  config.loss.gamma = 2.0
  marked = lines(config, diff=True)[::2]
  assert marked == [
    "* optimizer.learning_rate = 0.5 (default 0.001)",
    "* loss.gamma = 2.0",
  ]


def test_a_recipes_settings_can_be_printed():
  printed = "\n".join(lines(recipes.read("fer2013:resnet18,small"), diff=True))
  assert "* data.name = 'fer2013'" in printed
  assert "* model.name = 'resnet18'" in printed
  assert "model.dense_features" not in printed


def test_files_are_read_as_recipes_are(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text("def get_config(variants):\n  return [variants]\n")
  assert recipes.read(f"{path}:a,b") == ["a,b"]
  path.write_text("def get_config():\n  return 5\n")
  assert recipes.read(str(path)) == 5
  path.write_text("x = 1\n")
  with pytest.raises(ValueError, match=r"mine\.py has no function get_config"):
    recipes.read(str(path))
  with pytest.raises(FileNotFoundError, match=r"nowhere\.py does not exist"):
    recipes.read("nowhere.py")
