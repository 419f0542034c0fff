"""Calibrated once, written small, read again; what is damaged is refused."""

import json

import flax.traverse_util
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import tiny_network
import tiny_workdir
from scipy import special

from emosynth_jax import bundle
from emosynth_jax.bundle import calibrate
from emosynth_jax.bundle import make as make_bundle
from emosynth_jax.config import defaults
from emosynth_jax.data import run_data
from emosynth_jax.training import eval_step
from emosynth_jax.utils import files
from emosynth_jax.workdir import record as run_record
from emosynth_jax.workdir.checkpoints import Checkpoints

_CLASSES = ("angry", "happy", "neutral")


def dataset(number=60):
  return tiny_workdir.dataset(number)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  tiny_workdir.install(monkeypatch, lambda config, split: dataset())


@pytest.fixture
def no_data(monkeypatch):
  def refuse(config, splits, **rest):
    raise FileNotFoundError("no data here")

  monkeypatch.setattr(run_data, "load_data", refuse)


@pytest.fixture
def workdir(tmp_path):
  return write_run(tmp_path / "run")


def write_run(workdir):
  config = defaults.get_default_config()
  config.model = {"name": "tiny", "features": 5, "dtype": "float32"}
  config.data.data_dir = "/somebody/data"
  tiny_workdir.write(workdir, config, tiny_network.create_state(seed=0))
  run_record.keep_provenance(workdir, step=0)
  return workdir


def _logits(seed=0):
  """Of all images, by the evaluation's own function."""
  state = tiny_network.create_state(seed=seed)
  return np.asarray(
    eval_step.image_logits(
      tiny_network.build_experiment(tiny_network.TinyNetwork(), lambda logits: logits),
      state.evaluation_variables,
      state.input_scale,
      dataset().images,
    )
  )


def test_a_workdir_is_calibrated_once(workdir, monkeypatch):
  read = calibrate.read_workdir(workdir)
  record = json.loads((workdir / "calibration.json").read_text())
  assert read.temperature == record["temperature"]
  assert read.class_names == _CLASSES
  assert read.image_shape == tiny_network.IMAGE_SHAPE
  assert (record["split"], record["official_split"]) == ("validation", "PublicTest")
  assert record["num_examples"] == 60
  # The temperature is the best of a fine grid, and the accuracy is counted.
  logits, labels = _logits(), dataset().labels
  assert record["accuracy"] == pytest.approx((logits.argmax(-1) == labels).mean())

  def nll(temperature):
    log_p = special.log_softmax(logits / temperature, -1)
    return -log_p[np.arange(60), labels].mean()

  assert record["nll_before"] == pytest.approx(nll(1.0), rel=1e-6)
  assert record["nll_after"] == pytest.approx(nll(read.temperature), rel=1e-6)
  assert record["nll_after"] <= min(map(nll, np.geomspace(0.05, 20, 500))) + 1e-6

  monkeypatch.setattr(
    run_data, "load_data", lambda *rest, **more: pytest.fail("the data was read")
  )
  again = calibrate.read_workdir(workdir)
  assert again.temperature == read.temperature
  compute = bundle.compile_logits(again, batch_size=7)
  np.testing.assert_allclose(compute(dataset().images), logits, rtol=1e-5, atol=1e-6)
  assert compute(dataset().images[:0]).shape == (0, 3)


def test_a_better_epoch_is_calibrated_anew(workdir):
  calibrate.read_workdir(workdir)
  before = json.loads((workdir / "calibration.json").read_text())
  checkpoints = Checkpoints(workdir, keep=1)
  state = tiny_network.create_state(seed=1)
  checkpoints.save("best", state.replace(step=state.step + 7))
  checkpoints.close()
  read = calibrate.read_workdir(workdir)
  after = json.loads((workdir / "calibration.json").read_text())
  assert after["variables_crc32"] != before["variables_crc32"]
  compute = bundle.compile_logits(read, batch_size=60)
  np.testing.assert_allclose(compute(dataset().images), _logits(seed=1), rtol=1e-5)


def test_no_data_and_no_calibration(workdir, no_data):
  with pytest.raises(FileNotFoundError, match=r"no data here.*needed once.*--data_dir"):
    calibrate.read_workdir(workdir)


def test_a_damaged_calibration(workdir):
  (workdir / "calibration.json").write_text("{}")
  with pytest.raises(ValueError, match=r"calibration\.json is damaged .*delete it"):
    calibrate.read_workdir(workdir)


