"""From workdirs to embeddings, separation and paired differences; refusals."""

import json
import pathlib
import types

import numpy as np
import pytest
import tiny_network
import tiny_workdir
from PIL import Image
from sklearn import metrics

from emosynth_jax.analysis.embeddings import command as embedding_command
from emosynth_jax.analysis.embeddings import comparison as embedding_comparison
from emosynth_jax.analysis.embeddings import embeddings
from emosynth_jax.config import defaults
from emosynth_jax.utils import plotting

_CLASSES = ("angry", "$sad$", "fear")


def _flags(workdirs, **changes):
  given = {
    "workdir": [str(w) for w in workdirs],
    "split": "validation",
    "images": 40,
    "points": 30,
    "batch_size": 16,
    "perplexity": None,
    "seed": 0,
    "data_dir": None,
  }
  return types.SimpleNamespace(**given | changes)


def _dataset(seed):
  return tiny_workdir.dataset(50, seed=seed)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  tiny_workdir.install(monkeypatch, lambda config, split: _dataset(config.data.seed))


def _write_run(workdir, *, seed, loss, data_seed=0):
  config = defaults.get_default_config()
  config.model = {"name": "tiny", "features": 5, "dtype": "float32"}
  config.loss = {"name": loss}
  config.seed = seed
  config.data.seed = data_seed
  # Where the data lies makes no other kind of run.
  config.data.data_dir = f"data-{seed}"
  # Another network for each loss and seed.
  state = tiny_network.create_state(seed=seed + 10 * (loss != "cross_entropy"))
  data = {"validation": _dataset(data_seed)}
  return tiny_workdir.write(workdir, config, state, data)


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory, tiny_networks):
  """Cross-entropy with seeds 0 and 1, MAM-SoftMax with 1, 0 and 2; other data."""
  folders = [
    _write_run(tmp_path_factory.mktemp("run"), seed=seed, loss=loss)
    for loss, seeds in (("cross_entropy", (0, 1)), ("mam_softmax", (1, 0, 2)))
    for seed in seeds
  ]
  other = _write_run(
    tmp_path_factory.mktemp("other"), seed=3, loss="mam_softmax", data_seed=1
  )
  return folders, other


def test_runs_get_files_and_pairs_of_one_seed(workdirs, capsys, monkeypatch):
  folders = workdirs[0][:4]
  drawn, save = {}, plotting.save

  def kept(figure, path):
    drawn[path] = figure
    save(figure, path)

  monkeypatch.setattr(plotting, "save", kept)
  embedding_command.embed_all(_flags(folders))
  text = capsys.readouterr().out
  assert "validation (PublicTest), 40 of 50 images" in text
  assert "tiny, mam_softmax minus tiny, cross_entropy (other settings: loss." in text
  assert "paired by seeds 0, 1" in text
  scores = []
  for folder in folders:
    found = np.load(folder / "embeddings.npz")
    assert found["embeddings"].shape == (40, 5)
    dataset = _dataset(0)
    np.testing.assert_array_equal(found["labels"], dataset.labels[found["rows"]])
    assert found["tsne"].shape == found["pca"].shape == (30, 2)
    record = json.loads((folder / "separation.json").read_text())
    score = metrics.silhouette_score(found["embeddings"], found["labels"])
    assert record["separation"]["silhouette"] == pytest.approx(score, rel=1e-4)
    right = (found["logits"].argmax(-1) == found["labels"]).mean()
    assert record["separation"]["accuracy"] == pytest.approx(right)
    assert f"{right:.4f}" in (folder / "separation.txt").read_text()
    panels = drawn[folder / "embeddings.png"].axes
    for panel, method in zip(panels, ("tsne", "pca"), strict=True):
      places = np.concatenate([c.get_offsets() for c in panel.collections])
      np.testing.assert_allclose(
        sorted(places.tolist()), sorted(found[method].tolist()), rtol=1e-6
      )
    scores.append(score)
  written = json.loads((folders[0] / "separation_comparison.json").read_text())
  difference = written["comparisons"][0]["figures"]["silhouette"]
  # Given in the order of seeds 0, 1 and 1, 0.
  pairs = [scores[3] - scores[0], scores[2] - scores[1]]
  assert difference["mean"] == pytest.approx(np.mean(pairs), rel=1e-3)
  assert difference["low"] < difference["mean"] < difference["high"]
  with Image.open(folders[0] / "embeddings_comparison.png") as image:
    assert image.height > 1000  # A row for each seed.


