"""Tests of emosynth_jax.parallel.cpu_devices."""

import os
import subprocess
import sys
import types

import jax
import pytest

from emosynth_jax.analysis import cli
from emosynth_jax.parallel import cpu_devices


@pytest.mark.parametrize(
  ("batch_size", "cores", "expected"),
  [
    (64, 2, 2),
    (64, 1, 1),
    (64, 8, 4),  # 16 images each.
    (128, 6, 4),  # 5 and 6 do not divide it.
    (90, 16, 5),
    (97, 16, 1),
    (16, 2, 1),
    (1, 2, 1),
  ],
)
def test_number_of_devices(batch_size, cores, expected):
  assert cpu_devices.count_for(batch_size, cores) == expected


def _devices(code: str, **variables: str) -> list[str]:
  """What a process prints, word by word."""
  return _process(code, **variables).split()


def _process(code: str, *, stderr: int = subprocess.PIPE, **variables: str) -> str:
  """What a process prints that is free to choose its devices, and their number."""
  environment = {
    k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
  }
  lines = (
    "import jax",
    "from emosynth_jax.parallel import cpu_devices",
    "cpu_devices.cpu_cores = lambda: 4",
    *code.splitlines(),
    "print(len(jax.devices()))",
  )
  return subprocess.run(
    [sys.executable, "-c", "\n".join(lines)],
    env=environment | {"JAX_PLATFORMS": "cpu"} | variables,
    check=True,
    stdout=subprocess.PIPE,
    stderr=stderr,
    text=True,
  ).stdout


def test_devices_of_a_process():
  assert _devices("cpu_devices.split_cores(64)") == ["4"]


def test_an_analysis_by_devices_has_one_for_each_core_of_the_process():
  code = (
    "import types\n"
    "from emosynth_jax.analysis import cli\n"
    "cli.call_precisely(print, types.SimpleNamespace(mapping='devices'))"
  )
  assert _devices(code)[-1] == "4"


def test_an_analysis_in_turn_divides_no_cores(monkeypatch):
  divided = []
  monkeypatch.setattr(cpu_devices, "split_cores", lambda: divided.append(True))
  monkeypatch.setattr(jax.config, "update", lambda *_: None)  # Of the whole process.
  for mapping, count in (("map", 0), ("devices", 1)):
    cli.call_precisely(lambda _: None, types.SimpleNamespace(mapping=mapping))
    assert len(divided) == count


def test_the_users_number_stays():
  split = "cpu_devices.split_cores(64)"
  assert _devices(split, JAX_NUM_CPU_DEVICES="3") == ["3"]
  flag = "--xla_force_host_platform_device_count=2"
  assert _devices(split, XLA_FLAGS=flag) == ["2"]


def test_devices_in_use_stay_and_a_warning_says_how_to_have_more():
  code = (
    "jax.numpy.ones(2) + 1\ncpu_devices.split_cores(64)\ncpu_devices.split_cores(64)"
  )
  lines = _process(code, stderr=subprocess.STDOUT).splitlines()
  assert lines[-1] == "1"
  (warning,) = [line for line in lines if "JAX_NUM_CPU_DEVICES=4" in line]
  assert "used JAX before, on CPU devices: 1." in warning

  # As many as there would be: nothing to say.
  code = (
    "cpu_devices.split_cores(64)\njax.numpy.ones(2) + 1\ncpu_devices.split_cores(64)"
  )
  assert _process(code, stderr=subprocess.STDOUT).split() == ["4"]
