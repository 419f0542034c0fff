"""What is drawn where, and files that don't overwrite each other."""

import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image

from emosynth_jax import annotate, media
from emosynth_jax.predict import Prediction

_GREY = np.full((200, 300, 3), 128, np.uint8)


def _prediction(box, label="happy", confidence=0.9):
  return Prediction(box, 0.8, label, confidence, {"happy": confidence, "sad": 0.1})


def _changed(box, **changes):
  drawn = annotate.draw(_GREY, [_prediction(box, **changes)])
  assert drawn.shape == _GREY.shape
  return drawn, (drawn != _GREY).any(-1)


def test_the_frame_lies_on_the_box_and_the_face_stays_as_it_is():
  drawn, changed = _changed((100.0, 80.0, 160.0, 150.0))
  assert changed[80:151, 100].all()
  assert changed[150, 100:161].all()
  assert not changed[85:145, 105:155].any()
  assert drawn[110, 100].tolist() == list(annotate._SURE)
  assert (_GREY == 128).all()


@pytest.mark.parametrize(
  "box", [(0.0, 0.0, 40.0, 40.0), (280.0, 150.0, 299.0, 199.0), None]
)
def test_a_label_at_the_border_is_on_the_picture(box):
  drawn, _ = _changed(box)
  # White letters on the label's ground: both are there.
  assert (drawn > 220).all(-1).sum() > 20
  assert (drawn == annotate._SURE).all(-1).sum() > 100


def test_an_uncertain_face_is_grey():
  drawn, _ = _changed((100.0, 80.0, 160.0, 150.0), label="uncertain", confidence=0.4)
  assert drawn[110, 100].tolist() == list(annotate._UNSURE)
  assert not (drawn == annotate._SURE).all(-1).any()


def test_names_beyond_ascii():
  prediction = Prediction(None, None, "fröhlich", 0.9, {"fröhlich": 0.9, "悲": 0.1})
  assert (annotate.draw(_GREY, [prediction]) != _GREY).any()


def _frame(name, index=None):
  path = pathlib.PurePath(name)
  return media.Frame(f"in/{name}", path, _GREY, "", index, None, 5.0)


def test_images_keep_their_folders_and_no_name_is_used_twice(tmp_path):
  with annotate.Writer(tmp_path / "new") as writer:
    for name in ("a.png", "b/a.png", "a.jpg", "a.png"):
      writer.write(_frame(name), _GREY)
  found = sorted(
    p.relative_to(tmp_path / "new").as_posix() for p in tmp_path.rglob("*.png")
  )
  assert found == ["a-2.png", "a.jpg.png", "a.png", "b/a.png"]
  np.testing.assert_array_equal(Image.open(tmp_path / "new" / "a.png"), _GREY)


def test_videos_end_where_the_next_begins(tmp_path):
  with annotate.Writer(tmp_path) as writer:
    for name, frames in (("film.avi", 3), ("other.mp4", 2)):
      for index in range(frames):
        writer.write(_frame(name, index), _GREY)
  for name, frames in (("film.avi.mp4", 3), ("other.mp4", 2)):
    capture = cv2.VideoCapture(str(tmp_path / name))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == frames
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5)
    assert capture.read()[1].mean() == pytest.approx(128, abs=4)
    capture.release()
