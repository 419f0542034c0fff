"""From a workdir to maps, plot and record; refusals."""

import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
import tiny_workdir
from matplotlib.text import Text

from emosynth_jax.analysis import cli
from emosynth_jax.analysis.gradcam import command as gradcam_command
from emosynth_jax.analysis.gradcam import grad_cam, sanity_check
from emosynth_jax.analysis.gradcam import network as gradcam_network
from emosynth_jax.analysis.gradcam import plots as gradcam_plots
from emosynth_jax.config import defaults
from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.training import build
from emosynth_jax.training.restore import Network, load_network
from emosynth_jax.utils import plotting
from emosynth_jax.workdir import digests
from emosynth_jax.workdir import record as run_record

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
  return tiny_workdir.dataset(11)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  tiny_workdir.install(monkeypatch, lambda config, split: _dataset())


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_networks):
  """A workdir, and the variables and scale of its checkpoint."""
  workdir = tmp_path_factory.mktemp("run")
  config = defaults.get_default_config()
  config.model = {"name": "tiny_maps", "dtype": "float32"}
  # Judged by cosines, not by the network's own logits.
  config.loss = {"name": "cosface", "scale": 8.0}
  built = build.build_experiment(
    config, image_shape=tiny_network.IMAGE_SHAPE, num_classes=3
  )
  state = build.create_state(built, 5)
  tiny_workdir.write(workdir, config, state, {"validation": _dataset()})
  return workdir, state.variables, state.input_scale