def test_a_folder_that_is_no_run(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
    bundle.read_network(tmp_path)
  with pytest.raises(FileNotFoundError, match="expected the folder of a trained run"):
    bundle.read_network(tmp_path / "nothing")


def test_a_file_of_float32_is_the_network(workdir, tmp_path):
  network = calibrate.read_workdir(workdir)
  path = tmp_path / "new" / "network.safetensors"
  bundle.write_bundle(path, network, dtype="float32")
  read = bundle.read_network(path)
  assert bundle.read_network(path, data_dir="elsewhere").config.data.data_dir == (
    "elsewhere"
  )
  for name in ("class_names", "image_shape", "input_scale", "temperature", "facts"):
    assert getattr(read, name) == getattr(network, name), name
  images = dataset().images
  expected, found = (
    bundle.compile_logits(each, batch_size=60)(images) for each in (network, read)
  )
  np.testing.assert_array_equal(found, expected)
  # Nothing of the machine that trained goes along.
  content = path.read_bytes()
  assert b"/somebody" not in content
  assert b"command" not in content.split(b"}}")[0].split(b"fitted_by")[0]
  assert read.facts["trained_by"][0]["hardware"]


def test_a_file_of_float16_is_half_as_large_and_says_what_it_costs(
  workdir, tmp_path, capsys
):
  path = tmp_path / "network.safetensors"
  make_bundle.make(str(workdir), str(path), dtype="float16", data_dir=None)
  tensors = safetensors.numpy.load_file(path)
  kinds = {name.partition("/")[0]: array.dtype for name, array in tensors.items()}
  assert kinds == {"params": np.float16, "batch_stats": np.float32}
  read = bundle.read_bundle(path)
  found = bundle.compile_logits(read, batch_size=60)(dataset().images)
  np.testing.assert_allclose(found, _logits(), atol=0.01)
  assert np.abs(found - _logits()).max() > 0
  rounding = read.facts["rounding"]
  probabilities = [
    special.softmax(x / read.temperature, -1) for x in (found, _logits())
  ]
  assert rounding["max_abs_change_of_a_probability"] == pytest.approx(
    np.abs(np.subtract(*probabilities)).max(), rel=1e-3
  )
  labels = dataset().labels
  assert rounding["accuracy_float16"] == (found.argmax(-1) == labels).mean()
  assert (rounding["split"], rounding["num_examples"]) == ("PublicTest", 60)
  assert "float16 on the validation split" in capsys.readouterr().out


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_without_its_data_a_file_of_float16_is_not_begun(
  workdir, tmp_path, monkeypatch, is_calibrated
):
  if is_calibrated:
    calibrate.read_workdir(workdir)

  def refuse(config, splits, **rest):
    raise FileNotFoundError("no data here")

  monkeypatch.setattr(run_data, "load_data", refuse)
  path = tmp_path / "network.safetensors"
  path.write_bytes(b"an earlier one")
  with pytest.raises(FileNotFoundError, match=r"no data here.*set --data_dir"):
    make_bundle.make(str(workdir), str(path), dtype="float16", data_dir=None)
  assert path.read_bytes() == b"an earlier one"
  if is_calibrated:
    # Which needs no data any more.
    make_bundle.make(str(workdir), str(path), dtype="float32", data_dir=None)
    assert "rounding" not in bundle.read_bundle(path).facts


def test_rounding_is_not_measured_on_other_data(workdir, tmp_path, monkeypatch):
  tiny_workdir.keep_fingerprint({"validation": dataset()}, workdir)
  calibrate.read_workdir(workdir)
  path = tmp_path / "network.safetensors"
  make_bundle.make(str(workdir), str(path), dtype="float16", data_dir=None)
  written = path.read_bytes()
  monkeypatch.setattr(
    run_data, "load_data", lambda config, splits: {"validation": dataset(50)}
  )
  with pytest.raises(
    ValueError, match=r"data mismatch with .*: the validation split differs in"
  ):
    make_bundle.make(str(workdir), str(path), dtype="float16", data_dir=None)
  assert path.read_bytes() == written


def test_the_pixel_form_it_was_calibrated_on_is_in_the_file(
  workdir, tmp_path, monkeypatch
):
  marked = dataset().with_pixel_forms()
  monkeypatch.setattr(
    run_data, "load_data", lambda *given, **rest: {"validation": marked}
  )
  network = calibrate.read_workdir(workdir)
  path = tmp_path / "network.safetensors"
  bundle.write_bundle(path, network, dtype="float32")
  known = bundle.read_bundle(path).facts["calibration"]["pixel_forms"]
  assert known == marked.form_counts
  assert sum(known.values()) == len(marked)


def test_rounding_is_what_the_file_holds(workdir, tmp_path):
  network = calibrate.read_workdir(workdir)
  bundle.write_bundle(tmp_path / "a.safetensors", network, dtype="float16")
  read = bundle.read_bundle(tmp_path / "a.safetensors")
  rounded = bundle.round_variables(network, "float16")
  kernels = [
    x.variables["params"]["logits"]["kernel"] for x in (read, rounded, network)
  ]
  np.testing.assert_array_equal(kernels[0], kernels[1])
  assert kernels[1].dtype == np.float32
  assert (kernels[1] != kernels[2]).any()


def test_what_float16_cannot_hold(workdir, tmp_path):
  network = calibrate.read_workdir(workdir)
  network.variables["params"]["logits"]["bias"] = np.array([0, 1e6, 0])
  with pytest.raises(ValueError, match="params/logits/bias: float16 overflows"):
    bundle.write_bundle(tmp_path / "a.safetensors", network, dtype="float16")
  assert not (tmp_path / "a.safetensors").exists()


def test_damaged_and_other_files(workdir, tmp_path):
  network = calibrate.read_workdir(workdir)
  path = tmp_path / "network.safetensors"
  with pytest.raises(FileNotFoundError, match="no bundle at"):
    bundle.read_bundle(path)
  with pytest.raises(ValueError, match="dtype: expected one of float16, float32"):
    bundle.write_bundle(path, network, dtype="int8")
  bundle.write_bundle(path, network, dtype="float16")
  path.write_bytes(path.read_bytes()[:-10])
  with pytest.raises(ValueError, match="not a bundle, or damaged"):
    bundle.read_bundle(path)
  safetensors.numpy.save_file({"a": np.zeros(1)}, path)
  with pytest.raises(ValueError, match=r"expected the format 'emosynth_jax\.bundle/1'"):
    bundle.read_bundle(path)
  safetensors.numpy.save_file(
    {"a": np.zeros(1)}, path, {"format": bundle.FORMAT, "header": "{}"}
  )
  with pytest.raises(ValueError, match="damaged, or written by another version"):
    bundle.read_bundle(path)


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("temperature", 0, "temperature: expected a number above 0, got 0"),
    ("temperature", -1.5, "temperature: expected a number above 0"),
    ("temperature", float("nan"), "temperature: expected a number above 0, got nan"),
    ("temperature", float("inf"), "temperature: expected a number above 0, got inf"),
    ("temperature", None, "damaged"),
    ("input_scale", 0.0, "input_scale: expected a number above 0"),
    ("class_names", [], "class_names: expected a list of names"),
    ("class_names", [1, 2, 3], "class_names: expected a list of names"),
    ("image_shape", [4, 4, 0], "image_shape: expected positive sizes"),
    ("image_shape", [4, 4], "image_shape: expected positive sizes"),
    ("image_shape", [10**6, 10**6, 1], "image_shape: expected at most"),
    ("temperature", 10**400, "temperature: expected a number above 0"),
    ("input_scale", -(10**400), "input_scale: expected a number above 0"),
  ],
)
def test_a_header_that_can_not_be(workdir, tmp_path, field, value, message):
  network = calibrate.read_workdir(workdir)
  path = tmp_path / "network.safetensors"
  _write_with(path, network, **{field: value})
  _assert_refused(path, message)
  # In a workdir's record as well.
  file = workdir / "calibration.json"
  file.write_text(json.dumps(json.loads(file.read_text()) | {field: value}))
  with pytest.raises(ValueError, match=r"calibration\.json is damaged"):
    calibrate.read_workdir(workdir)


