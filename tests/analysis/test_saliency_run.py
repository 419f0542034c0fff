"""From a workdir to maps, picture and record; refusals."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
from PIL import Image

from emosynth_jax import default_config, experiment, models, run_config
from emosynth_jax.analysis import gradcam, saliency_grid, saliency_run
from emosynth_jax.checkpoints import Checkpoints
from emosynth_jax.data.dataset import Dataset

_CLASSES = ("angry", "sad", "$fear$")


def _flags(workdir, **changes):
  given = {
    "workdir": str(workdir),
    "layer": None,
    "split": "validation",
    "images": 0,
    "batch_size": 4,
    "target": "predicted",
    "sanity_check": False,
    "data_dir": None,
    "traceback": False,
  }
  return types.SimpleNamespace(**given | changes)


def _dataset():
  images, labels = tiny_network.random_images(11)
  return Dataset(
    images=np.asarray(images),
    labels=np.asarray(labels, np.int32),
    class_names=_CLASSES,
    split="validation",
    sources=("",) * 11,
  )


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  monkeypatch.setitem(models.MODELS, "tiny_maps", tiny_network.TinyMaps)
  monkeypatch.setattr(
    experiment, "load_data", lambda config, splits, **_: {s: _dataset() for s in splits}
  )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A workdir, and the variables and scale of its checkpoint."""
  workdir = tmp_path_factory.mktemp("run")
  config = default_config.get_default_config()
  config.model = {"name": "tiny_maps", "dtype": "float32"}
  # Judged by cosines, not by the network's own logits.
  config.loss = {"name": "cosface", "scale": 8.0}
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(models.MODELS, "tiny_maps", tiny_network.TinyMaps)
    built = experiment.build_experiment(
      config, image_shape=tiny_network.IMAGE_SHAPE, num_classes=3
    )
    state = experiment.create_state(built, 5)
  run_config.keep_config(config, workdir)
  run_config.keep_fingerprint({"validation": _dataset()}, workdir)
  checkpoints = Checkpoints(workdir, keep=1)
  checkpoints.save("best", state)
  checkpoints.close()
  return workdir, state.variables, state.input_scale


def test_a_run_gets_maps_picture_and_record(run, capsys):
  workdir, variables, input_scale = run
  saliency_run.explain_run(_flags(workdir, target="label", sanity_check=True))
  assert "Grad-CAM of maps (4, 4, 4) for the label class" in capsys.readouterr().out
  found = np.load(workdir / "gradcam.npz")
  dataset = _dataset()
  np.testing.assert_array_equal(found["rows"], np.arange(11))
  np.testing.assert_array_equal(found["targets"], dataset.labels)

  def cosines(variables, inputs):
    _, out = tiny_network.TinyMaps(3).apply(variables, inputs, train=False)
    x, kernel = out["pre_logits"], variables["params"]["logits"]["kernel"]
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    return 8 * x @ (kernel / jnp.linalg.norm(kernel, axis=0, keepdims=True)), out

  inputs = dataset.images * np.float32(input_scale)
  expected = jax.jit(
    lambda v, x: gradcam.grad_cam(
      cosines, v, x, layer="maps", targets=jnp.asarray(dataset.labels)
    )
  )(variables, inputs)
  assert expected.maps.max() > 0
  np.testing.assert_allclose(found["logits"], expected.logits, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(found["maps"], expected.maps, rtol=1e-3, atol=1e-6)
  # As large as the image already.
  np.testing.assert_allclose(found["grad_cam"], found["maps"], rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(
    found["guided_grad_cam"], found["guided_backprop"] * found["grad_cam"][..., None]
  )
  record = json.loads((workdir / "gradcam.json").read_text())
  assert record["layer"] == "maps"
  assert record["num_images"] == 11
  assert list(record["sanity_check"]) == ["logits", "conv"]
  picture = np.asarray(Image.open(workdir / "gradcam.png").convert("RGB"))
  assert picture.std() > 10


def test_mistakes_are_named(run, tmp_path):
  workdir = run[0]
  with pytest.raises(
    ValueError, match=r"got 'nope'; tiny_maps has\n  conv \(4, 4, 4\)"
  ):
    saliency_run.explain_run(_flags(workdir, layer="nope"))
  with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
    saliency_run.explain_run(_flags(tmp_path))
  run_config.keep_config(default_config.get_default_config(), tmp_path)
  with pytest.raises(FileNotFoundError, match="no best checkpoint: train"):
    saliency_run.explain_run(_flags(tmp_path))


def test_one_image_classified_well_and_one_not_of_each_class():
  labels = np.array([0, 0, 1, 1, 3, 3])
  predicted = np.array([1, 0, 1, 1, 0, 0])
  assert saliency_grid.choose_examples(labels, predicted, 4) == [
    (1, 0),
    (2, None),
    (None, 4),
  ]


def test_captions_say_class_and_confidence():
  logits = np.log(np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]))
  found = {"logits": logits, "targets": np.array([0, 1])}
  labels = np.array([0, 1])
  names = ("angry", "sad", "fear")
  assert saliency_grid.caption(found, 0, labels, names) == "angry 70 %"
  assert saliency_grid.caption(found, 1, labels, names) == (
    "angry 70 %, is sad (20 %); map of sad"
  )


def test_maps_of_zeros_are_drawn_as_nothing():
  grey = np.full((2, 2), 0.25)
  np.testing.assert_allclose(
    saliency_grid.overlay(grey, np.zeros((2, 2))), np.full((2, 2, 3), 0.25)
  )
  np.testing.assert_array_equal(saliency_grid.signed(np.zeros((2, 2, 1))), 0.5)
  # One pixel of many is not taken for an outlier where all others are 0.
  one = np.zeros((30, 30, 1))
  one[3, 4] = -2
  assert saliency_grid.signed(one)[3, 4] == 0
