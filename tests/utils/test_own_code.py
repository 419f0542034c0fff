import inspect
import os
import py_compile
import sys

import jax
import jax.numpy as jnp
import pytest

from emosynth_jax.utils import own_code


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "mine.py").write_text(
    "from beside import FACTOR\n"
    "\ndef double(x, *, plus=0):\n  return FACTOR * x + plus\n"
    "\ndef branch(x):\n  if x > 0:\n    return x\n  return -x\n"
    "\ndef broken(x):\n  return undefined_name\n"
  )
  (tmp_path / "beside.py").write_text("import deeper.inner\nFACTOR = 2\n")
  (tmp_path / "deeper").mkdir()
  (tmp_path / "deeper" / "__init__.py").write_text("")
  (tmp_path / "deeper" / "inner.py").write_text("from . import other\n")
  (tmp_path / "deeper" / "other.py").write_text("import math\n")
  (tmp_path / "unrelated.py").write_text("raise RuntimeError\n")
  return tmp_path


@pytest.mark.parametrize("name", ["mine.py:double", "mine:double"])
def test_a_file_and_a_module_are_loaded(folder, name):
  assert own_code.load(name)(3, plus=1) == 7


def test_a_file_is_found_with_all_that_it_imports_and_nothing_else(folder):
  found = own_code.source_files(folder / "mine.py")
  assert found[0] == folder / "mine.py"
  assert {str(path.relative_to(folder)) for path in found} == {
    "mine.py",
    "beside.py",
    "deeper/__init__.py",
    "deeper/inner.py",
    "deeper/other.py",
  }


def test_of_an_installed_package_only_its_own_files_are_found(tmp_path):
  environment = tmp_path / "site-packages"
  for name in ("mine", "other"):
    (environment / name).mkdir(parents=True)
    (environment / name / "__init__.py").write_text("import other\n")
  (environment / "mine" / "losses.py").write_text("import other\nfrom . import more\n")
  (environment / "mine" / "more.py").write_text("")
  found = own_code.source_files(environment / "mine" / "losses.py")
  assert {str(path.relative_to(environment)) for path in found} == {
    *("mine/__init__.py", "mine/losses.py", "mine/more.py")
  }


def test_two_copies_of_a_file_have_their_own_neighbors(folder):
  other = folder / "other"
  other.mkdir()
  (other / "mine.py").write_text((folder / "mine.py").read_text())
  (other / "beside.py").write_text("FACTOR = 10\n")
  assert own_code.load("mine.py:double")(3) == 6
  assert own_code.load("other/mine.py:double")(3) == 30
  assert own_code.load("mine.py:double")(3) == 6
  assert "beside" not in sys.modules
  assert "mine" not in sys.modules


def test_an_edited_neighbor_is_read_anew(folder):
  assert own_code.load("mine.py:double")(3) == 6
  (folder / "beside.py").write_text("FACTOR = 5\n")
  assert own_code.load("mine.py:double")(3) == 15


def test_an_edit_of_equal_size_within_a_second_is_read_anew(folder, monkeypatch):
  monkeypatch.setattr(sys, "dont_write_bytecode", False)
  monkeypatch.setattr(sys, "pycache_prefix", None)
  beside = folder / "beside.py"
  # What another program kept of it.
  os.utime(beside, (10**9, 10**9))
  py_compile.compile(str(beside))
  for factor in (2, 3):
    beside.write_text(f"import deeper.inner\nFACTOR = {factor}\n")
    os.utime(beside, (10**9, 10**9))
    assert own_code.load("mine.py:double")(5) == 5 * factor
  assert not list(folder.rglob("*.pyc"))


def test_a_class_loaded_twice_is_one_class(folder):
  (folder / "net.py").write_text("class Net:\n  pass\n")
  assert own_code.load("net.py:Net") is own_code.load("net.py:Net")


@pytest.mark.parametrize(
  ("name", "error", "message"),
  [
    ("nowhere.py:f", FileNotFoundError, r"the file nowhere\.py does not exist"),
    ("nowhere:f", FileNotFoundError, r"no Python module nowhere"),
    ("mine.py:absent", ValueError, r"no 'absent'; it defines double, branch, broken"),
    ("mine.py:", ValueError, r"expected file\.py:function"),
    (":double", ValueError, r"expected file\.py:function"),
    ("unrelated.py:f", ValueError, r"unrelated\.py:1: `raise RuntimeError`: Runtime"),
    ("wrong.py:f", ValueError, r"wrong\.py:2: "),
  ],
)
def test_what_cannot_be_loaded_is_one_line(folder, name, error, message):
  (folder / "wrong.py").write_text("x = 1\ndef f(:\n")
  with pytest.raises(error, match=message) as raised:
    own_code.load(name)
  assert "\n" not in str(raised.value)


def test_errors_of_guarded_functions_name_file_and_line(folder):
  broken = own_code.guard(own_code.load("mine.py:broken"), "mine.py:broken")
  with pytest.raises(
    ValueError, match=r"mine\.py:12: `return undefined_name`: NameErr"
  ):
    broken(1)

  # In a folder that is called as the package.
  own = folder / "emosynth_jax" / "own.py"
  own.parent.mkdir()
  own.write_text("def broken(x):\n  return undefined_name\n")
  broken = own_code.guard(own_code.load(f"{own}:broken"), "own.py:broken")
  with pytest.raises(ValueError, match=r"own\.py:2: `return undefined_name`: NameErr"):
    broken(1)

  branch = own_code.guard(own_code.load("mine.py:branch"), "mine.py:branch")
  assert branch(jnp.float32(-2)) == 2
  with pytest.raises(
    ValueError, match=r"mine\.py:7: `if x > 0:`: JAX traces.*jnp\.where"
  ):
    jax.jit(branch)(jnp.float32(-2))


def test_a_guarded_function_keeps_its_signature(folder):
  double = own_code.load("mine.py:double")
  guarded = own_code.guard(double, "mine.py:double")
  assert inspect.signature(guarded) == inspect.signature(double)


def test_code_of_this_process_is_named_by_its_file_or_kept(folder):
  here = own_code.name_of(test_code_of_this_process_is_named_by_its_file_or_kept)
  assert here == f"{__file__}:test_code_of_this_process_is_named_by_its_file_or_kept"

  def inner():
    return 5

  name = own_code.name_of(inner)
  assert not own_code.has_file(name)
  assert own_code.load(name) is inner
  assert "return 5" in own_code.source_text(name)
  with pytest.raises(ValueError, match=r"python:gone was defined in a Python session"):
    own_code.load("python:gone")


def test_a_script_that_loads_its_own_part_says_what_to_do(folder):
  (folder / "script.py").write_text(
    "from emosynth_jax.utils import own_code\n"
    "\ndef part():\n  pass\n"
    "\nown_code.load('script.py:part')\n"
  )
  with pytest.raises(
    ValueError, match=r"under `if __name__ == \"__main__\":`"
  ) as raised:
    own_code.load("script.py:part")
  assert str(raised.value).count("script.py:6") == 1
