"""No computed grid is lost: other settings, a line beside a plane, a kill."""

import numpy as np
import pytest

from emosynth_jax.analysis import result_cache
from emosynth_jax.utils import files, npz

_DIRECTIONS = {"kernel": np.ones((2, 3), np.float32)}


def _write(stem, seed, value, directions=_DIRECTIONS):
  settings = {"seed": seed, "workdir": f"runs/{seed}", "range": np.float32(0.5)}
  result_cache.write(
    stem, {"settings": settings, "loss": value}, {"loss": np.full(3, value)}, directions
  )
  for ending in ("_contour.png", "_surface.png"):
    stem.with_name(stem.name + ending).write_bytes(f"{value}".encode())
  return settings


def _plot(stem):
  path = stem.with_name(f"{stem.name}_contour.png")
  return path.read_bytes() if path.exists() else None


def test_what_was_made_with_other_settings_is_kept_and_comes_back(tmp_path):
  stem = tmp_path / "loss_landscape"
  first, second = _write(stem, 0, 1.0), _write(stem, 1, 2.0)
  record, arrays = result_cache.read(stem, second)
  assert record["loss"] == 2
  np.testing.assert_array_equal(arrays["loss"], np.full(3, 2.0))
  (other,) = tmp_path.glob("loss_landscape-*.json")
  assert _plot(other.with_suffix("")) == b"1.0"
  record, arrays = result_cache.read(stem, first)
  assert record["loss"] == 1
  np.testing.assert_array_equal(arrays["loss"], np.full(3, 1.0))
  # It is the current one now, with its own plots, and the other is kept in turn.
  assert _plot(stem) == b"1.0"
  assert len(list(tmp_path.glob("loss_landscape-*.json"))) == 2
  record, arrays = result_cache.read(stem, second)
  np.testing.assert_array_equal(arrays["loss"], np.full(3, 2.0))
  assert _plot(stem) == b"2.0"
  assert result_cache.read(stem, second | {"seed": 2}) is None
  # The same run by another name of its folder.
  assert result_cache.read(stem, second | {"workdir": "elsewhere"})[0]["loss"] == 2
  assert not list(tmp_path.glob(".*"))


def test_plots_of_the_one_before_do_not_stand_beside_a_new_record(tmp_path):
  stem = tmp_path / "loss_landscape"
  _write(stem, 0, 1.0)
  beside_another_run = tmp_path / "loss_landscape_comparison_contour.png"
  beside_another_run.write_bytes(b"1.0 and another")
  result_cache.write(stem, {"settings": {"seed": 1}}, {"loss": np.zeros(3)})
  assert _plot(stem) is None
  assert not beside_another_run.exists()


def test_names_that_begin_alike_are_other_analyses(tmp_path):
  _write(tmp_path / "curvature_map", 0, 1.0)
  settings = _write(tmp_path / "curvature", 1, 2.0)
  _write(tmp_path / "curvature", 2, 3.0)
  assert _plot(tmp_path / "curvature_map") == b"1.0"
  assert result_cache.read(tmp_path / "curvature_map", settings) is None


@pytest.mark.parametrize("without_links", [False, True])
@pytest.mark.parametrize("function", ["write_npz", "write_report"])
def test_a_kill_while_writing_leaves_the_old_one(
  tmp_path, monkeypatch, function, without_links
):
  stem = tmp_path / "loss_landscape"
  first = _write(stem, 0, 1.0)

  def killed(*args):
    raise InterruptedError

  def no_links(*args):
    raise OSError

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(npz if function == "write_npz" else files, function, killed)
    if without_links:
      patch.setattr(result_cache.os, "link", no_links)
    with pytest.raises(InterruptedError):
      _write(stem, 1, 2.0, directions=None)
  record, arrays = result_cache.read(stem, first)
  assert record["loss"] == 1
  np.testing.assert_array_equal(arrays["loss"], np.full(3, 1.0))
  assert _plot(stem) == b"1.0"


def test_a_damaged_record_is_as_none(tmp_path):
  stem = tmp_path / "loss_landscape"
  settings = _write(stem, 0, 1.0)
  stem.with_suffix(".npz").write_bytes(b"cut off")
  assert result_cache.read(stem, settings) is None
  for text in ("[]", "{", '{"settings": 3}'):
    stem.with_suffix(".json").write_text(text)
    assert result_cache.read(stem, settings) is None
  _write(stem, 1, 2.0)
