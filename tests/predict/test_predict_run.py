"""The command of predictions: its lines, exit codes, and that no file is lost."""

import csv
import json
import os
import signal
import types

import commands
import cv2
import made_up_film
import numpy as np
import pytest
import tiny_predictor
from PIL import Image

from emosynth_jax import predict
from emosynth_jax.data.images import face_detector
from emosynth_jax.predict import run as predict_run


def _run(monkeypatch, arguments, **changes):
  """The command in this process; its exit code."""
  given = {
    "workdir": None,
    "bundle": None,
    "faces": "none",
    "min_confidence": 0.5,
    "min_face_score": 0.5,
    "max_side": 640,
    "max_scale": 2.0,
    "upright": True,
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
def folder(tmp_path):
  folder = tmp_path / "images"
  folder.mkdir()
  for name in ("a.png", "c.png"):
    Image.fromarray(tiny_predictor.image(2)).save(folder / name)
  (folder / "b.jpg").write_bytes(b"")
  return folder


def test_json_lines(monkeypatch, capsys, file, folder, fake_detector, tmp_path):
  code = _run(
    monkeypatch,
    [folder],
    bundle=str(file),
    faces="detect",
    annotate=tmp_path / "drawn",
  )
  assert code == predict_run.UNREADABLE
  out, err = capsys.readouterr()
  a, b, c = map(json.loads, out.splitlines())
  assert b == {"source": str(folder / "b.jpg"), "error": "the file is empty"}
  assert len(a["faces"]) == len(c["faces"]) == 2
  face = a["faces"][1]
  assert face["box"] == [8.0, 0.0, 16.0, 8.0]
  assert face["detection_score"] == 0.8
  assert set(face["probabilities"]) == set(tiny_predictor.CLASSES)
  assert "2 images, 4 faces" in err
  assert "1 unreadable" in err
  assert "ms/face" in err
  assert "excluded: compilation" in err
  # Two batches of two faces.
  assert "in batches of 2, 100 % filled" in err
  drawn = sorted(path.name for path in (tmp_path / "drawn").iterdir())
  assert drawn == ["a.png.faces.png", "c.png.faces.png"]


def test_csv(monkeypatch, capsys, file, folder, fake_detector, tmp_path):
  Image.fromarray(tiny_predictor.image(0)).save(folder / "none.png")
  (folder / "b.jpg").unlink()
  output = tmp_path / "faces.csv"
  code = _run(
    monkeypatch,
    [folder, "missing.png"],
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
  total = sum(float(rows[0][f"p_{name}"]) for name in tiny_predictor.CLASSES)
  assert total == pytest.approx(1, abs=1e-4)
  assert float(rows[1]["left"]) == 8


def test_all_read_is_exit_code_0(monkeypatch, capsys, file, folder):
  assert _run(monkeypatch, [folder / "a.png"], bundle=str(file)) == 0
  (face,) = json.loads(capsys.readouterr().out)["faces"]
  assert face["box"] is None


@pytest.mark.parametrize(
  ("arguments", "changes", "message"),
  [
    ([], {}, "expected images, folders, videos"),
    (["a.png"], {"workdir": "a", "bundle": "b"}, "--workdir or --bundle, not both"),
    (["a.png"], {"bundle": "no.safetensors"}, "no bundle at no.safetensors"),
    (["a.png"], {"workdir": "nothing"}, "expected the folder of a trained run"),
    (["a.png"], {"output": "no/folder/a.jsonl"}, "--output: no such folder"),
    (["a.png"], {"output": "."}, "--output: expected a file, . is a folder"),
    (["a.png"], {"output": "b.jpg"}, "--output: expected a .jsonl or .csv file"),
  ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, arguments, changes, message):
  assert _run(monkeypatch, arguments, **changes) == 1
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("error: ")
  assert message in line


def test_a_workdir_of_a_networks_name_is_a_path(monkeypatch, capsys, folder, tmp_path):
  (tmp_path / "ferplus").mkdir()
  monkeypatch.chdir(tmp_path)
  assert _run(monkeypatch, [folder / "a.png"], workdir="ferplus") == 1
  assert "config.json" in capsys.readouterr().err


def test_the_flags_of_the_command():
  done = commands.run("-m", "emosynth_jax.predict", "--help")
  for flag in ("--workdir", "--min_confidence", "--annotate", "--max_scale", "--faces"):
    assert flag in done.stdout, done.stderr


def _contents(folder):
  return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_drawings_beside_the_originals_leave_them_alone(
  monkeypatch, capsys, file, folder
):
  (folder / "b.jpg").unlink()
  made_up_film.write(folder / "film.mp4", frames=4)
  # Named as the drawing of a.png would be, and read after it.
  (folder / "a.png.faces.png").write_bytes((folder / "c.png").read_bytes())
  before = _contents(folder)
  monkeypatch.chdir(folder)
  names = ["a.png", "c.png", "film.mp4", "a.png.faces.png"]
  assert _run(monkeypatch, names, bundle=str(file), annotate=".") == 0
  assert len(capsys.readouterr().out.splitlines()) == 3 + 4
  after = _contents(folder)
  assert {path: after[path] for path in before} == before
  assert {path.name for path in after.keys() - before.keys()} == {
    "a.png-2.faces.png",
    "c.png.faces.png",
    "film.mp4.faces.mp4",
    "a.png.faces.png.faces.png",
  }
  # A second run over the folder reads what it read before, and no drawing.
  (folder / "notes.txt").write_text("")
  assert _run(monkeypatch, ["."], bundle=str(file), annotate="drawn") == 0
  out, err = capsys.readouterr()
  sources = {json.loads(line)["source"] for line in out.splitlines()}
  assert sources == {"a.png", "c.png", "film.mp4"}
  assert "skipped in folders: 5 drawn before, 1 .txt" in err


def test_an_earlier_output_stays_until_the_new_one_is_there(
  monkeypatch, capsys, file, folder, tmp_path
):
  output = tmp_path / "faces.jsonl"
  output.write_text("of an earlier run")
  changes = {"output": str(output)}
  assert _run(monkeypatch, [folder], bundle="no.safetensors", **changes) == 1
  assert output.read_text() == "of an earlier run"
  # An error after the first answer.
  changes["annotate"] = str(folder / "a.png" / "folder")
  assert _run(monkeypatch, [folder], bundle=str(file), **changes) == 1
  assert output.read_text() == "of an earlier run"
  (line,) = (tmp_path / "faces.jsonl.partial").read_text().splitlines()
  assert json.loads(line)["source"] == str(folder / "a.png")
  del changes["annotate"]
  code = _run(monkeypatch, [folder], bundle=str(file), **changes)
  assert code == predict_run.UNREADABLE
  assert len(output.read_text().splitlines()) == 3
  assert not (tmp_path / "faces.jsonl.partial").exists()


def test_no_output_over_an_input(monkeypatch, capsys, file, folder, tmp_path):
  photograph = tmp_path / "photograph"
  photograph.write_bytes((folder / "a.png").read_bytes())
  link = tmp_path / "link"
  link.symlink_to(photograph)
  for output in (photograph, link, file):
    before = output.read_bytes()
    code = _run(monkeypatch, [photograph], bundle=str(file), output=str(output))
    assert code == 1
    assert "is also an input; choose another name" in capsys.readouterr().err
    assert output.read_bytes() == before


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_name_that_is_no_text_ends_nothing(
  monkeypatch, capsys, file, folder, tmp_path, form
):
  name = os.fsencode(folder) + b"/b\xff.png"
  try:
    with open(name, "wb") as strange:
      strange.write((folder / "a.png").read_bytes())
  except OSError:
    pytest.skip("this file system has UTF-8 names only")
  (folder / "b.jpg").unlink()
  arguments = {"bundle": str(file), "format": form}
  assert _run(monkeypatch, [folder], **arguments) == 0
  out = capsys.readouterr().out
  output = tmp_path / "lines"
  assert _run(monkeypatch, [folder], output=str(output), **arguments) == 0
  assert output.read_text() == out
  if form == "jsonl":
    sources = [json.loads(line)["source"] for line in out.splitlines()]
    assert sources[1] == os.fsdecode(name)
  else:
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["source"][-9:] for row in rows][1] == r"b\udcff.png"[-9:]
  assert len(sources if form == "jsonl" else rows) == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (15, 143)])
