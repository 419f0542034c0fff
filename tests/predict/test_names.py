"""Mistyped names, outputs that can't be written, and names that programs trip over."""

import csv
import io
import os
import pathlib
import types
import warnings

import commands
import numpy as np
import pytest
from absl import logging
from PIL import Image

from benchmarks import package_answers
from emosynth_jax.bundle import make as make_bundle
from emosynth_jax.data.images import decoding, unreadable
from emosynth_jax.export import export
from emosynth_jax.predict import image_input, media, output, sources
from emosynth_jax.predict import run as predict_run
from emosynth_jax.predict.frame import Frame
from emosynth_jax.predict.predictor import Prediction
from emosynth_jax.report import report
from emosynth_jax.utils import csv_rows, files

# A mistake in a name is answered before what is heavy is imported.

_HEAVY = ("jax", "flax", "cv2", "numpy", "PIL", "scipy", "matplotlib")


@pytest.mark.parametrize(
  ("arguments", "code", "message"),
  [
    (["nosuch.jpg", "neither.mp4"], 2, "nosuch.jpg: no such file, folder or webcam"),
    (["--bundle=no.safetensors", "a.png"], 1, "there is no bundle at no.safetensors"),
    (["--workdir=no", "a.png"], 1, "there is no no"),
    (["--output=no/a.jsonl", "a.png"], 1, "--output: no such folder"),
  ],
)
def test_a_mistyped_name_loads_no_network(arguments, code, message, tmp_path):
  program = (
    "import runpy, sys\n"
    "sys.argv[1:] = sys.argv[1:]\n"
    "try:\n"
    "  runpy.run_module('emosynth_jax.predict', run_name='__main__')\n"
    "except SystemExit as stopped:\n"
    f"  print('loaded:', *({_HEAVY!r} & sys.modules.keys()), file=sys.stderr)\n"
    "  raise\n"
  ).replace(f"{_HEAVY!r} &", f"set({_HEAVY!r}) &")
  (tmp_path / "a.png").write_bytes(b"")
  environment = os.environ | {"PYTHONPATH": str(commands.ROOT)}
  done = commands.run("-c", program, *arguments, cwd=tmp_path, env=environment)
  assert done.returncode == code, done.stderr
  assert message in done.stderr
  assert done.stderr.splitlines()[-1].rstrip() == "loaded:"


def test_one_mistyped_name_of_several_is_told_before_the_network(monkeypatch, tmp_path):
  (tmp_path / "a.png").write_bytes(b"")
  said = []
  monkeypatch.setattr(logging, "error", lambda *arguments: said.append(arguments[1:]))

  class Loaded(Exception):
    pass

  def load(given):
    assert said == [("nosuch.jpg", "no such file, folder or webcam")]
    raise Loaded

  monkeypatch.setattr("emosynth_jax.predict.loop.build_predictor", load)
  monkeypatch.setattr(predict_run.cli, "use_compilation_cache", lambda: None)
  given = types.SimpleNamespace(format="jsonl", output=None)
  with pytest.raises(Loaded):
    predict_run._predict(given, [str(tmp_path / "a.png"), "nosuch.jpg"])


# An output that can't be written is refused before the work, by every command.


def _export(path):
  export.make(
    "no-such-network",
    str(path),
    format="onnx",
    splits=[],
    data_dir=None,
    num_calibration_images=1,
  )


def _bundle(path):
  make_bundle.make("no-such-run", str(path), dtype="float16", data_dir=None)


def _report(path):
  report.write_page(types.SimpleNamespace(output=str(path), workdir=["no-such-run"]))


def _lines(path):
  output.check_output(str(path), [])


@pytest.mark.parametrize("command", [_export, _bundle, _report, _lines])
def test_an_output_that_cannot_be_written_is_refused_first(command, tmp_path):
  missing = tmp_path / "no" / "x.safetensors"
  with pytest.raises(FileNotFoundError, match="--output: no such folder"):
    command(missing)
  assert not missing.parent.exists()
  (tmp_path / "folder.safetensors").mkdir()
  with pytest.raises(IsADirectoryError, match=r"--output: expected a file, .* folder"):
    command(tmp_path / "folder.safetensors")


