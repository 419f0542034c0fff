"""Figures of finished runs: curves, matrices and the text beside each image."""

import json
import pathlib
import types

import made_up_run
import numpy as np
import pytest

from emosynth_jax.analysis.embeddings import command as embedding_command
from emosynth_jax.config import defaults
from emosynth_jax.report import run_files
from emosynth_jax.utils import files
from experiments.lib import (
  figures,
  figures_of_networks,
  figures_of_planes,
  figures_of_runs,
)


def _write_run(
  folder,
  *,
  loss="cross_entropy",
  seed=0,
  data_set="mnist",
  accuracies,
  model="net",
  batch_size=64,
  fold=None,
):
  config = defaults.get_default_config()
  config.model = {"name": model, "dtype": "float32"}
  config.loss = {"name": loss}
  config.batch_size = batch_size
  if fold is not None:
    config.data.options = {"fold": fold}
  config.data.name = data_set
  config.seed = seed
  folder.mkdir()
  config = files.to_jsonable(config.to_dict())
  (folder / "config.json").write_text(json.dumps(config))
  (folder / "metrics.jsonl").write_text(
    "".join(
      json.dumps(
        {
          "step": i,
          "epoch": i,
          "train/accuracy": accuracy / 2,
          "validation/accuracy": accuracy,
          "train/loss": 3.0,
          "validation/loss": 1.0,
        }
      )
      + "\n"
      for i, accuracy in enumerate(accuracies, 1)
    )
  )
  (folder / "provenance.jsonl").write_text(
    json.dumps(
      {"step": 0, "command": "python train", "commit": "abc123", "hardware": "a core"}
    )
  )
  summary = made_up_run.summary([[2, 0], [1, 1]], class_names=("angry", "sad"))
  report = made_up_run.report_of(
    config,
    best_epoch=1,
    epochs_trained=len(accuracies),
    trained_by=[],
    official_splits={"validation": "", "test": "PrivateTest"},
    splits={"validation": summary, "test": summary},
  )
  (folder / "report.json").write_text(json.dumps(report))
  return str(folder)


def _given(workdirs):
  """The flags of a figure of runs."""
  return types.SimpleNamespace(workdir=workdirs)


def test_a_single_epoch_has_no_fractions(tmp_path, drawn):
  _write_run(tmp_path / "one", accuracies=[0.5])
  figures_of_runs.draw_curves(_given([tmp_path / "one"]), tmp_path / "curves.png")
  for axis in drawn["curves.png"].axes:
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == [1]


def test_curves_are_means_over_the_seeds_of_one_kind(tmp_path, drawn):
  workdirs = [
    _write_run(tmp_path / "a", accuracies=[0.2, 0.4, 0.6]),
    _write_run(tmp_path / "b", seed=1, accuracies=[0.4, 0.8]),
    _write_run(tmp_path / "c", loss="mam_softmax", accuracies=[0.5]),
    _write_run(tmp_path / "d", data_set="svhn", accuracies=[0.1, 0.3]),
  ]
  figures_of_runs.draw_curves(_given(workdirs), tmp_path / "curves.png")
  axes = drawn["curves.png"].axes
  assert len(axes) == 4
  train, validation, other_train, other = axes[0].get_lines()
  # Per cent, as far as both seeds go.
  np.testing.assert_allclose(validation.get_ydata(), [30, 60])
  np.testing.assert_allclose(train.get_ydata(), [15, 30])
  assert train.get_linestyle() == "--"
  assert other.get_ydata() == pytest.approx([50])
  assert other_train.get_color() == other.get_color() != train.get_color()
  np.testing.assert_allclose(axes[2].get_lines()[1].get_ydata(), [10, 30])
  names = [text.get_text() for text in axes[1].get_legend().get_texts()]
  assert names == ["net, cross_entropy, 2 seeds", "net, mam_softmax, seed 0"]
  text = (tmp_path / "curves.txt").read_text()
  assert "b: mnist, net, cross_entropy, seed 1, 2 epochs" in text
  assert "trained by: python train" in text
  assert "commit: abc123; hardware: a core" in text


