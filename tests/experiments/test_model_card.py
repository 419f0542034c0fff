"""The card's tables against scikit-learn and counts by hand."""

import types

import numpy as np
import pytest
import tiny_network
import tiny_predictor
from scipy import special
from sklearn import metrics as oracle

from emosynth_jax import bundle
from emosynth_jax.data import run_data
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.utils import cli
from experiments import model_card
from experiments.lib import card_tables

_CLASSES = ("angry", "happy", "neutral")


def _answers(seed, number=200):
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 2, (number, 3)).astype(np.float32)
  labels = np.where(
    rng.random(number) < 0.6, logits.argmax(-1), rng.integers(0, 3, number)
  )
  return logits, labels.astype(np.int32)


def _tables(text):
  """Every Markdown table: cells by the first of their row."""
  tables, rows = [], None
  for line in text.splitlines():
    if not line.startswith("|"):
      rows = None
      continue
    if rows is None:
      tables.append(rows := {})
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    rows[cells[0]] = cells[1:]
  return tables


def test_coverage_by_hand():
  # Confidences .9, .7, .6 and .5, of which the second is wrong.
  probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.5, 0.5]])
  labels = np.array([0, 0, 0, 0])
  found = card_tables.coverage(
    3 * np.log(probabilities), labels, 3.0, [0, 0.55, 0.65, 0.8, 1.0]
  )
  expected = [(1.0, 0.75), (0.75, 2 / 3), (0.5, 0.5), (0.25, 1.0), (0.0, None)]
  assert [x[0] for x in found] == [x[0] for x in expected]
  assert [x[1] for x in found[:-1]] == pytest.approx([x[1] for x in expected[:-1]])
  assert found[-1][1] is None


def test_tables_are_scikit_learns():
  rng = np.random.default_rng(5)
  splits = [
    card_tables.Split(
      name,
      *_answers(seed, number),
      rest,
      rng.normal(0, 2, (number, 3)),
      rng.integers(1, 5, (number, 3)),
    )
    for seed, (name, number, rest) in enumerate(
      (
        ("Public", 200, {"accuracy": 0.5, "num_examples": 1234}),
        ("Private", 300, None),
      )
    )
  ]
  temperature = 1.7
  text = card_tables.format_card(splits, _CLASSES, temperature)
  accuracy, classes, confusions, calibrated, covered = _tables(text)
  _, logits, labels, _, mirrored, votes = splits[1]
  predicted = logits.argmax(-1)
  expected = 100 * oracle.accuracy_score(labels, predicted)
  assert accuracy["accuracy"][1] == f"{expected:.2f} %"
  expected = 100 * oracle.balanced_accuracy_score(labels, predicted)
  assert accuracy["balanced accuracy"][1] == f"{expected:.2f} %"
  total = sum(np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (logits, mirrored))
  expected = 100 * oracle.accuracy_score(labels, total.argmax(-1))
  assert accuracy["accuracy, mirror image added"][1] == f"{expected:.2f} %"
  shares = votes / votes.sum(1, keepdims=True)
  expected = 100 * shares[np.arange(300), predicted].mean()
  assert accuracy["expected accuracy under the votes"][1] == f"{expected:.2f} %"
  rest = accuracy["accuracy, deduplicated (without near-duplicates of earlier splits)"]
  assert rest == ["50.00 % of 1,234", "none"]
  figures = oracle.precision_recall_fscore_support(labels, predicted)
  for name, row in zip(("precision", "recall", "f1"), figures[:3], strict=True):
    assert classes[name] == [f"{100 * x:.1f}" for x in row], name
  assert classes["images"] == [str(x) for x in figures[3]]
  row = 100 * oracle.confusion_matrix(labels, predicted, normalize="true")[0]
  assert confusions["angry"][0] == f"{row[0]:.0f}"
  for k in (1, 2):
    assert f"{_CLASSES[k]} {row[k]:.0f}" in confusions["angry"][1]
  cells = []
  for _, logits, labels, *_ in splits:
    for t in (1, temperature):
      cells.append(f"{oracle.log_loss(labels, special.softmax(logits / t, -1)):.4f}")
  assert calibrated["negative log-likelihood"] == cells
  assert list(covered)[2:] == ["0", "0.4", "0.5", "0.6", "0.8"]
  sure = special.softmax(logits.astype(float) / temperature, -1).max(-1) >= 0.6
  right = 100 * (predicted == labels)[sure].mean()
  assert covered["0.6"][2:] == [f"{100 * sure.mean():.1f} %", f"{right:.1f} %"]
  assert "Temperature 1.700, fitted on Public's 200 images" in text


@pytest.fixture
def source(tmp_path, monkeypatch, tiny_networks):
  """A bundle, and data of which test's first ten images are training images."""

  def load(config, splits, **rest):
    datasets = {}
    for seed, split in enumerate(splits):
      rng = np.random.default_rng(seed)
      images = rng.integers(0, 256, (40, *tiny_network.IMAGE_SHAPE)).astype(np.uint8)
      if split == "test" and "train" in splits:
        images[:10] = datasets["train"].images[:10]
      datasets[split] = Dataset(
        images=images,
        labels=np.arange(40, dtype=np.int32) % 3,
        class_names=_CLASSES,
        split=split,
        sources=("",) * 40,
        official_split={"test": "PrivateTest"}.get(split, ""),
      )
    return datasets

  monkeypatch.setattr(run_data, "load_data", load)
  return tiny_predictor.write_bundle(tmp_path / "tiny.safetensors")


def _main(monkeypatch, source, arguments=(), **changes):
  given = {"source": source, "data_dir": None, "deduplicated": True, "traceback": False}
  monkeypatch.setattr(cli.flags, "FLAGS", types.SimpleNamespace(**given | changes))
  cli.call(["model_card", *arguments], model_card.print_tables)


def test_the_command_measures_any_bundle(source, monkeypatch, capsys):
  _main(monkeypatch, source)
  said = capsys.readouterr().out
  network = bundle.read_bundle(source)
  test = run_data.load_data(None, ("train", "validation", "test"))["test"]
  logits = bundle.compile_logits(network, batch_size=40)(test.images)
  right = logits.argmax(-1) == test.labels
  accuracy, *_ = _tables(said)
  assert accuracy[""] == ["validation", "PrivateTest"]
  assert accuracy["accuracy"][1] == f"{100 * right.mean():.2f} %"
  rest = accuracy["accuracy, deduplicated (without near-duplicates of earlier splits)"]
  assert rest[1] == f"{100 * right[10:].mean():.2f} % of 30"
  assert said.startswith("tiny.safetensors: ")
  _main(monkeypatch, source, deduplicated=False)
  assert "deduplicated" not in capsys.readouterr().out


def test_mistakes_are_one_line(source, monkeypatch, capsys):
  def refuse(config, splits, **rest):
    raise FileNotFoundError("no data here")

  load = run_data.load_data
  for replaced, arguments, message in (
    (load, ["tables.md"], "expected flags only"),
    (refuse, [], "no data here. Set --data_dir"),
  ):
    monkeypatch.setattr(run_data, "load_data", replaced)
    with pytest.raises(SystemExit):
      _main(monkeypatch, source, arguments)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
