"""From a run to a file and back; what a file says; refusals."""

import json
import sys

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_network
import tiny_workdir
from scipy import special

from emosynth_jax import bundle
from emosynth_jax.config import defaults
from emosynth_jax.data import run_data
from emosynth_jax.export import export, int8, stablehlo, verify
from emosynth_jax.workdir import record as run_record

_CLASSES = ("angry", "happy", "neutral")


def _dataset(split, number=60):
  return tiny_workdir.dataset(number, seed=len(split), split=split)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  tiny_workdir.install(monkeypatch, lambda config, split: _dataset(split))


@pytest.fixture
def workdir(tmp_path):
  workdir = tmp_path / "run"
  config = defaults.get_default_config()
  config.model = {"name": "tiny", "features": 5, "dtype": "bfloat16"}
  # Judged by cosines, not by the network's own logits.
  config.loss = {"name": "cosface", "scale": 8.0}
  tiny_workdir.write(workdir, config, tiny_network.create_state(seed=0))
  run_record.keep_provenance(workdir, step=0)
  return workdir


def _make(workdir, output, format, **changes):
  given = {"splits": ["validation"], "data_dir": None, "num_calibration_images": 40}
  export.make(str(workdir), str(output), format=format, **given | changes)
  return output.read_bytes(), json.loads(
    output.with_name(f"{output.name}.json").read_text()
  )