def test_accuracies_alone_have_a_panel_for_each_split(tmp_path, drawn):
  workdir = _write_run(tmp_path / "a", accuracies=[0.2, 0.4])
  figures_of_runs.draw_curves(
    _given([workdir]), tmp_path / "curves.png", figures_of_runs.ACCURACIES
  )
  left, right = drawn["curves.png"].axes
  np.testing.assert_allclose(left.get_lines()[0].get_ydata(), [10, 20])
  np.testing.assert_allclose(right.get_lines()[0].get_ydata(), [20, 40])
  assert left.get_lines()[0].get_linestyle() == "-"
  # Training and validation are to be read off one scale.
  assert left.get_ylim() == right.get_ylim()
  assert "with augmentation" in drawn["curves.png"].get_supxlabel()


def test_recipes_of_one_name_are_told_by_their_folders(tmp_path, drawn):
  for i, accuracy in enumerate((0.2, 0.4, 0.6)):
    (tmp_path / str(i)).mkdir()
    folder = tmp_path / str(i) / "ce"
    _write_run(folder, accuracies=[accuracy], batch_size=i + 1)
  workdirs = [str(tmp_path / str(i) / "ce") for i in range(3)]
  figures_of_runs.draw_curves(_given(workdirs), tmp_path / "curves.png")
  lines = drawn["curves.png"].axes[0].get_lines()[1::2]
  assert [line.get_ydata().tolist() for line in lines] == [[20], [40], [60]]
  names = [
    text.get_text() for text in drawn["curves.png"].axes[1].get_legend().get_texts()
  ]
  assert names == [f"net, cross_entropy ({i}-ce), seed 0" for i in range(3)]


def test_what_is_no_mean_over_seeds_is_refused(tmp_path):
  one = _write_run(tmp_path / "a", accuracies=[0.2])
  with pytest.raises(ValueError, match="seed 0 twice"):
    figures_of_runs.draw_curves(_given([one, one]), tmp_path / "curves.png")
  other = _write_run(tmp_path / "b", seed=1, accuracies=[0.2])
  for i, folder in enumerate("ab"):
    content = json.dumps({"test": {"images_crc32": i}})
    (tmp_path / folder / "data.json").write_text(content)
  with pytest.raises(ValueError, match=r"b was trained on different data than .*a:"):
    figures_of_runs.draw_curves(_given([one, other]), tmp_path / "curves.png")


def test_no_run_takes_the_name_of_anothers_plot(tmp_path):
  for name in ("one", "two"):
    (tmp_path / name).mkdir()
  runs = [
    run_files.read_run(_write_run(tmp_path / path, accuracies=[0.2], **changes))
    for path, changes in (
      ("one/ce", {}),
      ("two/ce", {"batch_size": 7}),
      ("resnet", {"model": "resnet"}),
      ("fold", {"fold": 3}),
    )
  ]
  paths = figures.paths_of_runs(tmp_path / "matrix.png", runs)
  assert [path.name for path in paths] == [
    "matrix-mnist-net-cross_entropy-seed0-one-ce.png",
    "matrix-mnist-net-cross_entropy-seed0-two-ce.png",
    "matrix-mnist-resnet-cross_entropy-seed0.png",
    "matrix-mnist-fold3-net-cross_entropy-seed0.png",
  ]
  with pytest.raises(ValueError, match="resnet is given twice"):
    figures.paths_of_runs(tmp_path / "matrix.png", [runs[2], runs[2]])


def test_each_matrix_is_named_by_its_run(tmp_path, drawn):
  workdirs = [
    _write_run(tmp_path / "a", accuracies=[0.2]),
    _write_run(tmp_path / "b", loss="mam_softmax+sce_loss", seed=3, accuracies=[0.2]),
  ]
  figures_of_runs.draw_confusions(_given(workdirs), tmp_path / "matrix.png")
  assert [*drawn] == [
    "matrix-mnist-net-cross_entropy-seed0.png",
    "matrix-mnist-net-mam_softmax-sce_loss-seed3.png",
  ]
  title = (
    drawn["matrix-mnist-net-cross_entropy-seed0.png"]
    .axes[0]
    .get_title()
    .replace("\n", " ")
  )
  assert title == "mnist, PrivateTest: net, cross_entropy, seed 0, accuracy 75.00 %"
  assert (tmp_path / "matrix-mnist-net-cross_entropy-seed0.txt").exists()


