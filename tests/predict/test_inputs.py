"""Images in every form that callers have, one or many, give the same predictions."""

import io
import sys
import threading
import types
from http import server

import cv2
import jax.numpy as jnp
import made_up_film
import numpy as np
import pytest
from PIL import Image

from emosynth_jax import data, predict
from emosynth_jax.export import export
from emosynth_jax.predict import annotate, image_input, media, sources

_RGB = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
_RGBA = np.random.default_rng(1).integers(0, 256, (9, 7, 4), np.uint8)


@pytest.fixture(scope="module")
def predictor(network):
  return predict.Predictor(network, faces="none", batch_size=2)


def _png(array):
  file = io.BytesIO()
  Image.fromarray(array).save(file, "PNG")
  return file.getvalue()


def _on_white(rgba):
  color, alpha = rgba[..., :3].astype(float), rgba[..., 3:] / 255
  return np.rint(color * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _forms(tmp_path):
  content = _png(_RGB)
  (tmp_path / "a.png").write_bytes(content)
  return {
    "path": tmp_path / "a.png",
    "string": str(tmp_path / "a.png"),
    "bytes": content,
    "bytearray": bytearray(content),
    "memoryview": memoryview(content),
    "BytesIO": io.BytesIO(content),
    "Pillow": Image.fromarray(_RGB),
    "opened by Pillow": Image.open(io.BytesIO(content)),
    "array": _RGB,
    "read-only array": np.frombuffer(_RGB.tobytes(), np.uint8).reshape(_RGB.shape),
    "JAX": jnp.asarray(_RGB),
    "float32": (_RGB / 255).astype(np.float32),
    "float64": _RGB / 255,
    "JAX float": jnp.asarray(_RGB / 255, jnp.float32),
    "opaque": np.concatenate([_RGB, np.full_like(_RGB[..., :1], 255)], -1),
  }


def test_all_forms_of_one_image_are_the_same_pixels(tmp_path, predictor):
  expected = predictor(_RGB)
  for name, image in _forms(tmp_path).items():
    found = image_input.load(image)
    np.testing.assert_array_equal(found, _RGB, err_msg=name)
    assert found.dtype == np.uint8
  for name, image in _forms(tmp_path).items():
    # In either entry: as one, and as one of several.
    assert predictor(image) == expected, name
  for (answer,) in zip(predictor.predict(_forms(tmp_path).values()), strict=True):
    assert answer[0].probabilities == pytest.approx(expected[0].probabilities)
  for _, pixels, _ in predictor.stream(_forms(tmp_path).items()):
    np.testing.assert_array_equal(pixels, _RGB)


def test_an_open_file(predictor, tmp_path):
  (tmp_path / "a.png").write_bytes(_png(_RGB))
  (tmp_path / "text.png").write_text("no image")
  with (tmp_path / "a.png").open("rb") as file:
    assert predictor(file) == predictor(_RGB)
  with (tmp_path / "text.png").open("rb") as file:
    with pytest.raises(ValueError, match=r"text\.png: cannot decode this file"):
      predictor(file)


def test_alpha_lies_on_white_in_every_form():
  for image in (_RGBA, _png(_RGBA), Image.fromarray(_RGBA), jnp.asarray(_RGBA)):
    np.testing.assert_array_equal(image_input.load(image), _on_white(_RGBA))
  np.testing.assert_allclose(
    image_input.load(_RGBA / 255), _on_white(_RGBA), atol=0.5, rtol=0
  )


def test_gray_in_every_form():
  gray = _RGB[..., 0]
  for image in (gray, gray[..., None], gray / 255, jnp.asarray(gray, jnp.bfloat16)):
    if image.dtype == jnp.bfloat16:
      image = image / 256
      expected = np.rint(255 * np.asarray(image, np.float32)).astype(np.uint8)
    else:
      expected = gray
    np.testing.assert_array_equal(image_input.load(image)[..., 0], expected)


def test_sixteen_bits_are_reduced_to_their_upper_eight():
  gray = _RGB[..., 0]
  # As Pillow reads a PNG of 16 bits in color.
  deep = Image.fromarray((gray.astype(np.uint16) << 8) + 7)
  file = io.BytesIO()
  deep.save(file, "PNG")
  for image in (deep, file.getvalue()):
    np.testing.assert_array_equal(image_input.load(image), gray[..., None].repeat(3, 2))


def test_a_turned_pillow_image_is_upright():
  exif = Image.Exif()
  exif[0x0112] = 6
  file = io.BytesIO()
  Image.fromarray(_RGB).save(file, "PNG", exif=exif)
  with Image.open(file) as image:
    np.testing.assert_array_equal(image_input.load(image), np.rot90(_RGB, -1))


def test_bgr_is_of_arrays_alone(predictor, tmp_path):
  swapped = predict.Predictor(
    predictor.network, faces="none", batch_size=2, array_order="bgr"
  )
  path = tmp_path / "a.png"
  path.write_bytes(_png(_RGB))
  expected = predictor(_RGB)
  assert swapped(cv2.imread(str(path))) == expected
  assert swapped(path) == expected
  assert swapped(Image.fromarray(_RGB)) == expected
  ((_, pixels, _),) = swapped.stream([(0, _RGB[..., ::-1])])
  np.testing.assert_array_equal(pixels, _RGB)
  bgra = _RGBA[..., [2, 1, 0, 3]]
  np.testing.assert_array_equal(
    image_input.load(bgra, order="bgr"), image_input.load(_RGBA)
  )
  with pytest.raises(ValueError, match="array_order: expected one of rgb, bgr"):
    predict.Predictor(predictor.network, faces="none", array_order="gbr")


@pytest.mark.parametrize(
  ("image", "error", "message"),
  [
    (np.float32([[0, 255]]), ValueError, r"floats in \[0, 1\], got 0 to 255"),
    (np.full((4, 4), np.nan), ValueError, "got nan"),
    (_RGB.astype(int), TypeError, r"got int64; convert 0 to 255 with image.astype"),
    (_RGB > 4, TypeError, "got bool"),
    (np.zeros((3, 48, 48), np.uint8)[None], ValueError, r"got \(1, 3, 48, 48\)"),
    (np.zeros((4, 0, 3), np.uint8), ValueError, r"got \(4, 0, 3\)"),
    ([[0, 1]], TypeError, "or an array, got list"),
    (None, TypeError, "or an array, got NoneType"),
    (io.StringIO("a"), TypeError, 'opened as binary, with "rb"'),
    (b"", ValueError, "image: the file is empty"),
    (b"text", ValueError, "image: cannot decode this file: no known image format"),
    (Image.new("I", (3, 3)), ValueError, "8 or 16 bits a channel, .*convert it to 8"),
    ("rtsp://camera/1", ValueError, "call Predictor.video"),
    (".", IsADirectoryError, "got a folder; name its files"),
    (__file__, ValueError, "for a video, a stream or a webcam, call Predictor.video"),
  ],
)
def test_what_is_no_image(image, error, message):
  with pytest.raises(error, match=message):
    image_input.load(image)


# One thing where several are expected, and the other way round.


def _assert_same(found, expected):
  """Alone, a face is answered by another program, to rounding."""
  for one, other in zip(found, expected, strict=True):
    assert (one.box, one.label) == (other.box, other.label)
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)


