"""What is drawn where, and files that don't overwrite each other."""

import pathlib

import cv2
import numpy as np
import pytest
from PIL import Image

from emosynth_jax.predict import Prediction, annotate
from emosynth_jax.predict.frame import Frame

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
def test_a_label_at_the_border_is_on_the_image(box):
  drawn, _ = _changed(box)
  # White letters on the label's ground: both are there.
  assert (drawn > 220).all(-1).sum() > 20
  assert (drawn == annotate._SURE).all(-1).sum() > 100


def test_an_uncertain_face_is_gray():
  drawn, _ = _changed((100.0, 80.0, 160.0, 150.0), label="uncertain", confidence=0.4)
  assert drawn[110, 100].tolist() == list(annotate._UNSURE)
  assert not (drawn == annotate._SURE).all(-1).any()


def test_names_beyond_ascii():
  prediction = Prediction(None, None, "fröhlich", 0.9, {"fröhlich": 0.9, "悲": 0.1})
  drawn = annotate.draw(_GREY, [prediction])
  # The letters on the tag: as many again as those of the ASCII part alone.
  paper = (drawn > 220).all(-1).sum()
  short = annotate.draw(_GREY, [Prediction(None, None, "f", 0.9, {"f": 0.9})])
  assert paper > 1.5 * (short > 220).all(-1).sum()
  other = Prediction(None, None, "frohlich", 0.9, {"frohlich": 0.9})
  assert (drawn != annotate.draw(_GREY, [other])).any()


@pytest.mark.parametrize("shape", [(48, 48), (64, 20), (20, 3000), (1, 1), (150, 40)])
@pytest.mark.parametrize("name", ["happy", "a class with a name of many words"])
def test_a_tag_fits_on_an_image_of_any_size(shape, name):
  image = np.full((*shape, 3), 128, np.uint8)
  prediction = Prediction(None, None, "uncertain", 0.4, {name: 0.4})
  drawn = annotate.draw(image, [prediction])
  factor = drawn.shape[0] // shape[0]
  assert drawn.shape == (factor * shape[0], factor * shape[1], 3)
  # What isn't tag is frame or image; the tag's ground ends before the border does,
  # and its letters before the ground does.
  letters = np.argwhere((drawn > 220).all(-1))
  assert len(letters) > 20
  assert (letters.min(0) > 0).all()
  assert (letters.max(0) < np.array(drawn.shape[:2]) - 1).all()
  # Frames of one film stay of one size, whatever is drawn.
  assert annotate.draw(image, []).shape == drawn.shape


def test_boxes_are_enlarged_with_a_small_image():
  image = np.full((48, 48, 3), 128, np.uint8)
  drawn = annotate.draw(image, [_prediction((10.0, 30.0, 40.0, 46.0))])
  factor = drawn.shape[0] // 48
  assert factor == 4
  assert drawn[factor * 40, factor * 10].tolist() == list(annotate._SURE)
  assert drawn[factor * 46, factor * 25].tolist() == list(annotate._SURE)


def _frame(name, index=None):
  path = pathlib.PurePath(name)
  return Frame(f"in/{name}", path, _GREY, "", index, None, 5.0)


def test_images_keep_their_folders_and_no_name_is_used_twice(tmp_path):
  with annotate.Writer(tmp_path / "new") as writer:
    for name in ("a.png", "b/a.png", "a.jpg", "a.png"):
      writer.write(_frame(name), _GREY)
  found = sorted(
    p.relative_to(tmp_path / "new").as_posix()
    for p in tmp_path.rglob("*")
    if p.is_file()
  )
  assert found == [
    "a.jpg.faces.png",
    "a.png-2.faces.png",
    "a.png.faces.png",
    "b/a.png.faces.png",
  ]
  np.testing.assert_array_equal(Image.open(tmp_path / "new" / "a.png.faces.png"), _GREY)


def test_an_input_is_never_drawn_over(tmp_path):
  target = tmp_path / "a.png.faces.png"
  target.write_bytes(b"an original")
  (tmp_path / "link").symlink_to(target)
  with annotate.Writer(tmp_path, [str(tmp_path / "link"), "0"]) as writer:
    writer.write(_frame("a.png"), _GREY)
  assert target.read_bytes() == b"an original"
  assert (tmp_path / "a.png-2.faces.png").exists()


def test_a_link_to_an_original_is_replaced_and_not_followed(tmp_path):
  original = tmp_path / "original.png"
  original.write_bytes(b"an original")
  (tmp_path / "a.png.faces.png").symlink_to(original)
  with annotate.Writer(tmp_path) as writer:
    writer.write(_frame("a.png"), _GREY)
  assert original.read_bytes() == b"an original"


def test_a_file_is_no_folder_for_drawings(tmp_path):
  (tmp_path / "a.png").write_bytes(b"")
  with pytest.raises(NotADirectoryError, match="expected a folder"):
    annotate.Writer(tmp_path / "a.png")


def _films(folder):
  """Number of frames, rate and the brightness of each, by the file's name."""
  films = {}
  for path in folder.iterdir():
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    means = []
    while (read := capture.read())[0]:
      means.append(read[1].mean())
    films[path.name] = rate, means
    capture.release()
  return films


def test_videos_end_where_the_next_begins(tmp_path):
  with annotate.Writer(tmp_path) as writer:
    for name, frames in (("film.avi", 3), ("other.mp4", 2)):
      for index in range(frames):
        writer.write(_frame(name, index), _GREY)
  films = _films(tmp_path)
  assert films.keys() == {"film.avi.faces.mp4", "other.mp4.faces.mp4"}
  for name, frames in (("film.avi", 3), ("other.mp4", 2)):
    rate, means = films[f"{name}.faces.mp4"]
    assert rate == pytest.approx(5)
    assert means == pytest.approx([128] * frames, abs=4)


def test_a_film_shows_each_frame_at_its_time(tmp_path):
  # At 5 a second: a pause of three frames, and two frames where one has room.
  times = [(0.0, 0), (0.2, 40), (0.8, 80), (0.82, 250), (1.0, 120)]
  with annotate.Writer(tmp_path) as writer:
    for index, (seconds, gray) in enumerate(times):
      frame = _frame("film.avi", index)._replace(seconds=7 + seconds)
      # Another size, as no film should have, is brought to that of the first.
      shape = (48, 64, 3) if index != 4 else (96, 128, 3)
      writer.write(frame, np.full(shape, gray, np.uint8))
  ((rate, means),) = _films(tmp_path).values()
  assert rate == pytest.approx(5)
  assert means == pytest.approx([0, 40, 40, 40, 80, 120], abs=6)
