"""PyTorch's half without JAX, and its program in bfloat16; nothing is timed."""

import os

import commands
import jax
import ml_collections
import numpy as np
import pytest
import seeded_weights

torch = pytest.importorskip("torch")

from benchmarks import (  # noqa: E402
  accelerator,
  cases,
  start,
  torch_cases,
  torch_programs,
)

CASE = cases.Case("tiny", "small", 2)


@pytest.fixture
def tiny_weights(monkeypatch):
  """The case's network as seeded_weights.py has it, as nothing is compiled for it."""
  variables = seeded_weights.variables(channels=1, classes=3, dense=(4,))
  program = torch_programs.Program(
    name="emosynthnet",
    network={},
    state=jax.tree.map(lambda x: torch.from_numpy(x.astype(np.float32)), variables),
    learning_rate=1e-3,
    scale=1 / 255,
    batch=2,
  )
  monkeypatch.setattr(torch_cases, "describe", lambda case: program)


def test_the_process_of_pytorch_imports_no_jax(tmp_path, tiny_weights):
  torch_cases.write_start(tmp_path / "program.pt", CASE)
  done = commands.run(
    *("-X", "importtime", "-m", "benchmarks.start", "--framework=torch_eager"),
    f"--program={tmp_path / 'program.pt'}",
    check=True,
  )
  # Python's own list of what was imported.
  imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
  packages = {name.partition(".")[0] for name in imported}
  assert "torch" in packages
  assert not packages & {"jax", "jaxlib", "flax", "optax", "emosynth_jax"}
  first, memory = done.stdout.splitlines()
  assert first == "first step"
  assert int(memory) > 50


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux's")
def test_memory_is_not_that_of_the_parent():
  held = bytearray(b"x" * (1 << 30))
  code = "from benchmarks import start; print(start.memory_peak())"
  found = commands.run("-c", code, check=True)
  assert int(found.stdout) < len(held) >> 21
  assert start.memory_peak() >= 1024


def test_a_saved_program_is_read_back(tmp_path, tiny_weights):
  path = tmp_path / "program.pt"
  torch_cases.write_start(path, CASE)
  program, images, labels = torch_programs.load(path)
  np.testing.assert_array_equal(images.numpy(), CASE.images(2))
  np.testing.assert_array_equal(labels.numpy(), CASE.labels(2))
  model = torch_programs.build(program, "channels_last")
  found = torch_programs.inference(program, model, images, "channels_last", 1)()
  expected = torch_cases.inference(CASE, "eager", 1)()
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_network_of_another_reading_is_refused():
  model = ml_collections.ConfigDict({"name": "emosynthnet", "synthesis": "norm"})
  message = "synthesis: PyTorch's version has 'elu', not 'norm'"
  with pytest.raises(ValueError, match=message):
    torch_cases.describe_network(model, {})


def test_the_program_that_is_timed_on_a_device_is_compared(tiny_weights):
  half = accelerator.measure_torch(CASE, 1, 1, form="channels_last", dry_run=True)
  assert half["images"] > 0
  # bfloat16 has eight bits: neither equal to float32 nor far from it.
  assert 1e-6 < half["difference"] < 0.1


def test_a_program_of_other_answers_is_not_timed(tiny_weights, monkeypatch):
  build = torch_programs.build

  def broken(program, form):
    model = build(program, form)
    with torch.no_grad():
      model.logits.bias += float(form != "eager")
    return model

  monkeypatch.setattr(torch_programs, "build", broken)
  with pytest.raises(ValueError, match="in bfloat16: logits differ by"):
    accelerator.measure_torch(CASE, 1, 1, form="channels_last", dry_run=True)