def test_one_or_several_in_one_entry(predictor):
  one = predictor(_RGB)
  assert [prediction.label for prediction in one]
  gray = _RGB.mean(-1).astype(np.uint8)
  for images, expected in (
    ([_RGB, _RGB], [one, one]),
    (np.stack([_RGB, _RGB]), [one, one]),
    ((image for image in (_RGB,)), [one]),
    (np.stack([gray] * 5), [predictor(gray)] * 5),
    ([], []),
  ):
    for each, alone in zip(predictor(images), expected, strict=True):
      _assert_same(each, alone)


@pytest.mark.parametrize(
  "one", [_RGB, _RGB[..., 0], _RGBA, "a.jpg", b"a", Image.new("L", (2, 2)), None, 5]
)
def test_one_image_is_not_taken_for_several(predictor, one):
  with pytest.raises(TypeError, match=r"predict: .* call predictor\(image\)"):
    predictor.predict(one)


@pytest.mark.parametrize("shape", [(3, 48, 48), (1, 48, 48), (48, 48, 2)])
def test_channels_first_is_not_taken_for_gray_images(predictor, shape):
  with pytest.raises(ValueError, match=r"not clear; an image is \(H, W\)"):
    predictor(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("images", [_RGB, [_RGB], ["a.jpg"]])
def test_one_image_is_no_stream(predictor, images):
  with pytest.raises(TypeError, match="stream: expected pairs"):
    next(predictor.stream(images))


@pytest.mark.parametrize(
  ("argument", "value", "message"),
  [
    ("batch_size", 2.5, "batch_size: expected an integer, got 2.5"),
    ("batch_size", True, "batch_size: expected an integer, got True"),
    ("min_confidence", "0.5", "min_confidence: expected a number, got '0.5'"),
    ("max_side", "640", "max_side: expected an integer, got '640'"),
    ("max_side", 10**6, r"max_side: expected an integer in \[64, 16384\]"),
    ("min_face_score", 2, r"min_face_score: expected a number in \(0, 1\), got 2"),
  ],
)
def test_arguments_are_checked_at_once_by_their_names(
  predictor, argument, value, message
):
  with pytest.raises((TypeError, ValueError), match=message):
    predict.Predictor(predictor.network, **{argument: value})


def test_one_path_is_not_read_letter_by_letter():
  with pytest.raises(TypeError, match=r"for one write \['a.jpg'\]"):
    list(sources.find("a.jpg"))
  with pytest.raises(TypeError, match="inputs: expected several"):
    annotate.Writer("drawn", "a.jpg")


def test_one_split_is_not_read_letter_by_letter(tmp_path):
  with pytest.raises(TypeError, match=r"splits: .* for one write \['test'\]"):
    export.make(
      "no",
      str(tmp_path / "a"),
      format="onnx",
      splits="test",
      data_dir=None,
      num_calibration_images=1,
    )
  with pytest.raises(TypeError, match=r"splits: .* for one write \['test'\]"):
    data.load_splits(
      "synthetic_faces", tmp_path, "test", validation_fraction=0.1, seed=0
    )


def test_one_prediction_is_no_list_of_them(predictor):
  (prediction,) = predictor(_RGB)
  # A named tuple has five members, none of which has a box.
  with pytest.raises(TypeError, match="predictions: expected several"):
    annotate.draw(_RGB, prediction)


# Videos, standard input and streams.


def test_a_film_in_python(predictor, tmp_path):
  path = made_up_film.write(tmp_path / "film.avi", "MJPG", frames=4)
  found = list(predictor.video(path))
  assert [frame.number for frame, _ in found] == [0, 1, 2, 3]
  assert [frame.seconds for frame, _ in found] == pytest.approx([0, 0.2, 0.4, 0.6])
  for frame, predictions in found:
    _assert_same(predictions, predictor(frame.image))
  some = [frame.number for frame, _ in predictor.video(str(path), every=2)]
  assert some == [0, 2]
  with pytest.raises(ValueError, match=r"film\.avi: .*; for a video, .*video"):
    predictor(path)


def test_what_is_no_film(predictor, tmp_path):
  with pytest.raises(FileNotFoundError, match="no such video file"):
    next(predictor.video(tmp_path / "no.mp4"))
  with pytest.raises(IsADirectoryError, match="expected a video file"):
    next(predictor.video(tmp_path))
  (tmp_path / "a.mp4").write_bytes(b"no video" * 99)
  with pytest.raises(ValueError, match=r"a\.mp4: no frame can be decoded"):
    next(predictor.video(tmp_path / "a.mp4"))
  content = made_up_film.write(tmp_path / "b.avi", "MJPG", frames=60).read_bytes()
  (tmp_path / "b.avi").write_bytes(content[: len(content) // 2])
  seen = []
  with pytest.raises(ValueError, match=r"b\.avi: truncated or damaged"):
    seen += [1 for _ in predictor.video(tmp_path / "b.avi")]


def _pipe(monkeypatch, content):
  standard_input = types.SimpleNamespace(buffer=io.BytesIO(content))
  monkeypatch.setattr(sys, "stdin", standard_input)


def test_an_image_in_standard_input(monkeypatch):
  _pipe(monkeypatch, _png(_RGB))
  (frame,) = media.read_all(sources.find(["-"]))
  np.testing.assert_array_equal(frame.image, _RGB)
  assert (frame.source, frame.name.name, frame.error) == ("-", "stdin", "")
  _pipe(monkeypatch, b"")
  (frame,) = media.read_all(sources.find(["-"]))
  assert frame.error == "the file is empty"


def test_a_film_in_standard_input(monkeypatch, tmp_path):
  film = made_up_film.write(tmp_path / "film.avi", "MJPG", frames=4)
  _pipe(monkeypatch, film.read_bytes())
  frames = list(media.read_all(sources.find(["-"])))
  assert [(frame.source, frame.number) for frame in frames] == [
    ("-", i) for i in range(4)
  ]


@pytest.fixture
def address(tmp_path):
  """Of a server of the folder."""

  class Quiet(server.SimpleHTTPRequestHandler):
    def __init__(self, *arguments):
      super().__init__(*arguments, directory=tmp_path)

    def log_message(self, *arguments):
      pass

  with server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as http:
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()


def test_a_film_at_an_address(predictor, address, tmp_path):
  made_up_film.write(tmp_path / "film.avi", "MJPG", frames=4)
  frames = [frame for frame, _ in predictor.video(f"{address}/film.avi")]
  assert [frame.number for frame in frames] == [0, 1, 2, 3]
  assert {frame.source for frame in frames} == {f"{address}/film.avi"}
  assert frames[0].name.name.endswith("film.avi")
  (frame,) = media.read_all(sources.find([f"{address}/no.avi"]))
  assert frame.error == "no frame can be decoded"


def test_a_cameras_password_is_in_no_output(monkeypatch):
  class Camera:
    grabbed = 0

    def __init__(self, device):
      assert device == "rtsp://me:se/cret@host:554/1"

    def get(self, what):
      return 0.0

    def grab(self):
      self.grabbed += 1
      return self.grabbed <= 3

    def retrieve(self):
      return True, np.zeros((48, 64, 3), np.uint8)

    def isOpened(self):
      return True

    def release(self):
      pass

  monkeypatch.setattr(cv2, "VideoCapture", Camera)
  assert sources.is_live("rtsp://me:se/cret@host:554/1")
  *frames, last = media.read_all(sources.find(["rtsp://me:se/cret@host:554/1"]))
  assert len(frames) == 3
  assert {frame.source for frame in [*frames, last]} == {"rtsp://me:***@host:554/1"}
  assert "cret" not in str(frames[0].name)
  # A camera has no end of its own.
  assert last.error == "the stream stopped after 3 frames"
