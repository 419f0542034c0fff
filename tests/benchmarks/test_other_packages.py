"""The interval, the names of classes, and what the command says of a mistake."""

import types

import numpy as np
import pytest
from scipy import optimize, stats

from benchmarks import other_packages
from emosynth_jax.data import fer2013
from emosynth_jax.data.dataset import Dataset


@pytest.mark.parametrize(("hits", "total"), [(0, 9), (3, 10), (295, 500), (7, 7)])
def test_wilson_is_scipys_and_solves_its_equation(hits, total):
  low, high = other_packages.wilson(hits, total)
  z = stats.norm.ppf(0.975)
  expected = stats.binomtest(hits, total).proportion_ci(method="wilson")
  assert other_packages.wilson(hits, total, z) == pytest.approx(expected, abs=1e-9)
  share = hits / total

  def distance(p):
    return abs(share - p) - 1.96 * np.sqrt(p * (1 - p) / total)

  # Beside the share itself, which solves the equation at 0 and 1.
  if hits:
    root = optimize.brentq(distance, 1e-9, share - 1e-6)
    assert low == pytest.approx(root, abs=1e-6)
  if hits < total:
    root = optimize.brentq(distance, share + 1e-6, 1 - 1e-9)
    assert high == pytest.approx(root, abs=1e-6)
  assert 0 <= low <= share <= high <= 1


@pytest.mark.parametrize(("hits", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_proportion(hits, total):
  with pytest.raises(ValueError, match="expected 0 <= hits <= total"):
    other_packages.wilson(hits, total)


def test_names_of_classes():
  labels = other_packages.to_labels(["Anger", "neutral"], fer2013.CLASS_NAMES)
  np.testing.assert_array_equal(labels, [0, 6])
  with pytest.raises(ValueError, match="the package says 'bored', expected one of ang"):
    other_packages.to_labels(["bored"], fer2013.CLASS_NAMES)


def _faces(data_dir, split):
  """Of class k all pixels are k."""
  assert split == "test"
  labels = np.arange(40, dtype=np.int32) % 6
  return Dataset(
    images=np.broadcast_to(labels[:, None, None, None], (40, 48, 48, 1)).astype("u1"),
    labels=labels,
    class_names=fer2013.CLASS_NAMES,
    split=split,
    sources=("",) * 40,
  )


def _main(monkeypatch, arguments=(), **changes):
  given = {"package": "fer", "data_dir": "data", "images": 0, "traceback": False}
  monkeypatch.setattr(
    other_packages.flags, "FLAGS", types.SimpleNamespace(**given | changes)
  )
  other_packages.main(["other_packages", *arguments])


def test_the_figures(monkeypatch, capsys):
  # A sixth of the images, those of class 0, are taken for disgust.
  def classify(images):
    return [fer2013.CLASS_NAMES[max(1, image[0, 0])] for image in images]

  monkeypatch.setattr(fer2013, "load", _faces)
  monkeypatch.setitem(other_packages.PACKAGES, "fer", lambda: classify)
  monkeypatch.setattr(other_packages, "installed_size", lambda name: (7_000_000, 3))
  monkeypatch.setattr(other_packages.importlib.metadata, "version", lambda name: "1.0")
  _main(monkeypatch)
  said = capsys.readouterr().out
  assert "40 PrivateTest images, accuracy 82.5 %" in said  # 33 of 40
  assert "balanced 83.3 %" in said  # 5 of the 6 classes that are there
  assert "7 MB in 3 packages" in said
  assert "angry 0, disgust 100" in said
  assert "neutral" not in said  # None of 40.


def test_mistakes_are_one_line(monkeypatch, capsys, tmp_path):
  with pytest.raises(SystemExit):
    _main(monkeypatch, ["fer"])
  assert "expected flags only" in capsys.readouterr().err
  monkeypatch.setattr(other_packages, "installed_size", lambda name: (1, 1))
  with pytest.raises(SystemExit):
    _main(monkeypatch, data_dir=str(tmp_path))
  error = capsys.readouterr().err
  assert str(tmp_path) in error
  assert error.startswith("error: ")
  assert error.count("\n") == 1

  def absent(name):
    raise ModuleNotFoundError(f"{name} is not installed: pip install {name!r}")

  # Before anything is measured.
  monkeypatch.setattr(fer2013, "load", None)
  monkeypatch.setattr(other_packages, "installed_size", absent)
  with pytest.raises(SystemExit):
    _main(monkeypatch)
  assert capsys.readouterr().err == ("error: fer is not installed: pip install 'fer'\n")
