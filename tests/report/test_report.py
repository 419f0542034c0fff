"""The page of a run, from its workdir to HTML: what it says, escapes and refuses."""

import base64
import io
import re
import shutil
import types

import html_rules
import jax
import made_up_run
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import tiny_network
import tiny_run
from PIL import Image

from emosynth_jax.analysis.gradcam import grad_cam
from emosynth_jax.report import paired_images, predictions, render, report
from emosynth_jax.workdir import digests

_TOTAL = tiny_run.TOTAL
_dataset = tiny_run.dataset
_flags = tiny_run.flags_of


@pytest.fixture(autouse=True)
def _tiny():
  with tiny_run.installed():
    yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A workdir, its state, and the probabilities of its images."""
  workdir = tmp_path_factory.mktemp("run")
  return workdir, *tiny_run.write(workdir)


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
  """The page of the run with its audit, as text."""
  folder = tmp_path_factory.mktemp("page")
  read = report.write_page(_flags(run[0], images=False, output=folder / "x.html"))
  assert read == folder / "x.html"
  return tiny_run.write_page(run[0], folder).read_text()


def test_the_page_keeps_to_the_rules(written):
  root = html_rules.check(written)
  sections = [e.get("id") for e in root.iter("section")]
  # What belongs to the figure comes first.
  assert sections[0] == "protocol"
  assert {"mistakes", "grad-cam", "embedding", "data", "not-run"} <= set(sections)
  linked = [e.get("href") for e in root.find("body/nav").iter("a")]
  assert linked == [f"#{section}" for section in sections]


def test_text_of_configs_classes_and_files_stays_text(written):
  root = html_rules.check(written)
  text = html_rules.text_of(root.find("body"))
  assert "</style><script>alert(1)</script>" in text
  assert "<b>sad</b>" in text
  assert 'fear & "x"' in text
  assert "onerror=alert(1)>" in text
  assert "--note='<i>&'" in text
  assert "<script>alert" not in written
  assert "onerror=alert(1)>" not in written


def test_the_headline_has_its_split_seed_and_interval(written, run):
  header = html_rules.text_of(html_rules.parse(written).find("body/header"))
  dataset, probabilities = _dataset(), run[2]
  accuracy = (probabilities.argmax(1) == dataset.labels).mean()
  assert f"{100 * accuracy:.2f}" in header
  assert "test (PrivateTest), 24 images" in header
  assert "Seed 0, one run" in header
  assert "the variation over seeds is unknown" in written


def _images(written, section):
  root = html_rules.parse(written)
  (found,) = [e for e in root.iter("section") if e.get("id") == section]
  return list(found.iter("img")), html_rules.text_of(found)


def _rows(images):
  return [int(re.match(r"Image (\d+),", image.get("alt"))[1]) for image in images]


def _pixels(image):
  content = base64.b64decode(image.get("src").partition("base64,")[2])
  return np.asarray(Image.open(io.BytesIO(content)))


def test_mistakes_are_ranked_by_confidence_and_shown(written, run):
  labels, probabilities = _dataset().labels, run[2]
  predicted = probabilities.argmax(1)
  wrong = [i for i in range(_TOTAL) if predicted[i] != labels[i]]
  worst = sorted(wrong, key=lambda i: -probabilities[i].max())[:5]
  hardest = []
  for k in range(3):
    own = [i for i in range(_TOTAL) if labels[i] == k]
    hardest += sorted(own, key=lambda i: probabilities[i, k])[:2]
  images, text = _images(written, "mistakes")
  assert len(worst) == 5
  assert _rows(images) == worst + hardest
  assert f"{len(wrong)} of 24 images" in text
  name, share = made_up_run.CLASSES[predicted[worst[0]]], probabilities[worst[0]].max()
  assert f"{name} {100 * share:.1f}" in text.replace("\u00a0", " ")
  shown = _pixels(images[0])
  # Enlarged, so that no browser has to: the mean stays.
  assert shown.shape == (96, 96)
  assert shown.mean() == pytest.approx(_dataset().images[worst[0]].mean(), abs=2)


def test_examples_of_grad_cam_are_right_and_wrong_ones(written, run):
  labels, predicted = _dataset().labels, run[2].argmax(1)
  images, text = _images(written, "grad-cam")
  rows = _rows([image for image in images if image.get("alt").startswith("Image")])
  assert len(rows) == len(images) / 2
  for k, name in enumerate(made_up_run.CLASSES):
    assert name in text
    right = (labels == k) & (predicted == k)
    wrong = (labels == k) & (predicted != k)
    assert sum(right[rows]) == right.any()
    assert sum(wrong[rows]) == wrong.any()


def test_maps_are_those_of_the_predicted_class(run):
  workdir, state, probabilities = run
  found = predictions.compute_answers(workdir, "test", data_dir=None, batch_size=7)
  np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-6)
  rows = [4, 1, 17]
  cam = predictions.grad_cam(found, rows, layer=None, batch_size=2)
  assert (cam.layer, cam.shape) == ("maps", (8, 8, 4))
  inputs = _dataset().images[rows] * np.float32(state.input_scale)
  expected = jax.jit(
    lambda v, x: (
      grad_cam.grad_cam(
        grad_cam.flax_apply_fn(tiny_network.TinyMaps(3)), v, x, layer="maps"
      ).maps
    )
  )(state.variables, inputs)
  np.testing.assert_allclose(cam.maps, expected, rtol=1e-4, atol=1e-6)
  with pytest.raises(ValueError, match=r"--layer: got 'nope'; tiny_maps has"):
    predictions.grad_cam(found, rows, layer="nope", batch_size=2)


def test_the_embedding_has_all_images_and_its_numbers(written):
  root = html_rules.parse(written)
  (every,) = [e for e in root.iter() if e.get("id") == "embedding-all"]
  assert every.get("d").count("h0") == _TOTAL
  _, text = _images(written, "embedding")
  assert "The 4 features before the last layer, of 24 images" in text
  for figure in ("silhouette", "angle to own class mean", "angular margin"):
    assert figure in text


def test_numbers_are_of_the_whole_split_whatever_is_drawn(run, tmp_path, written):
  given = _flags(run[0], embedded=7, output=tmp_path / "x.html")
  few = report.write_page(given).read_text()
  (every,) = [e for e in html_rules.parse(few).iter() if e.get("id") == "embedding-all"]
  assert every.get("d").count("h0") == 7
  _, text = _images(few, "embedding")
  assert "of 24 images of test (PrivateTest); 7 of them, sampled at random" in text

  def numbers(html):
    (table,) = [
      table
      for table in html_rules.parse(html).iter("table")
      if "Separation" in html_rules.text_of(table)
    ]
    rows = [html_rules.text_of(row) for row in table.iter("tr")]
    return [row for row in rows if not row.startswith("projection:")]

  assert numbers(few) == numbers(written)
  found = predictions.compute_answers(run[0], "test", data_dir=None, batch_size=7)
  expected = sklearn.metrics.silhouette_score(found.embeddings, _dataset().labels)
  silhouette = f"{expected:.3f}".replace("-", "\u2212")
  assert f"silhouette{silhouette}" in numbers(few)


def test_the_audit_and_what_was_not_run_are_told(written):
  _, data = _images(written, "data")
  assert "6 groups of duplicates of any kind (13 images)" in data
  assert "in another split, was not computed" in data
  _, not_run = _images(written, "not-run")
  assert "Loss landscape" in not_run
  assert "Other seeds" in not_run
  assert "Audit" not in not_run


def test_without_images_the_files_are_enough(run, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(run[0], workdir, ignore=shutil.ignore_patterns("checkpoints"))
  file = report.write_page(_flags(workdir, images=False))
  assert file == workdir / "report.html"
  text = html_rules.text_of(html_rules.check(file.read_text()))
  assert "Hardest images, Grad-CAM, embedding" in text
  assert "Under the votes" not in text
  with pytest.raises(FileNotFoundError, match="no best checkpoint"):
    report.write_page(_flags(workdir))


def test_answers_of_another_epoch_are_refused_and_others_said(run, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(run[0], workdir)
  told = made_up_run.json_of(workdir / "report.json")
  # As many, but another one: as if rounding had changed a prediction.
  (row,) = told["splits"]["test"]["confusion_matrix"][:1]
  place = next(j for j, count in enumerate(row) if count)
  row[place], row[place - 1] = row[place] - 1, row[place - 1] + 1
  made_up_run.write_json(workdir / "report.json", told)
  text = report.write_page(_flags(workdir)).read_text()
  accuracy = (run[2].argmax(1) == _dataset().labels).mean()
  assert f"their accuracy is {render.percent(accuracy)}" in text
  made_up_run.write_json(workdir / "report.json", told | {"best_epoch": 1})
  with pytest.raises(
    ValueError, match=r"is of epoch 1, the best checkpoint of epoch 2"
  ):
    report.write_page(_flags(workdir))


def test_plots_of_the_loss_surface_are_those_of_the_epoch(run, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(run[0], workdir)
  state, config = run[1], made_up_run.json_of(workdir / "report.json")["config"]
  settings = {
    "best_epoch": 2,
    "model": "tiny_maps",
    "training_loss": config["loss"],
    "training_seed": 0,
    "variables_crc32": digests.checksum(state.evaluation_variables),
    "num_images": 64,
    "official_split": "",
    "split": "train",
    "batch_norm": "running",
    "seed": 0,
  }
  made_up_run.write_json(workdir / "curvature.json", {"settings": settings})
  other = settings | {"best_epoch": 1}
  made_up_run.write_json(workdir / "loss_landscape.json", {"settings": other})
  for name in ("curvature", "loss_landscape_contour"):
    Image.new("RGB", (30, 20)).save(workdir / f"{name}.png")
  text = report.write_page(_flags(workdir, images=False)).read_text()
  images, said = _images(text, "stored")
  assert [image.get("alt") for image in images] == ["Spectrum of the Hessian"]
  assert "loss_landscape.json is of epoch 1" in said
  # The network that is read has other parameters than another training's.
  for change, number in ((0, 1), (1, 0)):
    own = settings | {"variables_crc32": settings["variables_crc32"] + change}
    made_up_run.write_json(workdir / "curvature.json", {"settings": own})
    images, said = _images(report.write_page(_flags(workdir)).read_text(), "stored")
    assert len(images) == number
    assert ("curvature.json is of other parameters" in said) == bool(change)
  made_up_run.write_json(workdir / "curvature.json", {})
  with pytest.raises(ValueError, match=r"curvature\.json is damaged"):
    report.write_page(_flags(workdir, images=False))


def test_several_workdirs_are_compared(run, tmp_path):
  workdirs = [tmp_path / "a", tmp_path / "b"]
  for workdir, loss in zip(workdirs, ("mse", "cross_entropy"), strict=True):
    made_up_run.write_run(workdir, loss=loss)
  file = report.write_page(_flags(*workdirs))
  assert file == workdirs[0] / "comparison.html"
  text = html_rules.text_of(html_rules.check(file.read_text()))
  assert "mse against cross_entropy" in text


def test_flags_that_several_runs_take_no_notice_of_are_refused(tmp_path):
  workdirs = [tmp_path / "a", tmp_path / "b"]
  for workdir, loss in zip(workdirs, ("mse", "cross_entropy"), strict=True):
    made_up_run.write_run(workdir, loss=loss)
  given = _flags(*workdirs, audit="x", images=False, layer="y", embedded=0)
  with pytest.raises(
    ValueError, match=r"^--audit, --noimages, --embedded, --layer: no effect"
  ):
    report.write_page(given)
  for name, value in (("mistakes", 1), ("data_dir", "x"), ("batch_size", 2)):
    with pytest.raises(ValueError, match=f"^--{name}: no effect on a page of 2"):
      report.write_page(_flags(*workdirs, **{name: value}))
  assert not (workdirs[0] / "comparison.html").exists()


def test_two_runs_are_tested_image_by_image(run, tmp_path, monkeypatch):
  workdirs = [tmp_path / "a", tmp_path / "b"]
  for workdir, loss in zip(workdirs, ("mse", "cross_entropy"), strict=True):
    made_up_run.write_run(workdir, loss=loss)
  labels = np.arange(12) % 3
  # The first is wrong on five images, the second on the last of these.
  wrong = {"a": [0, 1, 2, 3, 4], "b": [4]}

  def answers(workdir, split, *, data_dir, batch_size):
    guess = labels.copy()
    guess[wrong[workdir.name]] += 1
    dataset = types.SimpleNamespace(
      images=np.zeros((12, 4, 4, 1), np.uint8), labels=labels, class_names=("a", "b")
    )
    network = types.SimpleNamespace(dataset=dataset)
    return predictions.Answers(network, np.zeros((12, 1)), np.eye(4)[guess])

  monkeypatch.setattr(predictions, "compute_answers", answers)
  given = _flags(*workdirs, paired=True, batch_size=2, data_dir="x")
  html = report.write_page(given).read_text()
  text = html_rules.text_of(html_rules.check(html))
  assert "on the same 12 images" in text
  # Four coins that all fall alike: 2 / 2^4, of which the page has two digits.
  assert "<td>4</td><td>0</td><td>0.12</td>" in html
  found = paired_images.compare(
    *(answers(w, "test", data_dir=None, batch_size=1) for w in reversed(workdirs))
  )
  assert (found["only_ours"], found["only_baseline"]) == (4, 0)
  assert found["difference"] == pytest.approx(4 / 12)
  assert found["p_value"] == pytest.approx(scipy.stats.binomtest(4, 4).pvalue)


def test_image_by_image_takes_two_runs_on_the_same_images(run, tmp_path):
  with pytest.raises(ValueError, match="--paired: expected two runs, got 1"):
    report.write_page(_flags(run[0], paired=True))
  labels = np.arange(3)
  several = []
  for value, classes in ((0, "abc"), (1, "abc"), (0, "abd")):
    dataset = types.SimpleNamespace(
      images=np.full((3, 4, 4, 1), value, np.uint8),
      labels=labels,
      class_names=tuple(classes),
    )
    network = types.SimpleNamespace(dataset=dataset)
    several.append(predictions.Answers(network, np.zeros((3, 1)), np.eye(3)))
  with pytest.raises(ValueError, match="other images or labels"):
    paired_images.compare(several[0], several[1])
  with pytest.raises(ValueError, match="other classes"):
    paired_images.compare(several[0], several[2])
