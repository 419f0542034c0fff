"""Evaluation across data sets: classes by name, and a diagonal that is the report's."""

import json
import pathlib
import types

import numpy as np
import pytest
from PIL import Image

from emosynth_jax.analysis import cross_dataset
from emosynth_jax.data.dataset import Dataset

_STORED = pathlib.Path(__file__).parents[1] / "fixtures" / "stored_run" / "seed0"


def _dataset(labels, class_names):
  labels = np.array(labels, np.int32)
  images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
  return Dataset(images, labels, class_names, "test", tuple(map(str, labels)))


def test_classes_are_matched_by_name():
  dataset = _dataset([0, 1, 2, 3, 1], ("Happiness", "anger", "contempt", "fear"))
  matched, columns, left_out = cross_dataset.match_classes(
    dataset, ("angry", "disgust", "fear", "happy")
  )
  assert matched.class_names == ("angry", "fear", "happy")
  assert columns == [0, 2, 3]
  # Images 0, 1, 3 and 4: happiness, anger, fear, anger.
  assert matched.images.ravel().tolist() == [0, 1, 3, 4]
  assert matched.labels.tolist() == [2, 0, 1, 0]
  assert left_out == {"of_network": ["disgust"], "of_data": ["contempt"]}


def test_data_without_two_shared_classes_is_refused():
  dataset = _dataset([0, 1], ("cat", "anger"))
  with pytest.raises(cross_dataset.NotComparableError, match="fewer than two classes"):
    cross_dataset.match_classes(dataset, ("angry", "happy"))
  dataset = _dataset([2], ("sad", "anger", "cat"))
  with pytest.raises(cross_dataset.NotComparableError, match="no image of a shared"):
    cross_dataset.match_classes(dataset, ("angry", "sad"))


def test_a_data_set_of_the_command_line():
  data = cross_dataset.parse_data("ck_plus:data/ck:crop=landmarks,fold=3")
  assert (data.name, data.data_dir) == ("ck_plus", "data/ck")
  assert data.options.to_dict() == {"crop": "landmarks", "fold": 3}
  for text in ("ck:data", "raf_db", "raf_db:data:channels"):
    with pytest.raises(ValueError, match=r"--on: expected"):
      cross_dataset.parse_data(text)


def test_equal_data_is_one_column():
  first = cross_dataset.parse_data("raf_db:data/raf")
  same = cross_dataset.parse_data("raf_db:./data/raf")
  other = cross_dataset.parse_data("raf_db:data/raf:channels=3")
  columns = cross_dataset.name_columns([first, same, other])
  assert list(columns) == ["raf_db", "raf_db (2)"]


def _write_folder(root: pathlib.Path, side: int) -> pathlib.Path:
  """Test images of four classes, one of which no network here has."""
  rng = np.random.default_rng(0)
  for name in ("Anger", "happiness", "zebra", "fear"):
    folder = root / "test" / name
    folder.mkdir(parents=True)
    (root / "train" / name).mkdir(parents=True)
    for i in range(3):
      pixels = rng.integers(0, 256, (side, side), np.uint8)
      Image.fromarray(pixels).save(folder / f"{i}.png")
      Image.fromarray(pixels).save(root / "train" / name / f"{i}.png")
  return root


def test_the_matrix_of_a_stored_run(tmp_path, capsys):
  report = json.loads((_STORED / "report.json").read_text())
  expected = report["splits"]["test"]
  given = types.SimpleNamespace(
    workdirs=[str(_STORED)],
    on=[f"image_folder:{_write_folder(tmp_path / 'folder', 48)}"],
    split="test",
    output=str(tmp_path),
  )
  cross_dataset.measure(given)
  text = capsys.readouterr().out
  result = json.loads((tmp_path / "cross_dataset.json").read_text())
  assert result["columns"] == ["synthetic_faces", "image_folder"]
  cells = result["rows"][0]["cells"]
  assert result["rows"][0]["trained_on"] == "synthetic_faces"

  # The diagonal is the run's own report.
  own = cells["synthetic_faces"]
  assert own["confusion_matrix"] == expected["confusion_matrix"]
  assert own["accuracy"] == expected["accuracy"]
  assert own["loss"] == pytest.approx(expected["loss"], rel=1e-5)

  # Nine images of three classes, whose predictions are among these three alone.
  other = cells["image_folder"]
  assert other["class_names"] == ["angry", "fear", "happy"]
  assert np.sum(other["confusion_matrix"]) == 9
  assert other["left_out_images"] == 3
  assert "left out 3 images of zebra; without the network's disgust" in text