def test_all_images_and_the_rest_of_the_splits(workdirs):
  ((_, arrays),) = embedding_command.embed_runs(workdirs[0][:1], images=0, points=0)
  np.testing.assert_array_equal(arrays["rows"], np.arange(50))
  np.testing.assert_array_equal(arrays["drawn"], np.arange(50))
  with pytest.raises(ValueError, match=r"got 'nope'"):
    embedding_command.embed_runs(workdirs[0][:1], split="nope")
  with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
    embedding_command.embed_runs([pathlib.Path(workdirs[0][0]) / "none"])


def _record(
  seed, loss, silhouette=0.5, crc=7, labels=7, class_names=("a", "b"), **config
):
  return {
    "settings": {"workdir": f"{loss}-{seed}", "training_seed": seed, "split": "test"}
    | {"images_crc32": crc, "labels_crc32": labels},
    "class_names": list(class_names),
    "name": f"net, {loss}",
    "config": {"seed": seed, "loss": {"name": loss}, "data": {"name": "x"}} | config,
    "separation": dict.fromkeys(embedding_comparison.METRICS, silhouette),
  }


def test_one_pair_has_no_interval_and_none_is_said():
  records = [_record(0, "ce"), _record(0, "mam", 0.75), _record(4, "arc")]
  pair, none = embedding_comparison.compare(records)
  assert pair["seeds"] == [0]
  assert pair["differs_in"] == ["loss.name"]
  assert pair["figures"]["silhouette"]["mean"] == 0.25
  assert none["seeds"] == []
  text = embedding_comparison.format_comparison([pair, none])
  assert "+0.2500" in text
  assert "One pair: no interval" in text
  assert "no common seed" in text


def test_a_seed_twice_and_other_images_are_refused():
  with pytest.raises(ValueError, match=r"ce-0 and ce-0 have equal configs.*seed 0"):
    embedding_comparison.group_runs([_record(0, "ce"), _record(0, "ce")])
  with pytest.raises(ValueError, match=r"mam-0 has different images in its test split"):
    embedding_comparison.group_runs([_record(0, "ce"), _record(0, "mam", crc=8)])
  with pytest.raises(ValueError, match=r"mam-0 has different labels in its test split"):
    embedding_comparison.group_runs([_record(0, "ce"), _record(0, "mam", labels=8)])
  with pytest.raises(ValueError, match=r"mam-0 has the classes b, a, ce-0 has a, b"):
    embedding_comparison.group_runs(
      [_record(0, "ce"), _record(0, "mam", class_names=("b", "a"))]
    )
  # Another recipe is another kind, though its name be the same.
  kinds = embedding_comparison.group_runs(
    [_record(0, "ce"), _record(0, "ce", epochs=3)]
  )
  assert kinds == [[0], [1]]


def _refuse_to_compute(*args, **kwargs):
  raise InterruptedError


def test_runs_on_other_data_are_refused_before_anything_is_computed(
  workdirs, monkeypatch
):
  monkeypatch.setattr(embeddings, "compute_embeddings", _refuse_to_compute)
  folder, other = workdirs[0][4], workdirs[1]
  with pytest.raises(ValueError, match="so that nothing can be compared"):
    embedding_command.embed_all(_flags([folder, other]))
  with pytest.raises(InterruptedError):
    embedding_command.embed_all(_flags([folder]))
  assert not (folder / "embeddings.npz").exists()


def test_a_run_is_not_compared_with_itself(workdirs, monkeypatch):
  monkeypatch.setattr(embeddings, "compute_embeddings", _refuse_to_compute)
  folder = workdirs[0][0]
  with pytest.raises(ValueError, match=f"--workdir: {folder.resolve()} is given twice"):
    embedding_command.embed_all(_flags([folder, f"{folder}/."]))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"perplexity": 30.0}, r"perplexity: expected a number in \(0, 30\).*got 30"),
    ({"perplexity": -1.0}, "got -1"),
    ({"points": 2}, "points: expected at least 3 to place, got 2"),
    ({"images": 2}, "points: expected at least 3 to place, got 2"),
  ],
)
def test_points_and_perplexity_are_looked_at_first(
  workdirs, monkeypatch, changes, message
):
  monkeypatch.setattr(embeddings, "compute_embeddings", _refuse_to_compute)
  with pytest.raises(ValueError, match=message):
    embedding_command.embed_all(_flags(workdirs[0][:1], **changes))