def test_a_header_without_a_temperature(workdir, tmp_path):
  network = calibrate.read_workdir(workdir)
  path = tmp_path / "network.safetensors"
  _write_with(path, network, temperature=...)
  with pytest.raises(ValueError, match="'temperature' is missing"):
    bundle.read_bundle(path)


def _write_with(path, network, change=lambda tensors: tensors, **changes):
  """A bundle with changed arrays, or other fields in its header; ... leaves one out."""
  bundle.write_bundle(path, network, dtype="float32")
  with safetensors.safe_open(path, "np") as file:
    header = json.loads(file.metadata()["header"]) | changes
  header = {name: value for name, value in header.items() if value is not ...}
  metadata = {"format": bundle.FORMAT, "header": json.dumps(header)}
  tensors = change(safetensors.numpy.load_file(path))
  safetensors.numpy.save_file(tensors, path, metadata)


def _assert_refused(path, message):
  """Reads a bundle; returns the error, which names the file."""
  with pytest.raises(ValueError, match=message) as caught:
    bundle.read_bundle(path)
  assert str(path) in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      lambda params: params["logits"].update(kernel=np.zeros((5, 4))),
      r"params/logits/kernel: expected \(5, 3\) of its config's network 'tiny', "
      r"got \(5, 4\)",
    ),
    (
      lambda params: params.pop("logits"),
      "network 'tiny' has params/logits/bias, params/logits/kernel, the file hasn't",
    ),
    (
      lambda params: params.update(more={"kernel": np.zeros(3)}),
      "the file has params/more/kernel, its config's network 'tiny' hasn't",
    ),
    (
      lambda params: params["logits"].update(bias=np.array([0, np.nan, 0])),
      "params/logits/bias: expected finite numbers",
    ),
  ],
)
def test_arrays_of_another_network(workdir, tmp_path, change, message):
  network = calibrate.read_workdir(workdir)
  path = tmp_path / "network.safetensors"

  def change_params(tensors):
    nested = flax.traverse_util.unflatten_dict(tensors, sep="/")
    change(nested["params"])
    tensors = flax.traverse_util.flatten_dict(nested, sep="/")
    return {name: np.asarray(x, np.float32) for name, x in tensors.items()}

  _write_with(path, network, change_params)
  assert "recreate it" in _assert_refused(path, message)