def test_what_was_read_is_answered_when_stopped(
  monkeypatch, capsys, file, folder, tmp_path, number, code
):
  class Stopping(tiny_predictor.FakeDetector):
    seen = 0

    def __call__(self, image):
      self.seen += 1
      if self.seen == 2:
        os.kill(os.getpid(), number)
      return super().__call__(image)

  (folder / "b.jpg").unlink()
  for name in ("d.png", "e.png"):
    Image.fromarray(tiny_predictor.image(1)).save(folder / name)
  arguments = {"bundle": str(file), "faces": "detect", "batch_size": 100}
  arguments["output"] = str(tmp_path / "lines.jsonl")
  monkeypatch.setattr(face_detector, "Detector", lambda **rest: Stopping())
  assert _run(monkeypatch, [folder], **arguments) == code
  lines = (tmp_path / "lines.jsonl").read_text().splitlines()
  assert [json.loads(line)["source"][-5:] for line in lines] == ["a.png", "c.png"]
  assert "stopped before all sources were processed" in capsys.readouterr().err
  # Nothing is left after the last one.
  monkeypatch.setattr(face_detector, "Detector", lambda **rest: Stopping())
  names = [folder / "a.png", folder / "c.png"]
  assert _run(monkeypatch, names, **arguments) == 0


def test_stopping_is_how_a_webcam_ends(monkeypatch, capsys, file, tmp_path):
  class Camera:
    """One of an image without end; after the third, somebody presses Ctrl-C."""

    grabbed = 0

    def __init__(self, number):
      assert number == 7

    def get(self, what):
      return 0.0

    def grab(self):
      self.grabbed += 1
      if self.grabbed == 4:
        os.kill(os.getpid(), signal.SIGINT)
      return self.grabbed < 100

    def retrieve(self):
      return True, np.zeros((48, 64, 3), np.uint8)

    def release(self):
      pass

  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(cv2, "VideoCapture", Camera)
  assert _run(monkeypatch, ["7"], bundle=str(file)) == 0
  assert len(capsys.readouterr().out.splitlines()) == 3
  # More was asked for than there is.
  assert _run(monkeypatch, ["7"], bundle=str(file), max_frames=50) == 130


def test_nothing_is_compiled_for_sources_that_do_not_exist(
  monkeypatch, capsys, file, tmp_path
):
  def compiled(self):
    raise AssertionError("compiled")

  monkeypatch.setattr(predict.Predictor, "warm_up", compiled)
  code = _run(monkeypatch, [tmp_path / "no.png"], bundle=str(file))
  assert code == predict_run.UNREADABLE
