"""Lines of predictions as other readers of CSV and JSON see them."""

import csv
import json
import pathlib

import pytest

from emosynth_jax.predict import Prediction, video
from emosynth_jax.predict import output as predict_output

_NAMES = ("angry, very", 'so "happy"', "line\nand\r\nline", "fröhlich 悲")


def _prediction():
  probabilities = dict(zip(_NAMES, (0.1, 0.2, 0.3, 0.4), strict=True))
  box = (1.26, 2.0, 3.0, 4.0)
  return Prediction(box, 0.87654, _NAMES[2], 0.3, probabilities)


def _frame(source, **changes):
  return video.Frame(source, pathlib.PurePath("a"), None, **changes)


@pytest.mark.parametrize("source", _NAMES)
def test_names_come_back_from_csv(tmp_path, source):
  path = tmp_path / "lines.csv"
  with predict_output.open_lines(str(path)) as file:
    write = predict_output.csv_writer(file, _NAMES)
    write(_frame(source), [_prediction(), _prediction()])
    write(_frame(source, error='it\'s, "no"\nimage'), [])
  with open(path, newline="", encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
  assert [row["source"] for row in rows] == [source] * 3
  assert [row["face"] for row in rows] == ["0", "1", ""]
  assert rows[0]["label"] == _NAMES[2]
  assert [float(rows[0][f"p_{name}"]) for name in _NAMES] == [0.1, 0.2, 0.3, 0.4]
  assert (rows[0]["left"], rows[0]["detection_score"]) == ("1.3", "0.8765")
  assert rows[2]["error"] == 'it\'s, "no"\nimage'


def test_names_come_back_from_json(tmp_path):
  path = tmp_path / "lines.jsonl"
  with predict_output.open_lines(str(path)) as file:
    write = predict_output.json_writer(file)
    for source in _NAMES:
      write(_frame(source, number=3, seconds=0.12345), [_prediction()])
  records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
  assert [record["source"] for record in records] == list(_NAMES)
  assert (records[0]["frame"], records[0]["seconds"]) == (3, 0.123)
  assert records[0]["faces"][0]["probabilities"] == _prediction().probabilities


def test_an_error_keeps_the_lines_beside_the_earlier_file(tmp_path):
  path = tmp_path / "lines"
  path.write_text("before")

  def write_half():
    with predict_output.open_lines(str(path)) as file:
      file.write("half")
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    write_half()
  assert path.read_text() == "before"
  assert (tmp_path / "lines.partial").read_text() == "half"
  with pytest.raises(ValueError, match="nothing"):
    with predict_output.open_lines(str(tmp_path / "other")):
      raise ValueError("nothing yet")
  assert {p.name for p in tmp_path.iterdir()} == {"lines", "lines.partial"}


def test_a_link_stays_one_and_a_device_is_written_directly(tmp_path):
  (tmp_path / "link").symlink_to(tmp_path / "target")
  (tmp_path / "target").write_text("before")
  with predict_output.open_lines(str(tmp_path / "link")) as file:
    file.write("after")
  assert (tmp_path / "link").is_symlink()
  assert (tmp_path / "target").read_text() == "after"
  null = pathlib.Path("/dev/null")
  if null.is_char_device():
    with predict_output.open_lines(str(null)) as file:
      file.write("gone")
    assert null.is_char_device()