def test_a_bundle_wants_a_suffix(workdir):
  with pytest.raises(ValueError, match=r"ends in \.safetensors"):
    make_bundle.make(str(workdir), "network.bin", dtype="float16", data_dir=None)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("[" * 100_000, "recursion"),
    ('{"config": ' + '{"a":' * 700 + "1" + "}" * 701, "damaged"),
    ("[]", "content: expected an object"),
    ('{"config": 3}', "config: expected an object"),
  ],
  ids=["nested", "nested config", "list", "no config"],
)
def test_a_header_of_any_json_is_refused(tmp_path, text, message):
  _refuses_header(tmp_path, text, message)


def _refuses_header(folder, text, message):
  path = folder / "network.safetensors"
  metadata = {"format": bundle.FORMAT, "header": text}
  safetensors.numpy.save_file({"params/a": np.zeros(1)}, path, metadata)
  assert "\n" not in _assert_refused(path, message)


@pytest.mark.parametrize(
  ("model", "message"),
  [
    ({"dtype": "float32"}, r"config\.model: settings \['name'\] are missing"),
    ({"name": "fer_vgg", "dtype": "float32", "width": 10**400}, r"model\.width: expec"),
    (
      {"name": "fer_vgg", "dtype": "float32", "dense_features": [10**400]},
      r"model\.dense_features: .* whole number",
    ),
  ],
)
def test_a_header_of_an_impossible_network_is_refused(tmp_path, model, message):
  config = files.to_jsonable(defaults.get_default_config().to_dict()) | {"model": model}
  _refuses_header(tmp_path, json.dumps({"config": config}), message)


@pytest.mark.parametrize(
  ("names", "message"),
  [
    (["params"], "array 'params': expected a path as params/LAYER/kernel"),
    (["weights/kernel"], "array 'weights/kernel': expected a path"),
    (["params//kernel"], "array 'params//kernel': expected a path"),
    (["params/logits"], "array 'params/logits': there is an array 'params/logits/"),
    (["batch_stats"], "array 'batch_stats': expected a path"),
  ],
)
def test_an_array_by_an_impossible_name_is_named(workdir, tmp_path, names, message):
  network = calibrate.read_workdir(workdir)
  path = tmp_path / "network.safetensors"
  more = {name: np.zeros(1, np.float32) for name in names}
  _write_with(path, network, lambda tensors: tensors | more)
  _assert_refused(path, message)


def test_an_own_network_is_refused_before_anything_is_loaded(tmp_path):
  config = defaults.get_default_config()
  config.model.name = "mine.py:Net"
  (tmp_path / "config.json").write_text(config.to_json_best_effort())
  with pytest.raises(ValueError, match=r"mine\.py:Net is code of this run"):
    make_bundle.make(str(tmp_path), "a.safetensors", dtype="float32", data_dir=None)
