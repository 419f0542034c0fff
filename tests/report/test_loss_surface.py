"""Plots of the loss surface: a page shows those of its own run."""

import made_up_run
import pytest
from PIL import Image

from emosynth_jax.report import loss_surface, run_files


@pytest.fixture
def run(tmp_path):
  made_up_run.write_run(tmp_path, loss="mam_softmax", seed=3)
  return run_files.read_run(tmp_path)


def _write(run, name, files, **changes):
  settings = {
    "best_epoch": run.report["best_epoch"],
    "model": run.report["config"]["model"]["name"],
    "training_loss": {"name": "mam_softmax"},
    "training_seed": 3,
    "variables_crc32": 7,
    "num_images": 64,
    "official_split": "PublicTest",
    "split": "validation",
    "batch_norm": "running",
    "seed": 0,
  }
  made_up_run.write_json(run.workdir / f"{name}.json", {"settings": settings | changes})
  for file in files:
    Image.new("RGB", (3, 2)).save(run.workdir / f"{file}.png")


@pytest.mark.parametrize(
  ("changes", "crc", "reason"),
  [
    ({}, 7, None),
    ({}, None, None),
    ({"variables_crc32": 8}, None, None),
    ({"variables_crc32": 8}, 7, "of other parameters than the best checkpoint's"),
    ({"best_epoch": 77}, 7, "of epoch 77, the report of epoch"),
    ({"training_seed": 4}, None, "of another run, with seed 4 instead of 3"),
    (
      {"training_loss": {"name": "cross_entropy"}},
      None,
      "with loss cross_entropy instead of mam_softmax",
    ),
    ({"model": "fer_vgg"}, None, "with network fer_vgg instead of"),
  ],
)
def test_another_network_is_left_out_and_counts_as_not_run(run, changes, crc, reason):
  _write(run, "curvature", ["curvature"], **changes)
  found, left_out, stored = loss_surface.stored_plots(run, crc)
  assert ("curvature" in stored) == (reason is None)
  if reason is None:
    assert [plot["title"] for plot in found] == ["Spectrum of the Hessian"]
    assert left_out == []
    assert "64 images of PublicTest, BatchNorm running" in found[0]["note"]
  else:
    assert found == []
    assert reason in left_out[0]


def test_a_line_has_its_own_plot_and_is_no_plane(run):
  planes = ["loss_landscape_contour", "loss_landscape_surface"]
  _write(run, "loss_line", ["loss_line"], dimensions=1)
  found, _, stored = loss_surface.stored_plots(run)
  assert [plot["title"] for plot in found] == ["Loss along one direction"]
  assert stored == {"loss_line"}
  # As an earlier version wrote a line over a plane whose plots stayed.
  _write(run, "loss_landscape", planes, dimensions=1)
  found, (left_out,), stored = loss_surface.stored_plots(run)
  assert [plot["title"] for plot in found] == ["Loss along one direction"]
  assert "loss_landscape.json is of a line" in left_out
  assert stored == {"loss_line"}
  _write(run, "loss_landscape", planes, dimensions=2)
  found, _, stored = loss_surface.stored_plots(run)
  assert len(found) == 3
  assert stored == {"loss_line", "loss_landscape"}


def test_a_record_without_its_plot_is_said_to_be_there(run):
  # As after a kill between computing and drawing.
  _write(run, "loss_landscape", [])
  found, (left_out,), stored = loss_surface.stored_plots(run)
  assert found == []
  assert stored == {"loss_landscape"}
  assert "loss_landscape.json has no plot" in left_out
  assert "emosynth_jax.analysis.loss_landscape with the same flags" in left_out


def test_a_record_that_says_too_little_is_damaged(run):
  made_up_run.write_json(run.workdir / "curvature.json", {"settings": {"seed": 0}})
  with pytest.raises(ValueError, match="without best_epoch, model, training_loss"):
    loss_surface.stored_plots(run)