def test_an_export_whose_record_cannot_be_written_is_refused_first(tmp_path):
  (tmp_path / "x.onnx.json").mkdir()
  with pytest.raises(IsADirectoryError, match=r"x\.onnx\.json is a folder"):
    _export(tmp_path / "x.onnx")


def test_an_output_without_permission(tmp_path, monkeypatch):
  monkeypatch.setattr(os, "access", lambda path, mode: False)
  with pytest.raises(PermissionError, match="--output: no permission to write"):
    files.check_output(tmp_path / "a")


# A spreadsheet runs a cell that begins with "=".

_PREDICTION = Prediction(None, None, "=happy", 0.9, {"=happy": 0.9, "sad": 0.1})


@pytest.mark.parametrize("name", ["=cmd|'/c calc'!A1.png", "+a", "-a", "@a", "\ta"])
def test_a_file_name_is_no_formula(name):
  file = io.StringIO()
  write = output.csv_writer(file, ["=happy", "sad"])
  write(Frame(name, pathlib.PurePath("a"), None), [_PREDICTION])
  write(Frame(name, pathlib.PurePath("a"), None, "=error"), [])
  _, face, error = csv.reader(io.StringIO(file.getvalue()))
  assert face[0] == f"'{name}"
  assert "'=happy" in face
  assert error[-1] == "'=error"


def test_numbers_are_no_formulas():
  file = io.StringIO()
  write_row = csv_rows.writer(file)
  write_row([-1.5, "-1.5", "+3e-4", "a=b", None, "- 1"])
  assert file.getvalue() == "-1.5,-1.5,+3e-4,a=b,,'- 1\n"


def test_names_in_other_tables_are_no_formulas(tmp_path):
  path, names = str(tmp_path / "answers.csv"), ["=a.png", "b.png"]
  package_answers.write(path, names, np.array([0, 1]), np.array([1, 1]))
  assert "\n'=a.png,0,1" in (tmp_path / "answers.csv").read_text().replace("\r", "")
  read = package_answers.read(path, names, np.array([0, 1]))
  np.testing.assert_array_equal(read, [1, 1])


# Pillow's warnings name the file.


@pytest.fixture
def said(monkeypatch):
  lines = []
  monkeypatch.setattr(
    decoding.logging, "warning", lambda text, *words: lines.append(text % words)
  )
  with warnings.catch_warnings():
    warnings.resetwarnings()
    decoding.log_warnings_by_file()
    yield lines


def _save(path, **options):
  image = Image.new("P", (20, 20))
  image.putpalette([0, 0, 0, 255, 255, 255])
  image.save(path, **options)


def test_a_large_image_is_warned_of_by_name(said, tmp_path, monkeypatch):
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
  for name in ("a.png", "b.png"):
    _save(tmp_path / name)
  list(media.read_all(sources.find([str(tmp_path)])))
  # Both files, though Python shows equal warnings once.
  assert len(said) == 2
  for line, name in zip(said, ("a.png", "b.png"), strict=True):
    assert line.startswith(f"{tmp_path / name}: Image size (400 pixels) exceeds limit")


def test_a_warning_of_the_audit_names_the_file(said, tmp_path, monkeypatch):
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
  _save(tmp_path / "a.png")
  assert unreadable.find_unreadable(tmp_path) == []
  assert [line.split(": ")[0] for line in said] == [str(tmp_path / "a.png")]


def test_a_warning_of_the_conversion_names_the_file(said):
  file = io.BytesIO()
  _save(file, format="PNG", transparency=bytes([0, 128]))
  decoding.decode(file.getvalue(), "a.png", 3)
  image_input.decode(file.getvalue(), "b.png")
  assert said
  assert all(line.startswith(("a.png: ", "b.png: ")) for line in said)


def test_warnings_of_others_stay_as_they_are(said):
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    warnings.warn("of no file", UserWarning, stacklevel=1)
  assert said == []
  assert [str(one.message) for one in caught] == ["of no file"]
