"""Figures that run a network: drawn of tiny ones, and read back."""

import json
import types

import jax
import jax.numpy as jnp
import made_up_run
import numpy as np
import pytest
import tiny_network
import tiny_workdir
from PIL import Image
from plane_flags import plane_flags

from emosynth_jax.analysis.curvature import eigenvalues
from emosynth_jax.analysis.gradcam import command as gradcam_command
from emosynth_jax.analysis.gradcam import grad_cam
from emosynth_jax.analysis.gradcam import plots as gradcam_plots
from emosynth_jax.analysis.loss_landscape import plots as landscape_plots
from emosynth_jax.analysis.loss_landscape import surface
from emosynth_jax.config import defaults
from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.training import build
from emosynth_jax.utils import files, plotting
from experiments import figure
from experiments.lib import figures_of_networks

_CLASSES = ("angry", "sad", "fear")
_TOTAL = 22


def _dataset(split="train"):
  images, labels = tiny_network.random_images(_TOTAL, seed=3)
  # Of different brightness, which is what a mean over the pixels sees.
  shades = np.random.default_rng(3).random((_TOTAL, 1, 1, 1))
  shaded = (np.asarray(images) * shades).astype(np.uint8)
  return from_arrays(shaded, labels, _CLASSES, split=split)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  tiny_workdir.install(monkeypatch, lambda config, split: _dataset(split))


@pytest.fixture
def drawn(monkeypatch):
  """The figures that were saved, by the name of their file."""
  saved, save = {}, plotting.save

  def keep(figure, path):
    saved[path.name] = figure
    save(figure, path)

  monkeypatch.setattr(plotting, "save", keep)
  return saved


def _write_run(workdir, model, *, seed=0, loss="cross_entropy"):
  """A workdir with a network that was never trained; returns its variables."""
  config = defaults.get_default_config()
  config.model = {"name": model, "dtype": "float32"}
  config.loss = {"name": loss}
  config.seed = seed
  built = build.build_experiment(
    config, image_shape=tiny_network.IMAGE_SHAPE, num_classes=3
  )
  state = build.create_state(built, 5 + seed).replace(best_epoch=jnp.int32(1))
  workdir.mkdir()
  tiny_workdir.write(workdir, config, state)
  (workdir / "metrics.jsonl").write_text('{"step": 1, "epoch": 1}\n')
  report = made_up_run.report_of(
    files.to_jsonable(config.to_dict()), best_epoch=1, epochs_trained=1
  )
  (workdir / "report.json").write_text(json.dumps(report))
  return state


def _looks_drawn(path):
  with Image.open(path) as image:
    pixels = np.asarray(image.convert("RGB"))
  return pixels.shape[0] > 200 and pixels.std() > 10


def test_saliency_shows_images_and_maps_of_the_split(tmp_path, drawn, monkeypatch):
  state = _write_run(tmp_path / "run", "tiny_maps", seed=2)
  # Several calls, and a last one that is not full.
  monkeypatch.setattr(figures_of_networks, "_BATCH_SIZE", 4)
  monkeypatch.setattr(gradcam_command, "_BATCHES_A_CALL", 2)
  given = types.SimpleNamespace(
    workdir=[str(tmp_path / "run")], split="test", images=0, data_dir=None
  )
  figures_of_networks.draw_saliency(given, tmp_path / "saliency.png")
  name = "saliency-synthetic_faces-tiny_maps-cross_entropy-seed2.png"
  assert list(drawn) == [name]
  assert _looks_drawn(tmp_path / name)
  upper, lower = drawn[name].subfigs
  title = upper.get_suptitle()
  assert title == (
    "synthetic_faces, test: tiny_maps, cross_entropy, seed 2, layer maps (4 x 4 pixels)"
  )
  assert "its maximum" in [t.get_text() for t in lower.axes[0].get_xticklabels()]
  dataset = _dataset()
  inputs = dataset.images.astype(np.float32) * np.float32(state.input_scale)
  expected = jax.jit(
    lambda v, x: grad_cam.grad_cam(
      grad_cam.flax_apply_fn(tiny_network.TinyMaps(3)), v, x, layer="maps"
    )
  )(state.variables, inputs)
  predicted = np.asarray(expected.logits).argmax(1)
  shown = 0
  for right, block in zip((True, False), upper.subfigs, strict=True):
    rows = np.reshape(block.axes, (3, 4))
    for k, row in enumerate(rows):
      own = np.flatnonzero(
        (dataset.labels == k) & ((predicted == dataset.labels) == right)
      )
      if not len(own):
        assert row[0].texts[0].get_text() == f"({_CLASSES[k]}: none)"
        continue
      first, shown = own[0], shown + 1
      pixels = dataset.images[first]
      np.testing.assert_array_equal(row[0].images[0].get_array(), pixels[..., 0])
      overlaid = gradcam_plots.overlay(
        pixels.mean(-1) / 255, np.asarray(expected.maps[first])
      )
      np.testing.assert_allclose(row[1].images[0].get_array(), overlaid, atol=1e-4)
  assert shown >= 3
  assert "run: synthetic_faces, tiny_maps, cross_entropy, seed 2, 1 epochs" in (
    (tmp_path / name).with_suffix(".txt").read_text()
  )


