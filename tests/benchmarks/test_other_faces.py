"""Changed faces by hand values, and the table's figures by counting."""

import types

import numpy as np
import pytest

from benchmarks import other_faces


def _one_white_pixel(row, column, side=9):
  image = np.zeros((side, side), np.uint8)
  image[row, column] = 255
  return image


def test_faces_are_turned_clockwise_about_their_center():
  turned = other_faces.turn(_one_white_pixel(0, 4), 90)
  np.testing.assert_array_equal(turned, _one_white_pixel(4, 8))
  half = other_faces.turn(_one_white_pixel(1, 1), 180)
  np.testing.assert_array_equal(half, _one_white_pixel(7, 7))


def test_a_face_is_enlarged_about_its_center():
  square = np.zeros((9, 9), np.uint8)
  square[3:6, 3:6] = 200
  large = other_faces.turn(square, 0, 2.0)
  assert large[4, 4] == large[2, 4] == large[4, 6] == 200
  assert large[0, 4] == 0
  assert (other_faces.turn(square, 0, 0.5) > 0).sum() < 9


def test_light_is_rounded_and_clipped():
  image = np.array([[0, 1, 3, 100, 255]], np.uint8)
  np.testing.assert_array_equal(other_faces.relight(image, 0.25), [[0, 0, 1, 25, 64]])
  np.testing.assert_array_equal(
    other_faces.relight(image, 1.5, 40), [[40, 42, 44, 190, 255]]
  )


def test_a_shrunk_face_keeps_its_mean_and_loses_detail():
  checkerboard = (255 * (np.indices((48, 48)).sum(0) % 2)).astype(np.uint8)
  np.testing.assert_allclose(other_faces.shrink(checkerboard, 24), 127.5, atol=0.5)


def test_figures_by_counting():
  faces = other_faces.Faces(
    np.zeros((4, 48, 48, 1), np.uint8),
    {
      "fer2013": np.array(["happy", "sad", "fear", "sad"]),
      "fer_plus": np.array(["happy", "neutral", "fear", ""]),
    },
  )
  predictions = {
    "as it is": np.array(["happy", "neutral", "sad", "sad"]),
    "dark": np.array(["happy", "sad", "fear", "happy"]),
  }
  # Faces 0 and 2 have one label; FER+ has none of face 3.
  assert other_faces.evaluate(predictions, faces, "fer2013") == [
    ("as it is", 2 / 4, 1 / 2, 1.0),
    ("dark", 3 / 4, 2 / 2, 1 / 4),
  ]
  assert other_faces.evaluate(predictions, faces, "fer_plus") == [
    ("as it is", pytest.approx(2 / 3), 1 / 2, 1.0),
    ("dark", pytest.approx(2 / 3), 2 / 2, 1 / 4),
  ]


def test_other_networks_are_refused_before_any_is_run(monkeypatch):
  faces = other_faces.Faces(
    np.zeros((1, 48, 48, 1), np.uint8),
    {"fer2013": np.array(["sad"]), "fer_plus": np.array(["sad"])},
  )
  monkeypatch.setattr(other_faces, "load", lambda *_: faces)
  monkeypatch.setattr(other_faces, "predict", None)

  def network(source, **_):
    name, side = source.split("-")
    config = types.SimpleNamespace(data=types.SimpleNamespace(name=name))
    return types.SimpleNamespace(config=config, image_shape=(int(side), int(side), 1))

  monkeypatch.setattr(other_faces.bundle, "read_network", network)
  given = types.SimpleNamespace(data_dir="", split="validation")
  for other, message in (("raf_db-48", "is of raf_db"), ("fer2013-32", "32x32x1")):
    given.networks = ["fer2013-48", other]
    with pytest.raises(ValueError, match=message):
      other_faces.print_table(given)
