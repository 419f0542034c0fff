"""Images from files, folders and videos; what can't be read is said and passed."""

import os
from collections import Counter

import made_up_film
import numpy as np
import pytest
from PIL import Image

from emosynth_jax.predict import media, sources


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


def test_a_folder_in_order_with_its_troubles(folder):
  frames = list(media.read_all(sources.find([str(folder)])))
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
  assert [frame.image is None for frame in frames] == [False, False, True, True]
  assert frames[0].image.shape == (4, 5, 3)
  assert frames[0].image[0, 0].tolist() == [250, 0, 0]
  assert frames[1].image.shape == (5, 4, 3)
  assert {frame.number for frame in frames} == {None}


def test_a_file_that_is_named_is_read_whatever_its_suffix(folder):
  (folder / "a.png").rename(folder / "photograph")
  (frame,) = media.read_all(sources.find([str(folder / "photograph")]))
  assert frame.image.shape == (4, 5, 3)


def test_missing_files_and_empty_folders(tmp_path):
  frames = list(media.read_all(sources.find([str(tmp_path), str(tmp_path / "no.jpg")])))
  assert "no image or video in this folder (.264 .265 .3g2" in frames[0].error
  assert frames[1].error == "no such file, folder or webcam"


def test_a_video(tmp_path):
  path = tmp_path / "film.mp4"
  made_up_film.write(path)
  frames = list(media.read_all(sources.find([str(path)])))
  assert [frame.number for frame in frames] == list(range(6))
  assert [frame.seconds for frame in frames] == pytest.approx(np.arange(6) / 5)
  means = [frame.image.mean() for frame in frames]
  np.testing.assert_allclose(means, 40 * np.arange(6), atol=6)
  some = list(media.read_all(sources.find([str(path)]), every=2, max_frames=2))
  assert [frame.number for frame in some] == [0, 2]
  assert some[0].rate == pytest.approx(2.5)
  assert [frame.seconds for frame in some] == pytest.approx([0, 0.4])


def test_a_webcam_is_a_number_that_is_no_file(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert sources.is_webcam("0")
  assert not sources.is_webcam("face.jpg")
  (tmp_path / "0").write_bytes(b"")
  assert not sources.is_webcam("0")
  (frame,) = media.read_all(sources.find(["0"]))
  assert frame.error == "the file is empty"
  # There is none of this number on any machine.
  (frame,) = media.read_all(sources.find(["99"]))
  assert (frame.source, frame.error) == ("webcam 99", "no frame can be decoded")


@pytest.mark.parametrize("arguments", [{"every": 0}, {"max_frames": -1}])
def test_numbers_out_of_range(arguments):
  with pytest.raises(ValueError, match="every: expected at least 1"):
    list(media.read_all(sources.find(["a.png"]), **arguments))


def test_what_the_libraries_read_is_taken_and_the_rest_counted(tmp_path):
  red = Image.new("RGB", (16, 16), (250, 0, 0))
  red.save(tmp_path / "a.jfif", "JPEG")
  red.save(tmp_path / "b.AVIF", "AVIF")
  red.save(tmp_path / "c.ppm")
  # Two pages: the first is taken.
  blue = Image.new("RGB", (16, 16), (0, 0, 250))
  red.save(tmp_path / "d.gif", save_all=True, append_images=[blue])
  # What a photograph of a phone begins with.
  heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
  (tmp_path / "e.HEIC").write_bytes(heic)
  (tmp_path / "drawn").mkdir()
  red.save(tmp_path / "drawn" / "a.jfif.faces.png")
  for name in ("notes.txt", "b.TXT", "README", ".hidden"):
    (tmp_path / name).write_text("")
  (tmp_path / "link").symlink_to(tmp_path / "drawn")
  counts = Counter()
  frames = list(media.read_all(sources.find([str(tmp_path)], counts)))
  assert [frame.name.name for frame in frames] == [
    "a.jfif",
    "b.AVIF",
    "c.ppm",
    "d.gif",
    "e.HEIC",
  ]
  for frame in frames[:4]:
    np.testing.assert_allclose(frame.image.mean((0, 1)), [250, 0, 0], atol=8)
  assert frames[4].error == "HEIC is not supported; convert it to JPEG or PNG"
  assert +counts == {".txt": 2, "no suffix": 1, "drawn before": 1, "linked folder": 1}
  # A drawing that is named is read.
  (frame,) = media.read_all(
    sources.find([str(tmp_path / "drawn" / "a.jfif.faces.png")])
  )
  assert not frame.error


def test_a_source_that_cannot_be_asked_for_ends_nothing(folder, monkeypatch):
  long = "a" * 300
  frames = list(
    media.read_all(sources.find([long, "a\0b", str(folder / "a.png"), "9" * 40]))
  )
  assert frames[0].error == "cannot be read (File name too long)"
  assert "cannot be read" in frames[1].error
  assert frames[2].error == ""
  assert frames[3].error == "no such file, folder or webcam"
  assert not sources.is_webcam("9" * 40)


def test_a_folder_that_cannot_be_read_is_told(folder, monkeypatch):
  """As for a user without the permission, whoever runs this test."""
  scandir = os.scandir

  def refuse(path):
    if str(path).endswith("b"):
      raise PermissionError(13, "Permission denied", str(path))
    return scandir(path)

  monkeypatch.setattr(os, "scandir", refuse)
  frames = list(media.read_all(sources.find([str(folder)])))
  assert frames[0].source == str(folder / "b")
  assert frames[0].error == "this folder cannot be read (Permission denied)"
  assert [frame.name.name for frame in frames[1:]] == ["a.png", "empty.jpg", "text.png"]
  (frame,) = media.read_all(sources.find([str(folder / "b")]))
  assert frame.error == "this folder cannot be read (Permission denied)"


def test_a_link_to_nothing_is_told(tmp_path):
  (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
  (frame,) = media.read_all(sources.find([str(tmp_path)]))
  assert frame.error == "cannot be read (No such file or directory)"
