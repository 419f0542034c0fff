"""The fall of a probability without some pixels, by hand and of a run."""

import json
import types

import jax
import numpy as np
import pytest
import tiny_network
import tiny_workdir

from emosynth_jax.analysis import deletion
from emosynth_jax.config import defaults
from emosynth_jax.training import build


def test_the_highest_pixels_and_the_higher_of_equal_ones():
  scores = np.array([[[1.0, 5.0], [3.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]])
  ties = np.array([[[0.1, 0.2], [0.3, 0.4]], [[0.1, 0.9], [0.3, 0.8]]])
  found = deletion.highest(scores, 0.5, ties)
  np.testing.assert_array_equal(
    found, [[[False, True], [True, False]], [[False, True], [False, True]]]
  )
  with pytest.raises(ValueError, match=r"in \(0, 1\), got 1"):
    deletion.highest(scores, 1, ties)
  with pytest.raises(ValueError, match=r"got \(2, 2, 2\) and \(2, 2\)"):
    deletion.highest(scores, 0.5, ties[0])


def _first_pixel(images):
  """The first class is as probable as the first pixel is bright."""
  p = images[:, 0, 0, 0]
  return np.stack([p, 1 - p], axis=1)


def test_what_falls_is_the_predicted_class_of_each_image():
  images = np.zeros((2, 2, 2, 1))
  images[0, 0, 0, 0] = 0.8  # its mean is .2
  images[1] = [[[0.4], [0.0]], [[0.0], [0.0]]]  # the second class: .6, mean .1
  mask = np.zeros((2, 2, 2), bool)
  mask[:, 0, 0] = True
  # .8 to .2, and .6 to .9: a rise is a negative fall.
  np.testing.assert_allclose(
    deletion.probability_drop(_first_pixel, images, mask), [0.6, -0.3], atol=1e-12
  )
  np.testing.assert_allclose(
    deletion.probability_drop(_first_pixel, images, ~mask), [0, 0]
  )


def test_a_map_that_points_at_the_pixel_differs_from_one_that_does_not():
  images = np.zeros((3, 2, 2, 1))
  images[:, 0, 0, 0] = (0.6, 0.8, 1.0)
  right, wrong = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
  right[:, 0, 0] = 1
  wrong[:, 0, 0] = -1
  done = []
  table = deletion.compare_maps(
    _first_pixel,
    images,
    {"right": right, "wrong": wrong},
    share=0.25,
    report=done.append,
  )
  assert done == [1, 2]
  # Three quarters of each pixel go: .45, .6, .75, whose deviation is .15.
  assert table["right"]["highest"] == pytest.approx(0.6)
  assert table["right"]["lowest"] == pytest.approx(0)
  assert table["right"]["standard_error"] == pytest.approx(0.15 / np.sqrt(3))
  assert table["wrong"]["difference"] == pytest.approx(-0.6)
  text = deletion.format_table(table, 0.25)
  assert "25 % of the pixels deleted" in text
  assert "+0.600 ± 0.087" in text


def test_a_run_gets_its_table(tmp_path, monkeypatch, capsys):
  names = ("angry", "sad", "fear")
  dataset = tiny_workdir.dataset(9, class_names=names)
  tiny_workdir.install(monkeypatch, lambda config, split: dataset)
  config = defaults.get_default_config()
  config.model = {"name": "tiny_maps", "dtype": "float32"}
  built = build.build_experiment(
    config, image_shape=tiny_network.IMAGE_SHAPE, num_classes=3
  )
  state = build.create_state(built, 5)
  tiny_workdir.write(tmp_path, config, state, {"validation": dataset})
  given = types.SimpleNamespace(
    workdir=str(tmp_path),
    layers=[],
    share=0.25,
    split="validation",
    images=256,
    batch_size=4,
    data_dir=None,
  )
  deletion.measure(given)
  record = json.loads((tmp_path / "deletion.json").read_text())
  text = (tmp_path / "deletion.txt").read_text()
  commit = record["computed_by"]["commit"]
  assert text.splitlines()[0] == (
    "synthetic_faces, PublicTest, 9 images; tiny_maps, cross_entropy, seed 0, epoch "
    f"{record['best_epoch']}; commit {commit}"
  )
  assert record["computed_in"]["dtype"] == "float32"
  assert list(record["probability_drop"]) == [
    "maps 4 x 4",
    "random 6 x 6",
    "center of the image",
  ]
  assert (tmp_path / "deletion.txt").read_text() == capsys.readouterr().out

  # The middle four of sixteen pixels, by NumPy.
  pixels = dataset.images.astype(np.float64) / 255
  mask = np.zeros((9, 4, 4), bool)
  mask[:, 1:3, 1:3] = True
  params = jax.device_get(state.variables["params"])

  def probabilities(x):
    kernel = np.float64(params["conv"]["kernel"])
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    maps = sum(
      padded[:, i : i + 4, j : j + 4] @ kernel[i, j] for i in range(3) for j in range(3)
    )
    maps = maps + params["conv"]["bias"]
    maps = np.where(maps > 0, maps, np.expm1(maps)).mean(axis=(1, 2))
    logits = maps @ np.float64(params["logits"]["kernel"]) + params["logits"]["bias"]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

  expected = deletion.probability_drop(probabilities, pixels, mask).mean()
  found = record["probability_drop"]["center of the image"]["highest"]
  assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
  with pytest.raises(ValueError, match="got 'nope'; tiny_maps has"):
    deletion.measure(types.SimpleNamespace(**vars(given) | {"layers": ["nope"]}))
