"""A bar with rate and ETA for a folder of images, and lines where there is no room."""

import io
import sys
import types

import pytest
from PIL import Image

from emosynth_jax import predict
from emosynth_jax.predict import loop


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.mark.parametrize(
  ("total", "expected"),
  [
    (1000, "250/1,000 images, 25.00 images/s, ETA 00:30"),
    (None, "250 images, 25.00 images/s"),
  ],
)
def test_the_line(total, expected):
  assert loop.describe_progress(250, total, 10.0) == expected


def predict_folder(network, folder, output="x"):
  given = types.SimpleNamespace(
    format="jsonl", every=1, max_frames=0, output=output, annotate=None, batch_size=8
  )
  for i in range(29):
    Image.new("L", (4, 4), i).save(folder / f"{i}.png")
  (folder / "empty.jpg").write_bytes(b"")
  predictor = predict.Predictor(network, faces="none")
  with open(folder / "lines", "w") as file:
    loop.predict_all(predictor, given, [str(folder)], file)


@pytest.mark.parametrize(("with_film", "total"), [(False, 30), (True, None)])
def test_the_command_knows_how_many_images_there_are(
  network, monkeypatch, tmp_path, with_film, total
):
  if with_film:
    (tmp_path / "film.mp4").write_bytes(b"no film")
  shown = []
  monkeypatch.setattr(
    loop, "describe_progress", lambda done, total, _: shown.append((done, total)) or ""
  )
  # A minute between any two looks at the clock.
  clock = iter(range(0, 10**6, 60))
  monkeypatch.setattr(
    loop, "time", types.SimpleNamespace(monotonic=lambda: next(clock))
  )
  predict_folder(network, tmp_path)
  assert {number for _, number in shown} == {total}
  assert [done for done, _ in shown] == list(range(1, len(shown) + 1))
  assert len(shown) == 30 + with_film


def test_a_bar_on_a_terminal_is_gone_in_the_end(network, monkeypatch, tmp_path):
  terminal = Terminal()
  monkeypatch.setattr(sys, "stderr", terminal)
  monkeypatch.setattr(loop, "describe_progress", None)
  predict_folder(network, tmp_path)
  bar, _, rest = terminal.getvalue().rpartition("\r")
  assert "/30 [" in bar
  assert rest.lstrip().startswith("29 images")


def test_no_bar_runs_into_results_on_the_same_terminal(network, monkeypatch, tmp_path):
  terminal = Terminal()
  monkeypatch.setattr(sys, "stderr", terminal)
  monkeypatch.setattr(sys, "stdout", Terminal())
  predict_folder(network, tmp_path, output=None)
  assert "[" not in terminal.getvalue()
  assert "29 images" in terminal.getvalue()


def test_a_line_of_progress_every_ten_seconds(network, monkeypatch, tmp_path):
  shown = []
  monkeypatch.setattr(
    loop, "describe_progress", lambda done, *_: shown.append(done) or ""
  )
  # Two looks at the clock for each image, a second apart.
  clock = iter(range(10**6))
  monkeypatch.setattr(
    loop, "time", types.SimpleNamespace(monotonic=lambda: next(clock))
  )
  predict_folder(network, tmp_path)
  assert 1 < len(shown) <= next(clock) // 10