def _pair(folder):
  _write_run(folder / "a", "tiny")
  _write_run(folder / "b", "tiny", seed=1, loss="mse")
  workdirs = [str(folder / name) for name in "ab"]
  given = plane_flags(
    workdir=workdirs[0],
    compare=workdirs[1:],
    output=str(folder / "out"),
    images=16,
    batch_size=8,
    steps=40,
  )
  return workdirs, given


@pytest.mark.slow
def test_figure_4_4_has_both_landscapes_on_one_scale(tmp_path, drawn):
  workdirs, given = _pair(tmp_path)
  figure.draw(figure.choose(["4.4"]), given)
  assert list(drawn) == ["figure_4_4_contour.png", "figure_4_4_surface.png"]
  panels = drawn["figure_4_4_contour.png"].axes[:2]
  filled = [panel.collections[0] for panel in panels]
  for workdir, one, panel in zip(workdirs, filled, panels, strict=True):
    record, arrays = surface.landscapes_of([workdir], given)[0]
    assert record["num_classes"] == 3
    assert one.zmin == pytest.approx(arrays["loss"].min(), rel=1e-6)
    assert one.zmax == pytest.approx(arrays["loss"].max(), rel=1e-6)
    assert panel.get_title() == landscape_plots.describe_run(record)
  np.testing.assert_array_equal(filled[0].levels, filled[1].levels)
  assert _looks_drawn(tmp_path / "out/figure_4_4_contour.png")
  assert _looks_drawn(tmp_path / "out/figure_4_4_surface.png")
  text = (tmp_path / "out/figure_4_4.txt").read_text()
  assert "a: synthetic_faces, tiny, cross_entropy, seed 0" in text
  assert "b: synthetic_faces, tiny, mse, seed 1" in text


def test_figure_4_5_has_each_ratio_in_its_place(tmp_path, drawn):
  workdirs, given = _pair(tmp_path)
  figure.draw(figure.choose(["4.5"]), given)
  shown = drawn["figure_4_5.png"]
  for workdir, panel in zip(workdirs, shown.axes[:2], strict=True):
    _, arrays = eigenvalues.maps_of([workdir], given)[0]
    # The first index is drawn to the right.
    np.testing.assert_array_equal(panel.images[0].get_array(), arrays["ratio"].T)
    marked = {line.get_marker(): len(line.get_xdata()) for line in panel.get_lines()}
    assert marked == {
      "+": (
        arrays["converged"] & (arrays["smallest"] >= -arrays["absolute_tolerance"])
      ).sum(),
      "x": (~arrays["converged"]).sum(),
      "o": 1,
    }
    # Above 1 is not one color.
    norm = panel.images[0].norm
    assert norm.vmin * norm.vmax == pytest.approx(1)
  assert _looks_drawn(tmp_path / "out/figure_4_5.png")
  assert (
    "b: synthetic_faces, tiny, mse, seed 1"
    in (tmp_path / "out/figure_4_5.txt").read_text()
  )
