"""Paired differences, stored answers, names of classes, and the command's mistakes."""

import pathlib
import re
import types

import numpy as np
import pytest
from scipy import stats

from benchmarks import other_packages, package_answers
from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.data.datasets import fer2013
from emosynth_jax.utils import cli


def test_difference_of_a_published_table():
  # Agresti, "Categorical Data Analysis", 2nd ed., table 10.1 (approval ratings of 1,600
  # people, twice): -0.04 with a standard error of 0.0095.
  counts = {(1, 1): 794, (1, 0): 150, (0, 1): 86, (0, 0): 570}
  pairs = np.repeat(np.array([*counts], bool), [*counts.values()], axis=0)
  said = package_answers.difference(pairs[:, 1], pairs[:, 0])
  low, high = re.match(r"-4.00 points \(95 % CI (.*) to (.*)\); only", said).groups()
  assert float(low) == pytest.approx(-4 - 1.96 * 0.95, abs=0.02)
  assert float(high) == pytest.approx(-4 + 1.96 * 0.95, abs=0.02)
  assert "correct on 86 images, only the other on 150" in said
  # Twice the lower tail of a fair coin's 236 throws.
  p_value = 2 * stats.binom.cdf(86, 236, 0.5)
  assert said.endswith(f"McNemar p = {p_value:.2g}")


def test_no_difference():
  right = np.array([True, False, True])
  said = package_answers.difference(right, right)
  assert said.startswith("+0.00 points (95 % CI +0.00 to +0.00)")
  assert said.endswith("p = 1")


def test_answers_are_read_for_the_same_images_only(tmp_path):
  path = str(tmp_path / "runs" / "fer.csv")
  sources, labels = ["line 2", "line 3, of two"], np.array([3, 0], np.int32)
  package_answers.write(path, sources, labels, np.array([6, 0]))
  np.testing.assert_array_equal(package_answers.read(path, sources, labels), [6, 0])

  with pytest.raises(ValueError, match="images or labels differ"):
    package_answers.read(path, sources[::-1], labels)
  with pytest.raises(ValueError, match="images or labels differ"):
    package_answers.read(path, sources[:1], labels[:1])
  with pytest.raises(ValueError, match="images or labels differ"):
    package_answers.read(path, sources, labels[::-1])
  with pytest.raises(FileNotFoundError, match="write them with --answers"):
    package_answers.read(str(tmp_path / "absent.csv"), sources, labels)
  for text in ("", "source,label\n", "source,label,predicted\nline 2,3\n"):
    pathlib.Path(path).write_text(text)
    with pytest.raises(ValueError, match="expected the columns source, label, predi"):
      package_answers.read(path, sources, labels)


def test_equalized_by_the_cumulative_histogram():
  rng = np.random.default_rng(0)
  images = rng.integers(90, 140, (2, 48, 48), np.uint8)
  found = other_packages.equalize_histograms(images)
  assert found.dtype == np.uint8
  for image, equalized in zip(images, found, strict=True):
    # Of each level the share of pixels that are darker or as dark, stretched so that
    # the darkest level is 0 (Gonzalez and Woods, "Digital Image Processing").
    ranks = np.array([(image <= level).sum() for level in range(256)])
    darkest = ranks[image.min()]
    levels = 255 * (ranks - darkest) / (image.size - darkest)
    np.testing.assert_allclose(equalized, levels[image], atol=0.51)


def test_names_of_classes():
  labels = other_packages.to_labels(["Anger", "neutral"], fer2013.CLASS_NAMES)
  np.testing.assert_array_equal(labels, [0, 6])
  with pytest.raises(
    ValueError, match="the package returned 'bored', expected one of ang"
  ):
    other_packages.to_labels(["bored"], fer2013.CLASS_NAMES)


def _faces(data_dir, split):
  """Of class k all pixels are k."""
  assert split == "test"
  labels = np.arange(40, dtype=np.int32) % 6
  images = np.broadcast_to(labels[:, None, None], (40, 48, 48)).astype("u1")
  return from_arrays(images, labels, fer2013.CLASS_NAMES, split=split)


def _main(monkeypatch, arguments=(), **changes):
  given = {
    "package": "fer",
    "data_dir": "data",
    "images": 0,
    "equalize": False,
    "answers": None,
    "baseline": None,
    "traceback": False,
  }
  monkeypatch.setattr(
    other_packages.flags, "FLAGS", types.SimpleNamespace(**given | changes)
  )
  cli.call(
    ["other_packages", *arguments],
    other_packages.print_results,
    compilation_cache=False,
  )


def test_the_results(monkeypatch, capsys, tmp_path):
  # A sixth of the images, those of class 0, are taken for disgust.
  def classify(images):
    return [fer2013.CLASS_NAMES[max(1, image[0, 0])] for image in images]

  monkeypatch.setattr(fer2013, "load", _faces)
  monkeypatch.setitem(other_packages.PACKAGES, "fer", lambda: classify)
  monkeypatch.setattr(other_packages, "installed_size", lambda name: (7_000_000, 3))
  monkeypatch.setattr(other_packages.importlib.metadata, "version", lambda name: "1.0")
  answers = str(tmp_path / "fer.csv")
  _main(monkeypatch, answers=answers)
  said = capsys.readouterr().out
  assert "40 PrivateTest images of data: accuracy 82.50 %" in said  # 33 of 40
  # Wilson's interval: where (p - 33/40)^2 is 1.96^2 p (1 - p) / 40.
  z = stats.norm.ppf(0.975)
  high, low = 100 * np.roots([1 + z**2 / 40, -2 * 33 / 40 - z**2 / 40, (33 / 40) ** 2])
  assert f"({low:.2f} to {high:.2f})" in said
  assert "balanced 83.33 %" in said  # 5 of the 6 classes that are there
  assert "7 MB in 3 packages" in said
  assert "angry 0.0, disgust 100.0" in said
  assert "neutral" not in said  # None of 40.
  assert "less" not in said

  # An image of one gray level stays as it is under equalization.
  monkeypatch.setitem(
    other_packages.PACKAGES, "fer", lambda: lambda images: ["happy"] * len(images)
  )
  _main(monkeypatch, baseline=answers, equalize=True)
  said = capsys.readouterr().out
  assert "of data, cv2.equalizeHist applied: accuracy 17.50 %" in said  # 7 of 40
  # 33 of 40 less 7 of 40: all of class 3 are right in both.
  assert f"less {answers}: -65.00 points" in said
  assert "only this package is correct on 0 images, only the other on 26" in said


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
