"""Videos as they come, by content and not by suffix, and a disk that is full.

fixtures/video holds a second or third segment, whose times don't begin at zero, and a
video of AV1, as FFmpeg 9.0 writes them:

  ffmpeg -f lavfi -i color=c=gray:d=9:r=5:s=32x32 -c:v mpeg4 -g 5 -f segment \\
      -segment_time 3 t%d.mkv           # segment.mkv is t1.mkv
  ... -c:v libvpx-vp9 ... t%d.webm      # segment.webm is t2.webm
  ffmpeg -f lavfi -i color=c=gray:d=1:r=5:s=32x32 -c:v libaom-av1 av1.mp4
"""

import contextlib
import errno
import json
import os
import pathlib
import resource
import shutil
import types

import cv2
import made_up_film
import numpy as np
import pytest
from PIL import Image

from emosynth_jax import predict
from emosynth_jax.predict import annotate, loop, media, output, sources, video
from emosynth_jax.predict.frame import Frame
from emosynth_jax.utils import files

_VIDEOS = pathlib.Path(__file__).parents[1] / "fixtures" / "video"
_NOISE = np.random.default_rng(0).integers(0, 256, (96, 192, 3), np.uint8)


# A segment of a longer video is whole.


@pytest.mark.parametrize("name", ["segment.mkv", "segment.webm"])
def test_a_segment_is_whole_though_its_times_begin_later(name):
  frames = list(media.read_all(sources.find([str(_VIDEOS / name)])))
  assert [frame.error for frame in frames] == [""] * 15
  assert [frame.seconds for frame in frames] == pytest.approx(np.arange(15) / 5)


def test_a_segment_that_is_cut_off_is_told(tmp_path):
  content = (_VIDEOS / "segment.mkv").read_bytes()
  path = tmp_path / "cut.mkv"
  path.write_bytes(content[:-250])
  *frames, last = media.read_all(sources.find([str(path)]))
  assert 0 < len(frames) < 13
  assert last.error.startswith("truncated or damaged: ends after ")
  assert last.error.endswith(" of 15 frames")


@pytest.mark.parametrize(
  ("stated", "start", "expected"),
  [
    (202, 102, 100),  # Matroska: counted from time zero.
    (100, 102, 100),  # MP4: the file's own frames.
    (100, 0, 100),
    (-1, 5, -1),  # Nothing is stated.
    (100, -3, 100),
    (100, float("nan"), 100),
  ],
)
def test_frames_from_the_first_one_on(stated, start, expected):
  assert video.frames_from_start(stated, start) == expected


def test_a_codec_that_cannot_be_decoded_is_named():
  capture = cv2.VideoCapture(str(_VIDEOS / "av1.mp4"))
  can_decode = capture.grab()
  capture.release()
  if can_decode:
    pytest.skip("this OpenCV decodes AV1")
  (frame,) = media.read_all(sources.find([str(_VIDEOS / "av1.mp4")]))
  assert frame.error.startswith("no frame can be decoded: it is damaged, or")
  assert "OpenCV can't decode its codec AV01 here; then convert it" in frame.error


# Containers by content.


@pytest.mark.parametrize(
  ("name", "code"), [("a.ts", "MPG2"), ("a.m2v", "MPG2"), ("a.TS", "MPG2")]
)
def test_suffixes_of_videos(tmp_path, name, code):
  path = made_up_film.write(
    tmp_path / "a.ts" if name == "a.TS" else tmp_path / name, code, rate=25.0
  )
  path = path.rename(tmp_path / name)
  # By its name, and in a folder.
  for source in (path, tmp_path):
    frames = list(media.read_all(sources.find([str(source)])))
    assert [frame.error for frame in frames] == [""] * len(frames)
    assert len(frames) >= 5


@pytest.mark.parametrize("suffix", [".f4v", ".h264", ".hevc", ".mxf"])
def test_more_suffixes_that_folders_are_searched_for(tmp_path, suffix):
  shutil.copy(made_up_film.write(tmp_path / "a.mp4"), tmp_path / f"b{suffix}")
  found = list(sources.find([str(tmp_path)]))
  assert [(source.name.name, source.kind) for source in found] == [
    ("a.mp4", "video"),
    (f"b{suffix}", "video"),
  ]


@pytest.mark.parametrize("name", ["film", "film.dat", "film.jpg", "film.mp4.part"])
def test_what_is_named_and_no_image_is_tried_as_a_video(tmp_path, name):
  path = made_up_film.write(tmp_path / "a.mp4").rename(tmp_path / name)
  frames = list(media.read_all(sources.find([str(path)])))
  assert [frame.number for frame in frames] == list(range(6))
  assert {frame.source for frame in frames} == {str(path)}


def test_what_is_neither_is_said_once(tmp_path):
  (tmp_path / "notes").write_text("neither an image nor a video")
  (frame,) = media.read_all(sources.find([str(tmp_path / "notes")]))
  assert frame.error == ("cannot decode this file: no known image format, and no video")


def test_typescript_is_no_film(tmp_path):
  (tmp_path / "a.ts").write_text("export const G = 1;" * 50)
  Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
  (source,) = sources.find([str(tmp_path)])
  assert source.name.name == "b.png"


# A full disk, as a limit on the size of files.


@contextlib.contextmanager
def _full_disk(size):
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _frame(number=None, name="film.avi"):
  return Frame(name, pathlib.PurePath(name), None, "", number, None, 5.0)