def _expected(workdir, images):
  """By hand, in float64: dense, BatchNorm, ELU, cosines."""
  state = tiny_network.create_state(seed=0)
  params, stats = jax.device_get((state.params, state.batch_stats))
  x = images.reshape(len(images), -1) * np.float64(state.input_scale)
  x = x @ params["Dense_0"]["kernel"]
  norm, (mean, var) = (
    params["BatchNorm_0"],
    (stats["BatchNorm_0"][k] for k in ("mean", "var")),
  )
  x = (x - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"]
  x = np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
  kernel = params["logits"]["kernel"]
  x = x / np.linalg.norm(x, axis=1, keepdims=True)
  logits = 8 * x @ (kernel / np.linalg.norm(kernel, axis=0, keepdims=True))
  temperature = json.loads((workdir / "calibration.json").read_text())["temperature"]
  return logits, special.softmax(logits / temperature, axis=-1)


@pytest.mark.parametrize("format", ["stablehlo", "onnx"])
def test_a_file_answers_as_the_network_does(workdir, tmp_path, format, capsys):
  content, record = _make(
    workdir, tmp_path / "a.file", format, splits=["validation", "test"]
  )
  answer = verify.read_answer(content, format)
  images = _dataset("test").images
  for number in (1, 3, 60):
    logits, probabilities = answer(images[:number])
    expected = _expected(workdir, images[:number])
    assert logits.dtype == probabilities.dtype == np.float32
    np.testing.assert_allclose(logits, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probabilities, expected[1], rtol=1e-4, atol=1e-6)
  assert record["class_names"] == list(_CLASSES)
  assert record["image_shape"] == [4, 4, 1]
  assert record["bytes"] == len(content)
  assert list(record["compared"]) == ["noise", "PublicTest", "PrivateTest"]
  test = record["compared"]["PrivateTest"]
  right = _expected(workdir, images)[0].argmax(-1) == _dataset("test").labels
  assert test["accuracy"] == test["accuracy_of_file"] == pytest.approx(right.mean())
  assert test["changed_predictions"] == 0
  assert test["max_abs_difference"]["probability"] <= 1e-5
  assert record["calibrated_on"] is None
  assert "PrivateTest: " in capsys.readouterr().out


def test_stablehlo_is_read_on_every_platform(workdir, tmp_path):
  content, _ = _make(workdir, tmp_path / "a.stablehlo", "stablehlo", splits=[])
  exported = jax.export.deserialize(bytearray(content))
  assert exported.platforms == stablehlo.PLATFORMS
  assert str(exported.in_avals[0].shape) == "(batch, 4, 4, 1)"
  assert exported.in_avals[0].dtype == np.uint8


def test_onnx_tells_its_user_what_it_is(workdir, tmp_path):
  content, record = _make(workdir, tmp_path / "a.onnx", "onnx", splits=[])
  told = onnxruntime.InferenceSession(content).get_modelmeta().custom_metadata_map
  assert json.loads(told["class_names"]) == list(_CLASSES)
  assert float(told["temperature"]) == record["temperature"] != 1
  assert json.loads(told["facts"])["calibration"]["official_split"] == "PublicTest"
  assert str(workdir) not in str(told)


def test_eight_bits_are_calibrated_on_training_images_alone(
  workdir, tmp_path, monkeypatch
):
  seen = {}
  quantize = int8.quantize

  def spy(model, images):
    seen["images"] = images
    return quantize(model, images)

  monkeypatch.setattr(int8, "quantize", spy)
  content, record = _make(workdir, tmp_path / "a.onnx", "onnx_int8")
  train = {image.tobytes() for image in _dataset("train").images}
  assert len(seen["images"]) == 40
  assert {image.tobytes() for image in seen["images"]} <= train
  assert record["calibrated_on"] == "40 images of train"
  model = onnx.load_from_string(content)
  kernels = [x for x in model.graph.initializer if x.data_type == onnx.TensorProto.INT8]
  assert len(kernels) >= 1  # The cosines' weights and the first layer's.
  images = _dataset("validation").images
  logits, _ = verify.read_answer(content, "onnx_int8")(images)
  expected, _ = _expected(workdir, images)
  # Eight bits of a range of 16: near, and not equal.
  assert 1e-4 < np.abs(logits - expected).max() < 1
  assert json.loads({p.key: p.value for p in model.metadata_props}["image_shape"])


def test_a_bundle_is_exported_without_data(workdir, tmp_path, monkeypatch):
  path = tmp_path / "network.safetensors"
  bundle.write_bundle(path, bundle.read_network(workdir), dtype="float32")
  monkeypatch.setattr(run_data, "load_data", None)
  content, record = _make(path, tmp_path / "a.onnx", "onnx", splits=[])
  images = _dataset("test").images
  logits, _ = verify.read_answer(content, "onnx")(images)
  np.testing.assert_allclose(
    logits, _expected(workdir, images)[0], rtol=1e-4, atol=1e-5
  )
  assert list(record["compared"]) == ["noise"]


def test_no_export_replaces_its_network(workdir, tmp_path):
  path = tmp_path / "network.safetensors"
  bundle.write_bundle(path, bundle.read_network(workdir), dtype="float32")
  with pytest.raises(ValueError, match=r"network\.safetensors is also an input"):
    _make(path, path, "stablehlo", splits=[])
  config = (workdir / "config.json").read_bytes()
  with pytest.raises(ValueError, match=r"config\.json is in the run's workdir"):
    _make(workdir, workdir / "config.json", "stablehlo", splits=[])
  assert (workdir / "config.json").read_bytes() == config


def test_what_differs_is_never_written(workdir, tmp_path, monkeypatch, capsys):
  output = tmp_path / "new" / "a.onnx"
  output.parent.mkdir()
  written, record = _make(workdir, output, "onnx")
  right = verify.read_answer

  def wrong(content, format):
    answer = right(content, format)
    return lambda images: tuple(x + 1e-3 for x in answer(images))

  monkeypatch.setattr(verify, "read_answer", wrong)
  with pytest.raises(
    ValueError, match=r"a probability .* by 1\.0e-03 \(tolerance 0\.0001\)"
  ):
    _make(workdir, output, "onnx")
  assert output.read_bytes() == written
  assert json.loads((output.parent / "a.onnx.json").read_text()) == record
  with pytest.raises(ValueError, match="was not written"):
    _make(workdir, tmp_path / "b.onnx", "onnx")
  assert {path.name for path in tmp_path.iterdir()} == {"new", "run"}
  assert "1.0e-03 of a probability" in capsys.readouterr().out


@pytest.mark.parametrize("format", ["stablehlo", "onnx_int8"])
def test_answers_that_are_no_numbers(workdir, tmp_path, monkeypatch, format):
  def broken(content, format):
    return lambda images: (np.full((len(images), 3), np.nan),) * 2

  monkeypatch.setattr(verify, "read_answer", broken)
  with pytest.raises(
    ValueError, match=r"some of the file's outputs on .* are not finite"
  ):
    _make(workdir, tmp_path / "a", format)
  assert not (tmp_path / "a").exists()


def test_stablehlo_is_compared_on_splits(workdir, tmp_path):
  content, record = _make(
    workdir, tmp_path / "a.stablehlo", "stablehlo", splits=["validation", "test"]
  )
  assert list(record["compared"]) == ["noise", "PublicTest", "PrivateTest"]
  for split, name in (("validation", "PublicTest"), ("test", "PrivateTest")):
    dataset = _dataset(split)
    logits, _ = verify.read_answer(content, "stablehlo")(dataset.images)
    found = record["compared"][name]
    assert found["num_images"] == 60
    assert found["accuracy_of_file"] == (logits.argmax(-1) == dataset.labels).mean()


def test_eight_bits_leave_room_for_two_products(workdir, tmp_path):
  content, _ = _make(workdir, tmp_path / "a.onnx", "onnx_int8")
  kernels = [
    onnx.numpy_helper.to_array(x).astype(int)
    for x in onnx.load_from_string(content).graph.initializer
    if x.data_type == onnx.TensorProto.INT8
  ]
  # x86 without VNNI adds pairs of uint8 x int8 in 16 bits, which clips what is beyond.
  largest = max(np.abs(kernel).max() for kernel in kernels)
  assert 60 <= largest
  assert 2 * 255 * largest <= np.iinfo(np.int16).max


def test_mistakes_are_named(workdir, tmp_path, monkeypatch):
  read = bundle.read_network(workdir)
  with pytest.raises(ValueError, match="format: expected one of stablehlo, onnx"):
    export.export_network(read, "coreml")
  with pytest.raises(ValueError, match="needs images of the training split"):
    export.export_network(read, "onnx_int8")
  with pytest.raises(ValueError, match="--splits: expected some of validation, test"):
    _make(workdir, tmp_path / "a", "onnx", splits=["train"])
  with pytest.raises(FileNotFoundError, match="folder of a trained run"):
    _make(tmp_path / "nothing", tmp_path / "a", "onnx")

  def missing(config, splits):
    raise FileNotFoundError("no fer2013.zip in data")

  monkeypatch.setattr(run_data, "load_data", missing)
  with pytest.raises(
    FileNotFoundError, match="Set --data_dir to the data set directory"
  ):
    _make(workdir, tmp_path / "a", "onnx")
  monkeypatch.setitem(sys.modules, "onnxruntime", None)
  with pytest.raises(ModuleNotFoundError, match=r"'\.\[export\]'"):
    export.export_network(read, "onnx")
  assert not (tmp_path / "a").exists()
