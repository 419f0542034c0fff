"""A bar with rate and ETA for a folder of images, and lines where there is no room."""

import io
import re
import sys
import types

import pytest
from PIL import Image

from emosynth_jax import predict
from emosynth_jax.predict import loop, progress


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def seconds(monkeypatch):
  """A clock that the test turns."""
  clock = types.SimpleNamespace(now=100.0)
  clock.monotonic = lambda: clock.now
  monkeypatch.setattr(progress, "time", clock)
  return clock


@pytest.mark.parametrize(
  ("done", "total", "spent", "is_bar", "expected"),
  [
    (
      250,
      1000,
      10.0,
      True,
      "[######------------------] 250/1,000 images | 25.0 images/s | ETA 0:00:30",
    ),
    (1000, 1000, 40.0, False, "1,000/1,000 images | 25.0 images/s | ETA 0:00:00"),
    (30, None, 10.0, True, "30 images | 3.0 images/s"),
  ],
)
def test_the_line(done, total, spent, is_bar, expected):
  assert progress.describe(done, total, spent, is_bar=is_bar) == expected


def test_a_bar_is_drawn_over_itself_and_gone_in_the_end(monkeypatch, seconds):
  terminal = Terminal()
  monkeypatch.setattr(sys, "stderr", terminal)
  with progress.Progress(1000, is_alone=True) as bar:
    for i in range(1000):
      seconds.now += 0.05
      bar.update(i + 1, 0.05 * (i + 1))
  drawn = terminal.getvalue().split("\r\033[K")[1:]
  # Five a second at most, of 50 s, and nothing in the end.
  assert 150 < len(drawn) <= 251
  assert drawn[-1] == ""
  assert drawn[-2].endswith("/1,000 images | 20.0 images/s | ETA 0:00:00")
  assert "\n" not in terminal.getvalue()


@pytest.mark.parametrize(
  ("is_alone", "stream"), [(False, Terminal), (True, io.StringIO)]
)
def test_lines_now_and_then_where_a_bar_would_disturb(
  monkeypatch, seconds, is_alone, stream
):
  said = []
  monkeypatch.setattr(
    progress.logging, "info", lambda text, *words: said.append(text % words)
  )
  monkeypatch.setattr(sys, "stderr", stream())
  with progress.Progress(1000, is_alone=is_alone) as lines:
    for i in range(1000):
      seconds.now += 0.05
      lines.update(i + 1, 0.05 * (i + 1))
  assert len(said) == 4
  assert re.fullmatch(r"40\d/1,000 images \| 20\.0 images/s \| ETA 0:00:30", said[1])
  assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize(("with_film", "total"), [(False, 30), (True, None)])
def test_the_command_knows_how_many_images_there_are(
  network, monkeypatch, tmp_path, with_film, total
):
  for i in range(29):
    Image.new("L", (4, 4), i).save(tmp_path / f"{i}.png")
  (tmp_path / "empty.jpg").write_bytes(b"")
  if with_film:
    (tmp_path / "film.mp4").write_bytes(b"no film")
  shown = []
  monkeypatch.setattr(
    progress,
    "describe",
    lambda done, total, seconds, is_bar: shown.append((done, total)) or "",
  )
  clock = iter(range(0, 10**6, 60))
  monkeypatch.setattr(
    progress, "time", types.SimpleNamespace(monotonic=lambda: next(clock))
  )
  given = types.SimpleNamespace(
    format="jsonl", every=1, max_frames=0, output="x", annotate=None, batch_size=8
  )
  predictor = predict.Predictor(network, faces="none")
  with open(tmp_path / "lines", "w") as file:
    loop.predict_all(predictor, given, [str(tmp_path)], file)
  assert {number for _, number in shown} == {total}
  assert [done for done, _ in shown] == list(range(1, len(shown) + 1))
  assert len(shown) == 30 + with_film
