"""The candidates answer alike, and the command says what it can't do."""

import sys
import types

import numpy as np
import pytest
import tiny_network

from benchmarks import latency
from emosynth_jax import bundle, default_config, models


@pytest.fixture
def source(tmp_path, monkeypatch):
  monkeypatch.setitem(models.MODELS, "tiny", tiny_network.TinyNetwork)
  config = default_config.get_default_config()
  config.model = {"name": "tiny", "features": 5, "dtype": "float32"}
  state = tiny_network.create_state(seed=0)
  path = tmp_path / "tiny.safetensors"
  network = bundle.Bundle(
    config=config,
    class_names=("angry", "happy", "neutral"),
    image_shape=tiny_network.IMAGE_SHAPE,
    variables=state.evaluation_variables,
    input_scale=1 / 255,
    temperature=2.0,
    facts={},
  )
  bundle.write_bundle(path, network, dtype="float32")
  return str(path)


def _main(monkeypatch, arguments=(), **changes):
  given = {"source": None, "rounds": 10, "threads": 1, "traceback": False}
  monkeypatch.setattr(latency.flags, "FLAGS", types.SimpleNamespace(**given | changes))
  latency.main(["latency", *arguments])


def test_candidates_are_the_same_network(source, capsys):
  candidates, shape = latency.build_candidates(source, threads=1, images=None)
  assert shape == tiny_network.IMAGE_SHAPE
  assert list(candidates)[:3] == [
    "onnxruntime, onnx",
    "onnxruntime, onnx_int8",
    "JAX, jit",
  ]
  # PyTorch, where it is, has no such network.
  assert "PyTorch" not in candidates
  assert "PyTorch" in capsys.readouterr().out
  image = np.asarray(tiny_network.random_images(1)[0])
  network = bundle.read_bundle(source)
  expected = bundle.compile_logits(network, batch_size=1)(image)
  for name, atol in (
    ("JAX, jit", 1e-5),
    ("onnxruntime, onnx", 1e-5),
    ("onnxruntime, onnx_int8", 0.3),
  ):
    found = np.reshape(candidates[name](image), (1, 3))
    np.testing.assert_allclose(found, expected, atol=atol, err_msg=name)


def test_the_command(source, monkeypatch, capsys):
  _main(monkeypatch, source=source)
  said = capsys.readouterr().out
  assert "10 rounds in turns" in said
  assert "onnxruntime, onnx_int8" in said


def test_mistakes_are_one_line(source, monkeypatch, capsys):
  for arguments, changes, message in (
    (["network.onnx"], {}, "expected flags only"),
    ([], {"source": "nowhere"}, "expected the folder of a trained run or a"),
    ([], {"source": f"{source}/no.safetensors"}, "no bundle at"),
  ):
    with pytest.raises(SystemExit):
      _main(monkeypatch, arguments, **changes)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  with pytest.raises(SystemExit):
    _main(monkeypatch, source=source)
  assert "emosynth_jax[export]" in capsys.readouterr().err
