import importlib.util
import sys

import commands
import pytest

import emosynth_jax
from emosynth_jax import console


def test_every_command_is_a_module_that_can_be_run():
  for module, _, _ in console.COMMANDS.values():
    spec = importlib.util.find_spec(module)
    if spec.submodule_search_locations is not None:
      spec = importlib.util.find_spec(f"{module}.__main__")
    assert spec is not None, module


def run(monkeypatch, *arguments):
  monkeypatch.setattr(sys, "argv", ["emosynth", *arguments])
  started = []
  monkeypatch.setattr(
    console.runpy, "run_module", lambda module, **_: started.append((module, sys.argv))
  )
  console.run()
  return started


def test_a_command_gets_its_arguments(monkeypatch):
  assert run(monkeypatch, "evaluate", "--workdir=w") == [
    ("emosynth_jax.main", ["emosynth evaluate", "--mode=eval", "--workdir=w"])
  ]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("help",), ("-h",)])
def test_help_lists_the_commands(monkeypatch, capsys, arguments):
  assert run(monkeypatch, *arguments) == []
  printed = capsys.readouterr().out
  assert all(f"  {name} " in printed for name in console.COMMANDS)


def test_the_version_is_printed(monkeypatch, capsys):
  assert run(monkeypatch, "--version") == []
  assert capsys.readouterr().out == f"{emosynth_jax.__version__}\n"


def test_a_mistyped_command_gets_the_nearest(monkeypatch, capsys):
  with pytest.raises(SystemExit) as ended:
    run(monkeypatch, "predcit")
  assert ended.value.code == 2
  assert "no command 'predcit'; did you mean predict?" in capsys.readouterr().err


def test_the_surface_is_documented_and_imports_nothing_heavy():
  """The losses need JAX alone, and the package's own import not even that."""
  code = (
    "import sys, emosynth_jax as ej\n"
    "assert 'jax' not in sys.modules\n"
    "ej.losses.cross_entropy\n"
    "heavy = {'cv2', 'tensorflow_datasets', 'grain', 'orbax', 'sklearn', 'flax'}\n"
    "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    "assert set(ej.__all__) <= set(dir(ej))\n"
    "assert all(getattr(ej, name).__doc__ for name in ej.__all__)\n"
    "assert not callable(ej.train_loop) and callable(ej.train)\n"
    "try:\n  ej.trian\nexcept AttributeError as error:\n  print(error)\n"
  )
  done = commands.run("-c", code)
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == "module 'emosynth_jax' has no attribute 'trian'"
