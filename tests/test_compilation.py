"""XLA_FLAGS of whoever calls pytest reach the tests and the processes they start."""

import os
import pathlib
import re

import commands
import compilation
import pytest

_FOLDER = pathlib.Path(__file__).parent
_GIVEN = "--xla_cpu_max_isa=AVX2"


def test_flags_that_were_given_stay_and_the_last_one_decides(monkeypatch):
  given = f"{_GIVEN} --xla_backend_optimization_level=2"
  monkeypatch.setenv("XLA_FLAGS", given)
  flags = compilation.xla_flags("--xla_force_host_platform_device_count=8").split()
  haste = len(compilation._FLAGS)
  assert flags[haste:] == [*given.split(), "--xla_force_host_platform_device_count=8"]
  assert flags[0] == "--xla_backend_optimization_level=0"
  assert compilation.xla_flags(haste=False) == given
  # A worker of pytest-xdist, or a test's process, begins from what conftest.py has set.
  monkeypatch.setenv("XLA_FLAGS", compilation.xla_flags())
  assert compilation.xla_flags() == os.environ["XLA_FLAGS"]
  assert compilation.xla_flags(haste=False) == given


@pytest.mark.parametrize("given", [None, _GIVEN])
def test_pytest_runs_by_the_flags_that_were_given(given):
  """Under flags of its own: XLA ends the process at one that it doesn't know."""
  environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
  if given:
    environment["XLA_FLAGS"] = given
  script = "import conftest, os, jax; jax.devices(); print(os.environ['XLA_FLAGS'])"
  done = commands.run("-c", script, cwd=_FOLDER, env=environment, check=True)
  assert (_GIVEN in done.stdout.split()) == bool(given)
  assert "--xla_backend_optimization_level=0" in done.stdout.split()


def test_nothing_else_sets_them():
  setting = re.compile(r'"XLA_FLAGS"(:|\] =)(?! *(compilation\.)?xla_flags\()')
  files = {
    path.name for path in _FOLDER.rglob("*.py") if setting.search(path.read_text())
  }
  # The second compares what others are given.
  assert files == {pathlib.Path(__file__).name, "test_engines.py"}
