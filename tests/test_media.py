"""Pictures from files, folders and videos; what can't be read is said and passed."""

import cv2
import numpy as np
import pytest
from PIL import Image

from emosynth_jax import media


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "b").mkdir()
  (tmp_path / ".hidden").mkdir()
  red = Image.new("RGB", (5, 4), (250, 0, 0))
  red.save(tmp_path / "a.png")
  red.save(tmp_path / ".hidden" / "c.png")
  # Exif orientation 6: the camera was turned, so what is shown is upright.
  exif = Image.Exif()
  exif[0x0112] = 6
  red.save(tmp_path / "b" / "turned.JPG", exif=exif)
  (tmp_path / "empty.jpg").write_bytes(b"")
  (tmp_path / "text.png").write_text("no image")
  (tmp_path / "notes.txt").write_text("no image, and not called one")
  return tmp_path


def _video(path, frames=6, rate=5.0):
  """Each frame is brighter than the one before."""
  writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (64, 48))
  assert writer.isOpened()
  for i in range(frames):
    writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
  writer.release()


def test_a_folder_in_order_with_its_troubles(folder):
  frames = list(media.read_all([str(folder)]))
  assert [frame.name.as_posix() for frame in frames] == [
    "a.png",
    "b/turned.JPG",
    "empty.jpg",
    "text.png",
  ]
  assert [frame.error for frame in frames] == [
    "",
    "",
    "the file is empty",
    "cannot decode this file: no known image format",
  ]
  assert [frame.picture is None for frame in frames] == [False, False, True, True]
  assert frames[0].picture.shape == (4, 5, 3)
  assert frames[0].picture[0, 0].tolist() == [250, 0, 0]
  assert frames[1].picture.shape == (5, 4, 3)
  assert {frame.number for frame in frames} == {None}


def test_a_file_that_is_named_is_read_whatever_its_suffix(folder):
  (folder / "a.png").rename(folder / "photograph")
  (frame,) = media.read_all([str(folder / "photograph")])
  assert frame.picture.shape == (4, 5, 3)


def test_missing_files_and_empty_folders(tmp_path):
  frames = list(media.read_all([str(tmp_path), str(tmp_path / "no.jpg")]))
  assert "no image or video in this folder (.avi .bmp" in frames[0].error
  assert frames[1].error == "no such file, folder or webcam"


def test_a_video(tmp_path):
  path = tmp_path / "film.mp4"
  _video(path)
  frames = list(media.read_all([str(path)]))
  assert [frame.number for frame in frames] == list(range(6))
  assert [frame.seconds for frame in frames] == pytest.approx(np.arange(6) / 5)
  means = [frame.picture.mean() for frame in frames]
  np.testing.assert_allclose(means, 40 * np.arange(6), atol=6)
  some = list(media.read_all([str(path)], every=2, max_frames=2))
  assert [frame.number for frame in some] == [0, 2]
  assert some[0].rate == pytest.approx(2.5)


def test_a_damaged_video(tmp_path):
  path = tmp_path / "film.mp4"
  path.write_bytes(b"no video" * 100)
  (frame,) = media.read_all([str(path)])
  assert frame.picture is None
  assert frame.error == "no frame can be read from it"


def test_a_webcam_is_a_number_that_is_no_file(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert media.is_webcam("0")
  assert not media.is_webcam("face.jpg")
  (tmp_path / "0").write_bytes(b"")
  assert not media.is_webcam("0")
  (frame,) = media.read_all(["0"])
  assert frame.error == "the file is empty"
  # There is none of this number on any machine.
  (frame,) = media.read_all(["99"])
  assert (frame.source, frame.error) == ("webcam 99", "no frame can be read from it")


@pytest.mark.parametrize("arguments", [{"every": 0}, {"max_frames": -1}])
def test_numbers_out_of_range(arguments):
  with pytest.raises(ValueError, match="every: expected at least 1"):
    list(media.read_all(["a.png"], **arguments))
