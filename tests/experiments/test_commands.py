"""Experiments as modules: none may define a flag until it is the command that runs."""

import importlib

import commands
import pytest
from absl import flags

_FOLDER = commands.ROOT / "experiments"
_MODULES = sorted(path.stem for path in _FOLDER.glob("[a-z]*.py"))
# One of each kind: of networks, of faces, without a training, and the ablation.
_COMMANDS = ["table_3_3", "table_5_1", "table_3_2", "margin_ablation"]


def test_no_import_defines_a_flag():
  for name in _MODULES:
    importlib.import_module(f"experiments.{name}")
  # Libraries that are imported on the way may have theirs.
  modules = flags.FLAGS.flags_by_module_dict()
  assert not [name for name in modules if name.startswith("experiments.")]


@pytest.mark.slow
@pytest.mark.parametrize("name", _COMMANDS)
def test_help_names_the_commands_own_flags(name):
  done = commands.run("-m", f"experiments.{name}", "--help")
  assert "--workdir" in done.stdout, done.stderr
  if name != "table_3_2":
    assert "--data_dir" in done.stdout
    assert "--seeds" in done.stdout
