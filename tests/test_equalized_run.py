"""A network that equalizes its images answers as one whose images were equalized.

Every command is run on two workdirs of the same variables: one with
`input.equalize="always"` and low-contrast images, one without it and with the images as
OpenCV equalizes them.
"""

import functools
import json
import types

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
import tiny_workdir

from emosynth_jax import bundle, predict
from emosynth_jax.analysis import deletion, trained_run
from emosynth_jax.analysis.embeddings import command as embedding_command
from emosynth_jax.analysis.gradcam import command as gradcam_command
from emosynth_jax.analysis.gradcam import plots as gradcam_plots
from emosynth_jax.bundle import calibrate
from emosynth_jax.config import defaults
from emosynth_jax.config.stored import parse_config
from emosynth_jax.data import run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.export import export, verify
from emosynth_jax.report import predictions
from emosynth_jax.training import build, train_step
from emosynth_jax.workdir import record as run_record

_CLASSES = ("angry", "happy", "neutral")
_TOTAL = 30


def _images():
  """Low contrast, of different ranges: equalized, each is another image."""
  rng = np.random.default_rng(3)
  images = rng.integers(0, 12, (_TOTAL, 8, 8, 1)) ** 2 // 4
  return (images + rng.integers(0, 200, (_TOTAL, 1, 1, 1))).astype(np.uint8)


def _equalized(images):
  return np.stack([cv2.equalizeHist(image[..., 0]) for image in images])[..., None]


def _load_data(config, splits, **_):
  always = config.input.equalize == "always"
  dataset = Dataset(
    images=_images() if always else _equalized(_images()),
    labels=(np.arange(_TOTAL) % 3).astype(np.int32),
    class_names=_CLASSES,
    split="validation",
    sources=("",) * _TOTAL,
    official_split="PublicTest",
  )
  return dict.fromkeys(splits, dataset)


def _config(equalize):
  config = defaults.get_default_config()
  config.model = {"name": "tiny_maps", "dtype": "float32"}
  config.input.equalize = equalize
  return config


def _build(equalize):
  return build.build_experiment(_config(equalize), image_shape=(8, 8, 1), num_classes=3)


@pytest.fixture(autouse=True)
def _tiny(tiny_networks, monkeypatch):
  monkeypatch.setattr(run_data, "load_data", _load_data)


@pytest.fixture(scope="module")
def state(tiny_networks):
  return build.create_state(_build("none"), 5)


@pytest.fixture(scope="module")
def workdirs(state, tmp_path_factory):
  """The one that equalizes, and the one whose images are."""
  found = []
  for equalize in ("always", "none"):
    best = state.replace(best_epoch=jnp.int32(2))
    workdir = tmp_path_factory.mktemp(equalize)
    found.append(tiny_workdir.write(workdir, _config(equalize), best))
  return found


def _expected_logits(state, images):
  inputs = images.astype(np.float32) / np.float32(255)
  network = tiny_network.TinyMaps(3)
  return network.apply(state.variables, inputs, train=False)[0]


def test_the_images_tell_the_two_apart(state):
  raw, equalized = (
    _expected_logits(state, x) for x in (_images(), _equalized(_images()))
  )
  assert np.abs(raw - equalized).max(1).min() > 1e-3


@pytest.mark.parametrize("views", ["none", "flip", "ten_crop"])
def test_evaluation_equalizes_before_the_views(state, views):
  labels = jnp.arange(_TOTAL, dtype=jnp.int32) % 3
  summaries = [
    tiny_network.build_evaluate(
      _build(equalize), class_names=_CLASSES, batch_size=16, augment=views
    )(state, jnp.asarray(images), labels)
    for equalize, images in (("always", _images()), ("none", _equalized(_images())))
  ]
  assert summaries[0]["loss"] == pytest.approx(summaries[1]["loss"], rel=1e-6)
  assert summaries[0]["confusion_matrix"] == summaries[1]["confusion_matrix"]


def test_training_equalizes_and_random_evaluates_as_they_are(state):
  labels = jnp.arange(_TOTAL, dtype=jnp.int32) % 3

  def train(equalize, images):
    built = _build(equalize)
    setup = train_step.StepSetup(
      model=built.model,
      loss=built.loss,
      evaluation_logits=built.evaluation_logits,
      optimizer=built.optimizer,
      augment=built.augment,
      class_weights=np.ones(3, np.float32),
    )
    batch = train_step.Batch(jnp.asarray(images), labels)
    step = jax.jit(functools.partial(train_step.train_step, setup=setup))
    return step(state, batch).params

  always = train("always", _images())
  jax.tree.map(
    np.testing.assert_array_equal, always, train("none", _equalized(_images()))
  )
  raw, random = train("none", _images()), train("random", _images())
  for other in (always, raw):
    assert any(
      (x != y).any()
      for x, y in zip(jax.tree.leaves(random), jax.tree.leaves(other), strict=True)
    )
  assert _build("random").preprocess is None


