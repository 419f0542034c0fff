"""PyTorch's half without JAX, and its program in bfloat16; nothing is timed."""

import os

import commands
import numpy as np
import pytest
import seeded_weights

torch = pytest.importorskip("torch")

from benchmarks import (  # noqa: E402
  accelerator,
  cases,
  emosynthnet_torch,
  start,
  torch_cases,
  torch_programs,
)

CASE = cases.Case("tiny", "small", 2)


@pytest.fixture
def tiny_weights(monkeypatch):
  """The case's network as seeded_weights.py has it, as nothing is compiled for it."""
  monkeypatch.setattr(
    torch_cases,
    "describe",
    lambda case: torch_programs.Program(
      name="emosynthnet",
      network={
        "side": seeded_weights.SIDE,
        "channels": 1,
        "num_classes": 3,
        "width": seeded_weights.WIDTH,
        "dense_features": (4,),
      },
      state=_state(),
      learning_rate=1e-3,
      scale=1 / 255,
      batch=2,
    ),
  )


def _state():
  torch.manual_seed(0)
  model = emosynthnet_torch.EmoSynthNet(
    seeded_weights.SIDE, 1, 3, seeded_weights.WIDTH, (4,)
  )
  return {
    name: value
    for name, value in model.state_dict().items()
    if not name.endswith("num_batches_tracked")
  }


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


def test_weights_of_other_layers_are_refused(tiny_weights):
  program = torch_cases.describe(CASE)
  state = {k: v for k, v in program.state.items() if not k.startswith("logits")}
  with pytest.raises(ValueError, match=r"missing \['logits\.weight'"):
    torch_programs.build(program._replace(state=state), "eager")


def test_the_program_that_is_timed_on_a_device_is_compared(tiny_weights):
  half = accelerator.measure_torch(CASE, 1, 1, form="channels_last", dry_run=True)
  assert half["images"] > 0
  # bfloat16 has eight bits: neither equal to float32 nor far from it.
  assert 1e-6 < half["difference"] < 0.1


def test_a_program_of_other_answers_is_not_timed(tiny_weights, monkeypatch):
  build = torch_cases.build

  def broken(case, form):
    model = build(case, form)
    with torch.no_grad():
      model.logits.bias += 1.0
    return model

  monkeypatch.setattr(torch_cases, "build", broken)
  with pytest.raises(ValueError, match="in bfloat16: logits differ by"):
    accelerator.measure_torch(CASE, 1, 1, form="channels_last", dry_run=True)
