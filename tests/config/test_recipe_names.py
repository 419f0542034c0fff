import importlib.util

import pytest

from emosynth_jax.config import recipes


def get_config(found):
  path, _, variants = found.partition(":")
  spec = importlib.util.spec_from_file_location("by_name", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(variants)


@pytest.mark.parametrize("name", recipes.__all__)
def test_a_recipe_is_found_by_its_name(name, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  found = recipes.find(f"{name}:small,ce")
  expected = getattr(recipes, name)("small,ce").to_dict()
  assert get_config(found).to_dict() == expected
  assert recipes.typed(found) == f"{name}:small,ce"
  assert get_config(recipes.find(name)).to_dict() == getattr(recipes, name)().to_dict()


def test_files_stay_files():
  assert recipes.find("configs/fer2013.py:small") == "configs/fer2013.py:small"
  assert recipes.typed("configs/fer2013.py:small") == "configs/fer2013.py:small"


def test_a_folder_of_data_hides_no_recipe(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "mnist").mkdir()
  assert recipes.typed(recipes.find("mnist:small")) == "mnist:small"


def test_a_mistyped_recipe_gets_the_nearest_names():
  with pytest.raises(
    FileNotFoundError, match=r"no recipe 'fer213'; did you mean fer2013"
  ):
    recipes.find("fer213:small")


@pytest.mark.parametrize(
  "flag", [["--config=mnist:small"], ["--config", "mnist:small"]]
)
def test_only_the_config_flag_is_replaced(flag):
  argv = ["main", *flag, "--workdir=mnist"]
  found = recipes.with_paths(argv)
  assert [recipes.typed(each.removeprefix("--config=")) for each in found] == [
    "main",
    *(each.removeprefix("--config=") for each in flag),
    "--workdir=mnist",
  ]