def test_a_report_of_its_answers_and_grad_cam(workdirs, state):
  both = [
    predictions.compute_answers(workdir, "validation", data_dir=None, batch_size=8)
    for workdir in workdirs
  ]
  logits = np.asarray(_expected_logits(state, _equalized(_images())), np.float64)
  expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  for found in both:
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
  maps = [
    predictions.grad_cam(x, [0, 3, 7], layer=None, batch_size=2).maps for x in both
  ]
  np.testing.assert_allclose(*maps, atol=1e-6)


def test_saliency(workdirs, monkeypatch):
  monkeypatch.setattr(gradcam_plots, "draw", lambda path, **_: None)
  found = []
  for workdir in workdirs:
    given = types.SimpleNamespace(
      workdir=str(workdir),
      layer=None,
      split="validation",
      images=0,
      batch_size=8,
      target="predicted",
      sanity_check=False,
      data_dir=None,
    )
    gradcam_command.explain_run(given)
    with np.load(workdir / "gradcam.npz") as arrays:
      found.append(dict(arrays))
  for name in ("logits", "grad_cam", "guided_backprop", "guided_grad_cam"):
    np.testing.assert_allclose(found[0][name], found[1][name], atol=1e-5, err_msg=name)


def test_deletion(workdirs):
  tables = []
  for workdir in workdirs:
    deletion.measure(
      types.SimpleNamespace(
        workdir=str(workdir),
        layers=["maps"],
        share=0.25,
        split="validation",
        images=256,
        batch_size=8,
        data_dir=None,
      )
    )
    tables.append(
      json.loads((workdir / "deletion.json").read_text())["probability_drop"]
    )
  for name, row in tables[0].items():
    assert row == pytest.approx(tables[1][name], abs=1e-5), name


def test_embeddings(workdirs):
  found = [embedding_command.embed_runs([each], points=5)[0][1] for each in workdirs]
  for name in ("embeddings", "logits"):
    np.testing.assert_allclose(found[0][name], found[1][name], atol=1e-5, err_msg=name)


def test_landscapes_and_curvature_see_equalized_images(workdirs, state):
  runs = [
    trained_run.load_run(workdir, split="train", batch_size=10) for workdir in workdirs
  ]
  np.testing.assert_array_equal(runs[0].batches[0], runs[1].batches[0])
  assert runs[0].batches[0].dtype == jnp.uint8


def test_a_prediction_is_the_bundles_and_every_exports(workdirs, state, tmp_path):
  network = calibrate.read_workdir(workdirs[0])
  path = tmp_path / "network.safetensors"
  bundle.write_bundle(path, network, dtype="float32")
  stored = bundle.read_bundle(path)
  assert stored.config.input.equalize == "always"
  assert calibrate.read_workdir(workdirs[1]).temperature == pytest.approx(
    network.temperature, rel=1e-4
  )

  images = _images()
  expected = np.asarray(_expected_logits(state, _equalized(images)))
  compute = bundle.compile_logits(stored, batch_size=7)
  np.testing.assert_allclose(compute(images), expected, atol=1e-5)
  probabilities = np.exp(expected / network.temperature)
  probabilities /= probabilities.sum(1, keepdims=True)
  for format in ("stablehlo", "onnx"):
    content = export.export_network(stored, format)
    logits, shares = verify.read_answer(content, format)(images)
    np.testing.assert_allclose(logits, expected, atol=1e-5, err_msg=format)
    np.testing.assert_allclose(shares, probabilities, atol=1e-5, err_msg=format)
  # In 8 bits coarse; without equalization it differs by far more.
  content = export.export_network(stored, "onnx_int8", calibration_images=images)
  logits, _ = verify.read_answer(content, "onnx_int8")(images)
  raw = np.asarray(_expected_logits(state, images))
  assert np.abs(logits - expected).max() < 0.2 * np.abs(raw - expected).max()

  predictor = predict.Predictor(path, faces="none", batch_size=4)
  np.testing.assert_allclose(predictor.probabilities(images), probabilities, atol=1e-5)
  # A photograph is cropped and resized before it is equalized.
  photograph = cv2.resize(images[0], (16, 16), interpolation=cv2.INTER_CUBIC)
  (found,) = predictor(photograph)
  small = predictor._prepare(photograph[..., None])[None]
  logits = np.asarray(_expected_logits(state, _equalized(small))) / network.temperature
  shares = np.exp(logits) / np.exp(logits).sum()
  np.testing.assert_allclose(list(found.probabilities.values()), shares[0], atol=1e-5)


def test_a_bundle_without_the_setting_does_not_equalize(workdirs):
  network = calibrate.read_workdir(workdirs[1])
  stored = network.config.to_dict()
  for name in ("equalize", "equalize_share"):
    del stored["input"][name]
  old = parse_config(json.loads(json.dumps(stored)))
  assert old.input.equalize == "none"
  run_record.check_same_config(old, workdirs[1])
  with pytest.raises(ValueError, match=r"input\.equalize is 'always', was 'none'"):
    run_record.check_same_config(_config("always"), workdirs[1])


def test_an_export_says_that_it_equalizes(workdirs):
  network = calibrate.read_workdir(workdirs[0])
  assert export.describe(network)["equalize"] == "always"
  assert export.describe(network)["standardize"] is False
