"""Times of frames, films that end too early, and a webcam made by hand."""

import pathlib
import types

import cv2
import made_up_film
import numpy as np
import pytest

from emosynth_jax.predict import media, sources, video

_NAME = pathlib.PurePath("film")


def test_a_damaged_video(tmp_path):
  path = tmp_path / "film.mp4"
  path.write_bytes(b"no video" * 100)
  (frame,) = media.read_all(sources.find([str(path)]))
  assert frame.image is None
  assert frame.error == "no frame can be decoded"


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_film_that_is_cut_off_is_told(tmp_path, suffix):
  path = tmp_path / f"film{suffix}"
  made_up_film.write(path, "MJPG", frames=60, noise=True)
  whole = list(media.read_all(sources.find([str(path)])))
  assert len(whole) == 60
  assert not any(frame.error for frame in whole)
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])
  *frames, last = media.read_all(sources.find([str(path)]))
  assert 15 < len(frames) < 45
  assert [frame.number for frame in frames] == list(range(len(frames)))
  assert last.error == (f"truncated or damaged: ends after {len(frames)} of 60 frames")
  assert last.image is None
  # Who asks for few frames is not told of what comes later.
  few = list(media.read_all(sources.find([str(path)]), max_frames=3))
  assert [frame.error for frame in few] == [""] * 3


@pytest.mark.parametrize(
  ("frames", "seconds", "stated", "rate", "is_cut"),
  [
    (60, 12.0, 60, 5.0, False),
    (58, 11.6, 60, 5.0, False),  # two frames
    (50, 10.0, 60, 5.0, True),
    (50, 12.0, 60, 5.0, False),  # fewer a second than stated, up to the end
    (60, 8.0, 60, 5.0, False),  # more a second
    (3550, 142.0, 3600, 25.0, False),  # sound lasts two more seconds
    (89000, 3560.0, 90000, 25.0, True),  # forty seconds of an hour
    (5, 1.0, -1, 5.0, False),  # nothing is stated
    (5, 1.0, 60, 0.0, False),
    (5, 1.0, float("nan"), 5.0, False),
  ],
)
def test_when_a_film_counts_as_cut_off(frames, seconds, stated, rate, is_cut):
  found = video.is_cut_off(frames, seconds, stated_frames=stated, stated_rate=rate)
  assert found == is_cut


class FakeCapture:
  """Gives images of growing brightness, and says what the test tells it."""

  def __init__(self, stated=(), frames=10, rate=0.0, bad=()):
    self.stated, self.frames, self.rate, self.bad = stated, frames, rate, bad
    self.grabbed = self.retrieved = 0
    self.is_released = False

  def get(self, what):
    if what == cv2.CAP_PROP_POS_MSEC:
      return 1000 * self.stated[self.grabbed - 1] if self.stated else 0.0
    return {cv2.CAP_PROP_FPS: self.rate, cv2.CAP_PROP_FRAME_COUNT: -1.0}.get(what, 0)

  def grab(self):
    self.grabbed += 1
    return self.grabbed <= self.frames

  def retrieve(self):
    self.retrieved += 1
    if self.grabbed - 1 in self.bad:
      return False, None
    return True, np.full((4, 5, 3), self.grabbed - 1, np.uint8)

  def release(self):
    self.is_released = True


def _use(monkeypatch, capture):
  asked = []

  def open_capture(device):
    asked.append(device)
    return capture

  monkeypatch.setattr(cv2, "VideoCapture", open_capture)
  return asked


@pytest.mark.parametrize(
  ("stated", "expected"),
  [
    ([0, 0.1, 0.5, 0.6], [0, 0.1, 0.5, 0.6]),  # of a rate that varies
    ([0, 0, 0, 0], [0, 0.25, 0.5, 0.75]),  # nothing is stated
    ([0, 0.3, 0, 0.9], [0, 0.3, 0.55, 0.9]),  # one isn't
    ([-1, float("nan"), float("inf"), 2], [0, 0.25, 0.5, 2]),
  ],
)
def test_times_are_the_films_own_where_they_can_be(monkeypatch, stated, expected):
  _use(monkeypatch, FakeCapture(stated, frames=4, rate=4.0))
  frames = list(video.read_file(pathlib.Path("a.mp4"), _NAME))
  assert [frame.seconds for frame in frames] == pytest.approx(expected)
  _use(monkeypatch, FakeCapture(stated, frames=4, rate=4.0))
  some = list(video.read_file(pathlib.Path("a.mp4"), _NAME, every=3))
  assert [frame.seconds for frame in some] == pytest.approx(expected[::3])


def test_frames_that_are_left_out_are_not_converted(monkeypatch):
  capture = FakeCapture(frames=10, rate=5.0)
  _use(monkeypatch, capture)
  frames = list(video.read_file(pathlib.Path("a.mp4"), _NAME, every=4))
  assert [frame.image[0, 0, 0] for frame in frames] == [0, 4, 8]
  assert capture.retrieved == 3
  assert capture.is_released


def test_one_frame_that_cannot_be_decoded_ends_nothing(monkeypatch):
  _use(monkeypatch, FakeCapture(frames=3, rate=5.0, bad=[1]))
  frames = list(video.read_file(pathlib.Path("a.mp4"), _NAME))
  assert [frame.error for frame in frames] == ["", "the frame cannot be decoded", ""]
  assert frames[1].image is None
  assert [frame.number for frame in frames] == [0, 1, 2]


def _clock(monkeypatch, times):
  moments = iter(times)
  clock = types.SimpleNamespace(monotonic=lambda: next(moments))
  monkeypatch.setattr(video, "time", clock)


def test_a_webcam_goes_by_the_clock_until_it_is_unplugged(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  capture = FakeCapture(stated=[9.0] * 20, frames=4, rate=30.0)
  asked = _use(monkeypatch, capture)
  _clock(monkeypatch, [100.0, 100.5, 102.0, 102.25])
  *frames, last = media.read_all(sources.find(["3"]))
  assert asked == [3]
  assert [frame.seconds for frame in frames] == [0, 0.5, 2.0, 2.25]
  assert {frame.source for frame in frames} == {"webcam 3"}
  assert {frame.name.name for frame in frames} == {"webcam3"}
  assert last.error == "the webcam stopped after 4 frames"
  assert last.source == "webcam 3"
  assert capture.is_released


def test_so_many_frames_of_a_webcam_are_no_error(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  capture = FakeCapture(frames=10)
  _use(monkeypatch, capture)
  _clock(monkeypatch, range(20))
  frames = list(media.read_all(sources.find(["0"]), every=2, max_frames=2))
  assert [(frame.error, frame.number) for frame in frames] == [("", 0), ("", 2)]
  assert [frame.seconds for frame in frames] == [0, 2]
  # None is asked for only to be thrown away: a webcam would keep one waiting.
  assert capture.grabbed == 3
  assert frames[0].rate == pytest.approx(12.5)


def test_a_film_whose_name_is_no_text(tmp_path):
  path = pathlib.Path("a\udcff.mp4")
  (frame,) = video.read_file(path, pathlib.PurePath(path.name))
  assert "only opens videos with UTF-8 names" in frame.error