def test_a_run_gets_maps_plot_and_record(run, capsys, monkeypatch):
  workdir, variables, input_scale = run
  drawn = []
  monkeypatch.setattr(
    plotting, "save", lambda figure, path: drawn.append((figure, path))
  )
  gradcam_command.explain_run(_flags(workdir, target="label", sanity_check=True))
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
    lambda v, x: grad_cam.grad_cam(
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
  assert record["training_seed"] == 0
  assert record["variables_crc32"] == digests.checksum(variables)
  assert record["computed_in"]["dtype"] == "float32"
  assert list(record["sanity_check"]) == ["logits", "conv"]
  assert record["sanity_check_of"]["num_images"] == 11
  assert record["sanity_check_of"]["fresh_seed"] == 1
  assert list(record["sanity_check_of"]["standard_errors"]) == ["logits", "conv"]
  ((figure, path),) = drawn
  assert path == workdir / "gradcam.png"
  titles = [text.get_text() for text in figure.findobj(Text)]
  assert any(
    "PublicTest: tiny_maps, cosface, seed 0, layer maps" in title for title in titles
  )
  # Of each class the first image that is right, and the first that is wrong.
  predicted = found["logits"].argmax(-1)
  examples = gradcam_plots.choose_examples(dataset.labels, predicted, 3)
  expected = {i for pair in examples for i in pair if i is not None}
  shown = [image.get_array() for axes in figure.axes for image in axes.images]
  for i in expected:
    assert any(np.array_equal(dataset.images[i, ..., 0], pixels) for pixels in shown)


def test_a_sanity_check_stays_with_the_maps_that_it_is_of(run, monkeypatch, tmp_path):
  workdir = tmp_path / "run"
  shutil.copytree(run[0], workdir)
  monkeypatch.setattr(plotting, "save", lambda figure, path: None)
  gradcam_command.explain_run(_flags(workdir, sanity_check=True))

  def record():
    return json.loads((workdir / "gradcam.json").read_text())

  checked = record()["sanity_check"]
  assert list(checked) == ["logits", "conv"]
  gradcam_command.explain_run(_flags(workdir))
  assert record()["sanity_check"] == checked
  # Other maps have not been checked.
  gradcam_command.explain_run(_flags(workdir, layer="conv"))
  assert record()["sanity_check"] is None

  def killed(*args):
    raise InterruptedError

  before = (workdir / "gradcam.npz").read_bytes()
  monkeypatch.setattr(sanity_check, "check_sanity", killed)
  with pytest.raises(InterruptedError):
    gradcam_command.explain_run(_flags(workdir, sanity_check=True))
  assert (workdir / "gradcam.npz").read_bytes() == before
  assert record()["layer"] == "conv"


@pytest.mark.parametrize(
  ("layer", "margin"),
  [("transposed1", 1), ("transposed1/conv", 1), ("transposed2/norm", 3), ("block4", 0)],
)
def test_a_part_of_a_layer_reaches_as_far_beyond_the_image(layer, margin):
  # Without padding a 3x3 transposed convolution adds a pixel on each side; the second
  # one's input has two already, from the first one's upsampling.
  config = defaults.get_default_config()
  config.model = {
    "name": "emosynthnet",
    "width": 0.05,
    "synthesis": "norm",
    "dtype": "float32",
  }
  dataset = from_arrays(np.zeros((3, 48, 48), np.uint8), np.arange(3), _CLASSES)
  built = build.build_experiment(config, image_shape=(48, 48, 1), num_classes=3)
  state = build.state_shapes(built)
  network = Network(config, built, state, dataset)
  assert gradcam_network.choose_layer(network, layer)[2] == margin


def test_a_command_has_products_of_full_precision(monkeypatch):
  changed = {}
  monkeypatch.setattr(jax.config, "update", changed.__setitem__)
  ran = []
  cli.call_precisely(ran.append, types.SimpleNamespace(mapping="map"))
  assert changed == {"jax_default_matmul_precision": "highest"}
  assert len(ran) == 1


def test_the_sanity_check_sees_every_class_of_a_sorted_split(run, monkeypatch):
  monkeypatch.setattr(sanity_check, "_NUM_IMAGES", 5)
  network = load_network(run[0], "validation", None, dtype="float32")
  images, labels = network.dataset.images, np.sort(np.arange(11, dtype=np.int32) % 3)
  assert set(labels[:5]) == {0, 1}
  rng, asked, answered = np.random.default_rng(0), [], []

  def program(variables, input_scale, own, targets):
    asked.append((own, targets))
    answered.append(rng.random((5, 4, 4)))
    return {"grad_cam": answered[-1], "guided_backprop": np.ones((5, 4, 4, 1))}

  apply_fn = gradcam_network.apply_fn_of(network.experiment, modules=True)
  found = sanity_check.check_sanity(apply_fn, program, network, images, labels)
  assert set(asked[0][1]) == {0, 1, 2}
  for own, targets in asked:
    rows = [next(i for i in range(11) if np.array_equal(images[i], x)) for x in own]
    assert len(set(rows)) == 5
    np.testing.assert_array_equal(labels[rows], targets)
  # Of the whole network, the maps of the last call beside those of the first.
  values = sanity_check.rank_correlations(answered[0], answered[-1])
  of, table = found["sanity_check_of"], found["sanity_check"]
  assert of["num_images"] == 5
  assert table["conv"]["grad_cam"] == pytest.approx(values.mean())
  error = of["standard_errors"]["conv"]["grad_cam"]
  assert error == pytest.approx(np.std(values, ddof=1) / np.sqrt(5))
  # Maps without an order.
  assert table["conv"]["guided_backprop"] is None
  assert of["standard_errors"]["conv"]["guided_backprop"] is None
  text = sanity_check.format_sanity(found)
  assert f"{values.mean():.2f} ± {error:.2f}" in text
  assert "(seed 1), 5 images" in text


def test_mistakes_are_named(run, tmp_path):
  workdir = run[0]
  with pytest.raises(
    ValueError, match=r"got 'nope'; tiny_maps has\n  conv \(4, 4, 4\)"
  ):
    gradcam_command.explain_run(_flags(workdir, layer="nope"))
  with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
    gradcam_command.explain_run(_flags(tmp_path))
  run_record.keep_config(defaults.get_default_config(), tmp_path)
  with pytest.raises(FileNotFoundError, match="no best checkpoint: train"):
    gradcam_command.explain_run(_flags(tmp_path))


def test_one_image_classified_well_and_one_not_of_each_class():
  labels = np.array([0, 0, 1, 1, 3, 3])
  predicted = np.array([1, 0, 1, 1, 0, 0])
  assert gradcam_plots.choose_examples(labels, predicted, 4) == [
    (1, 0),
    (2, None),
    (None, 4),
  ]


def test_captions_say_class_and_confidence():
  logits = np.log(np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]))
  found = {"logits": logits, "targets": np.array([0, 1])}
  labels = np.array([0, 1])
  names = ("angry", "sad", "fear")
  assert gradcam_plots.caption(found, 0, labels, names) == "angry 70 %"
  assert gradcam_plots.caption(found, 1, labels, names) == (
    "angry 70 %, is sad (20 %); map of sad"
  )


def test_maps_of_zeros_are_drawn_as_nothing():
  gray = np.full((2, 2), 0.25)
  np.testing.assert_allclose(
    gradcam_plots.overlay(gray, np.zeros((2, 2))), np.full((2, 2, 3), 0.25)
  )
  # A white image under the lightest yellow is white, whatever a share rounds to.
  shares = np.linspace(0, 1, 10_000, dtype=np.float32)[None]
  assert gradcam_plots.overlay(np.ones(shares.shape), shares).max() <= 1
  np.testing.assert_array_equal(gradcam_plots.signed(np.zeros((2, 2, 1))), 0.5)
  # One pixel of many is not taken for an outlier where all others are 0.
  one = np.zeros((30, 30, 1))
  one[3, 4] = -2
  assert gradcam_plots.signed(one)[3, 4] == 0
