"""The candidates answer alike, and the command says what it can't do."""

import sys
import types

import commands
import numpy as np
import pytest
import tiny_network
import tiny_predictor

from benchmarks import latency, latency_runtimes
from emosynth_jax import bundle, pretrained
from emosynth_jax.utils import cli


@pytest.fixture
def source(tmp_path, tiny_networks):
  return tiny_predictor.write_bundle(tmp_path / "tiny.safetensors")


def _main(monkeypatch, arguments=(), **changes):
  given = {
    "source": None,
    "rounds": 10,
    "threads": 1,
    "traceback": False,
    "only": None,
  }
  monkeypatch.setattr(latency.flags, "FLAGS", types.SimpleNamespace(**given | changes))
  cli.call(
    ["latency", *arguments],
    latency.compare,
    [NotImplementedError, RuntimeError],
    compilation_cache=False,
  )


def test_runtimes_have_the_same_network(source):
  network = bundle.read_bundle(source)
  image = np.asarray(tiny_network.random_images(1)[0])
  expected = bundle.compile_logits(network, batch_size=1)(image)
  for name, atol in (
    ("JAX, jit", 1e-5),
    ("onnxruntime, onnx", 1e-5),
    ("onnxruntime, onnx_int8", 0.3),
  ):
    run = latency_runtimes.build(name, network, threads=1)
    found = np.reshape(run(image), (1, 3))
    np.testing.assert_allclose(found, expected, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", pretrained.NETWORKS)
def test_pytorch_in_either_layout_has_the_included_networks(name):
  pytest.importorskip("torch")
  network = bundle.read_network(name)
  image = np.random.default_rng(0).integers(0, 256, (1, *network.image_shape))
  image = image.astype(np.uint8)
  expected = bundle.compile_logits(network, batch_size=1)(image)
  for runtime in ("PyTorch", "PyTorch, channels-last"):
    run = latency_runtimes.build(runtime, network, threads=1)
    np.testing.assert_allclose(run(image), expected, atol=1e-3, err_msg=runtime)


def test_a_network_that_pytorch_has_not_is_refused(source):
  pytest.importorskip("torch")
  with pytest.raises(ValueError, match="tiny has no PyTorch version"):
    latency_runtimes.build("PyTorch", bundle.read_bundle(source), threads=1)


def test_a_process_has_the_cores_that_were_asked_for():
  code = (
    "import os; from benchmarks import latency_runtimes; "
    "from emosynth_jax.parallel import cpu_devices; latency_runtimes.hold_cores(1); "
    "print(len(os.sched_getaffinity(0)), cpu_devices.cpu_cores())"
  )
  done = commands.run("-c", code, check=True)
  assert done.stdout.split() == ["1", "1"]


@pytest.mark.slow
def test_the_command_with_a_process_for_each_runtime(capsys):
  names = ("onnxruntime, onnx", "JAX, jit")
  latency.measure_all("fer2013", threads=1, rounds=12, names=names)
  said = capsys.readouterr().out.splitlines()
  assert said[0].endswith("1 threads each")
  assert "12 calls in turns of 10" in said[1]
  assert [line.split("  ")[0] for line in said[3:]] == list(names)


def test_mistakes_are_one_line(source, monkeypatch, capsys):
  for arguments, changes, message in (
    (["network.onnx"], {}, "expected flags only"),
    ([], {"source": "nowhere"}, "expected the folder of a trained run"),
    ([], {"source": f"{source}/no.safetensors"}, "no bundle at"),
    ([], {"source": source, "threads": 4096}, "--threads: expected 1 to"),
  ):
    with pytest.raises(SystemExit):
      _main(monkeypatch, arguments, **changes)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  with pytest.raises(SystemExit):
    _main(monkeypatch, source=source)
  assert "'.[export]'" in capsys.readouterr().err