def test_a_film_on_a_full_disk_is_an_error_that_names_it(tmp_path):
  rng = np.random.default_rng(0)

  def write():
    with _full_disk(100_000), annotate.Writer(tmp_path) as writer:
      for i in range(30):
        writer.write(_frame(i), rng.integers(0, 256, _NOISE.shape, np.uint8))

  with pytest.raises(OSError, match=r"film\.avi\.faces\.mp4: the video could not be"):
    write()
  assert list(tmp_path.iterdir()) == []


def test_a_drawing_on_a_full_disk_is_an_error_that_names_it(tmp_path):
  with pytest.raises(OSError, match=r"a\.png\.faces\.png") as raised:
    with annotate.Writer(tmp_path) as writer, _full_disk(1000):
      writer.write(_frame(name="a.png"), _NOISE)
  assert raised.value.errno == errno.EFBIG
  assert list(tmp_path.iterdir()) == []


def test_lines_on_a_full_disk_are_an_error_that_names_them(tmp_path):
  path = tmp_path / "faces.jsonl"
  path.write_text("of an earlier run")

  def write():
    with output.open_lines(str(path)) as file, _full_disk(1000):
      write_line = output.json_writer(file)
      for _ in range(100):
        write_line(_frame(name="a" * 20), [])

  with pytest.raises(OSError, match=r"cannot write .*faces\.jsonl: File too large"):
    write()
  assert path.read_text() == "of an earlier run"
  with pytest.raises(OSError, match=r"cannot write /dev/full: No space left on devi"):
    with output.open_lines("/dev/full") as file:
      output.json_writer(file)(_frame(), [])


def test_a_report_on_a_full_disk_is_an_error_that_names_it(tmp_path):
  path = tmp_path / "report.json"
  files.write_report(path, {"a": 1})
  with pytest.raises(OSError, match=r"report\.json"), _full_disk(1000):
    files.write_report(path, {"a": "b" * 5000})
  assert json.loads(path.read_text()) == {"a": 1}
  assert list(tmp_path.iterdir()) == [path]


# Names that are longer than a file system allows.

_LONG = "笑" * 80 + ".png"


def test_a_drawing_of_a_long_name_is_shortened(tmp_path):
  assert len(_LONG.encode()) == 244
  other = "笑" * 79 + "怒.png"
  with annotate.Writer(tmp_path) as writer:
    for name in (_LONG, other, _LONG):
      writer.write(_frame(name=name), _NOISE)
    for i in range(3):
      writer.write(_frame(i, _LONG.replace("png", "mp4")), _NOISE)
  names = sorted(path.name for path in tmp_path.iterdir())
  assert len(names) == 4
  assert sum(name.endswith(".faces.png") for name in names) == 3
  assert sum(name.endswith(".faces.mp4") for name in names) == 1
  assert all(name.startswith("笑" * 60) for name in names)
  # The same in another run.
  assert files.shorten(_LONG, reserve=20) == files.shorten(_LONG, reserve=20)


@pytest.mark.parametrize("name", ["a" * 300, "笑" * 100, "é" * 130, "a\udcff" * 130])
def test_a_shortened_name_fits_and_stays_different(name):
  for reserve in (0, 5, 30):
    short = files.shorten(name, reserve=reserve)
    assert len(os.fsencode(short)) <= 255 - reserve
    assert short != files.shorten(f"{name}!", reserve=reserve)
  assert files.shorten("a" * 255) == "a" * 255


def test_outputs_of_long_names_are_written(tmp_path):
  # As long as a file system allows, so that no temporary name is longer.
  for length in (240, 255):
    path = tmp_path / ("a" * (length - 5) + ".json")
    files.write_report(path, {"a": 1})
    with output.open_lines(str(path)) as file:
      file.write("lines")
    assert path.read_text() == "lines"
  assert len(list(tmp_path.iterdir())) == 2


def test_a_stream_of_a_long_address_has_a_name(tmp_path):
  (source,) = sources.find(["https://host/" + "a" * 400 + ".mp4?token=b"])
  with annotate.Writer(tmp_path) as writer:
    writer.write(Frame(source.path, source.name, None, "", 0, None, 5.0), _NOISE)
  (path,) = tmp_path.iterdir()
  assert path.name.startswith("host_aaa")
  assert "token" not in path.name


def test_a_name_too_long_for_this_file_system_loses_no_other(
  network, tmp_path, monkeypatch, capsys
):
  """As on eCryptfs, which allows 143 bytes."""
  for name in ("a.png", "b.png"):
    Image.fromarray(_NOISE).save(tmp_path / name)
  write = files.write_atomically

  def refuse(path, content):
    if path.name.startswith("a.png"):
      raise OSError(errno.ENAMETOOLONG, "File name too long", str(path))
    write(path, content)

  monkeypatch.setattr(files, "write_atomically", refuse)
  given = _flags(annotate=str(tmp_path / "drawn"))
  predictor = predict.Predictor(network, faces="none", batch_size=1)
  with open(tmp_path / "lines", "w") as file:
    code = loop.predict_all(
      predictor, given, [str(tmp_path / "a.png"), str(tmp_path / "b.png")], file
    )
  assert code == loop.UNREADABLE
  assert len((tmp_path / "lines").read_text().splitlines()) == 2
  drawn = [path.name for path in (tmp_path / "drawn").iterdir()]
  assert drawn == ["b.png.faces.png"]


def _flags(**changes):
  given = {
    "format": "jsonl",
    "every": 1,
    "max_frames": 0,
    "output": None,
    "annotate": None,
    "batch_size": 1,
  }
  return types.SimpleNamespace(**given | changes)