def test_files_are_missed_before_a_run_is_embedded(tmp_path, monkeypatch):
  embedded = []
  monkeypatch.setattr(
    embedding_command, "embed_runs", lambda workdirs, **_: embedded.extend(workdirs)
  )
  for name in ("a", "unlogged"):
    _write_run(tmp_path / name, loss=name, accuracies=[0.2])
  (tmp_path / "unlogged/metrics.jsonl").unlink()
  for name, missing in (("unlogged", "metrics"), ("nowhere", "config")):
    given = types.SimpleNamespace(
      workdir=[str(tmp_path / "a"), str(tmp_path / name)],
      split="test",
      images=4,
      points=4,
      data_dir=None,
    )
    with pytest.raises(FileNotFoundError, match=rf"{name}/{missing}\.json"):
      figures_of_networks.draw_embeddings(given, tmp_path / "tsne.png")
  assert embedded == []


def test_embeddings_have_their_numbers_beside_them(tmp_path, drawn, monkeypatch):
  workdirs = [
    _write_run(tmp_path / "a", accuracies=[0.2]),
    _write_run(tmp_path / "b", loss="mam_softmax", accuracies=[0.2]),
  ]
  asked = []

  def embed_runs(workdirs, **arguments):
    asked.append(arguments)
    return [embed(workdir) for workdir in workdirs]

  def embed(workdir):
    config = json.loads((pathlib.Path(workdir) / "config.json").read_text())
    value = 0.25 if config["loss"]["name"] == "mam_softmax" else 0.5
    names = ("silhouette", "angle_to_own", "angle_to_other", "center_angle")
    record = {
      "settings": {
        "workdir": workdir,
        "data_set": "mnist",
        "split": "test",
        "official_split": "",
        "num_images": 4,
        "of": 9,
        "num_points": 4,
        "images_crc32": 1,
        "labels_crc32": 1,
        "training_seed": 0,
        "best_epoch": 1,
      },
      "name": f"net, {config['loss']['name']}",
      "class_names": ["angry", "sad"],
      "separation": dict.fromkeys(metrics_of(), value)
      | {"per_class": {"label": [0, 1], "count": [2, 2]} | {n: [0, 1] for n in names}},
      "projections": {"tsne": {"trustworthiness": 1.0, "center_distances": "NaN"}},
      "config": config,
    }
    points = np.arange(8.0).reshape(4, 2)
    return record, {
      "tsne": points,
      "labels": np.array([0, 0, 1, 1]),
      "drawn": np.arange(4),
    }

  def metrics_of():
    from emosynth_jax.analysis.embeddings.comparison import METRICS

    return METRICS

  monkeypatch.setattr(embedding_command, "embed_runs", embed_runs)
  given = types.SimpleNamespace(
    workdir=workdirs, split="test", images=4, points=4, data_dir="elsewhere"
  )
  figures_of_networks.draw_embeddings(given, tmp_path / "tsne.png")
  # All runs at once, so that all are read before the first is embedded.
  assert asked == [{"split": "test", "images": 4, "points": 4, "data_dir": "elsewhere"}]
  text = (tmp_path / "tsne.txt").read_text()
  assert "net, mam_softmax minus net, cross_entropy" in text
  assert "-0.2500" in text
  assert "commit: abc123" in text
  assert len(drawn["tsne.png"].axes) == 2


def test_a_curvature_map_of_one_point_is_refused(tmp_path):
  given = types.SimpleNamespace(grid=1)
  with pytest.raises(ValueError, match="expected at least 3 points per side, got 1"):
    figures_of_planes.draw_curvature(given, tmp_path / "map.png")
