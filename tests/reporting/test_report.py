"""The page of a run, from its workdir to HTML: what it says, escapes and refuses."""

import base64
import io
import pathlib
import re
import shutil
import types

import html_rules
import jax
import jax.numpy as jnp
import made_up_run
import numpy as np
import pytest
import tiny_network
from PIL import Image

from emosynth_jax import default_config, experiment, metrics, models, report, run_config
from emosynth_jax.analysis import gradcam
from emosynth_jax.checkpoints import Checkpoints
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.reporting import answers, page

_TOTAL = 24
_FILE = '"><img src=x onerror=alert(1)>/{}.png'


def _dataset():
  rng = np.random.default_rng(3)
  # Of different brightness, which is what a mean over the pixels sees.
  images = rng.integers(0, 256, (_TOTAL, 8, 8, 1)) * rng.random((_TOTAL, 1, 1, 1))
  return Dataset(
    images=images.astype(np.uint8),
    labels=rng.integers(0, 3, _TOTAL).astype(np.int32),
    class_names=made_up_run.CLASSES,
    split="test",
    sources=tuple(_FILE.format(i) for i in range(_TOTAL)),
    official_split="PrivateTest",
  )


def _load_data(config, splits, **_):
  return {split: _dataset() for split in splits}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch):
  monkeypatch.setitem(models.MODELS, "tiny_maps", tiny_network.TinyMaps)
  monkeypatch.setattr(experiment, "load_data", _load_data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A workdir, its variables, and the probabilities of its images."""
  workdir = tmp_path_factory.mktemp("run")
  config = default_config.get_default_config()
  config.model = {"name": "tiny_maps", "dtype": "float32"}
  dataset = _dataset()
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(models.MODELS, "tiny_maps", tiny_network.TinyMaps)
    built = experiment.build_experiment(config, image_shape=(8, 8, 1), num_classes=3)
    state = experiment.create_state(built, 5)
  state = state.replace(best_epoch=jnp.int32(2))
  run_config.keep_config(config, workdir)
  checkpoints = Checkpoints(workdir, keep=1)
  checkpoints.save("best", state)
  checkpoints.close()
  inputs = dataset.images.astype(np.float32) * np.float32(state.input_scale)
  logits, _ = jax.jit(lambda v, x: tiny_network.TinyMaps(3).apply(v, x, train=False))(
    state.variables, inputs
  )
  statistics = jax.jit(lambda x, y: metrics.batch_statistics(x, y, None, 3))(
    logits, dataset.labels
  )
  made_up_run.write_run(
    workdir,
    test=metrics.summarize(statistics, made_up_run.CLASSES),
    config={"model": config.model},
  )
  (workdir / "data.json").unlink()  # of made-up images
  shares = np.exp(np.asarray(logits, np.float64))
  return workdir, state, shares / shares.sum(axis=1, keepdims=True)


def _flags(*workdirs, **changes):
  given = {
    "workdir": [str(workdir) for workdir in workdirs],
    "output": None,
    "audit": None,
    "images": True,
    "mistakes": 5,
    "embedded": 0,
    "layer": None,
    "batch_size": 10,
    "data_dir": None,
  }
  return types.SimpleNamespace(**given | changes)


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
  """The page of the run with its audit, as text."""
  workdir = run[0]
  folder = tmp_path_factory.mktemp("page")
  read = report.write_page(_flags(workdir, images=False, output=folder / "x.html"))
  assert read == folder / "x.html"
  made_up_run.write_audit(folder, made_up_run.json_of(workdir / "report.json"))
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(models.MODELS, "tiny_maps", tiny_network.TinyMaps)
    patch.setattr(experiment, "load_data", _load_data)
    file = report.write_page(
      _flags(workdir, audit=folder, output=folder / "new" / "report.html")
    )
  return file.read_text()


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
  assert "nothing is known of the spread over seeds" in written


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
  found = answers.compute_answers(workdir, "test", data_dir=None, batch_size=7)
  np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-6)
  rows = [4, 1, 17]
  cam = answers.grad_cam(found, rows, layer=None, batch_size=2)
  assert (cam.layer, cam.shape) == ("maps", (8, 8, 4))
  inputs = _dataset().images[rows] * np.float32(state.input_scale)
  expected = jax.jit(
    lambda v, x: (
      gradcam.grad_cam(
        gradcam.flax_apply_fn(tiny_network.TinyMaps(3)), v, x, layer="maps"
      ).maps
    )
  )(state.variables, inputs)
  np.testing.assert_allclose(cam.maps, expected, rtol=1e-4, atol=1e-6)
  with pytest.raises(ValueError, match=r"--layer: got 'nope'; tiny_maps has"):
    answers.grad_cam(found, rows, layer="nope", batch_size=2)


def test_the_embedding_has_all_images_and_its_numbers(written):
  root = html_rules.parse(written)
  (every,) = [e for e in root.iter() if e.get("id") == "embedding-all"]
  assert every.get("d").count("h0") == _TOTAL
  _, text = _images(written, "embedding")
  assert "The 4 features before the last layer, of 24 images" in text
  for figure in ("silhouette", "angle to the own class", "angular margin"):
    assert figure in text


def test_the_audit_and_what_was_not_run_are_told(written):
  _, data = _images(written, "data")
  assert "6 groups of twins (13 images)" in data
  assert "Accuracy without the images that have a twin in another split was not" in data
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
  assert "The network itself: hardest images, Grad-CAM, embedding" in text
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
  assert f"not quite the report&#39;s: {page.percent(accuracy)}" in text
  made_up_run.write_json(workdir / "report.json", told | {"best_epoch": 1})
  with pytest.raises(
    ValueError, match=r"is of epoch 1, the best checkpoint of epoch 2"
  ):
    report.write_page(_flags(workdir))


def test_pictures_of_the_loss_surface_are_those_of_the_epoch(run, tmp_path):
  workdir = tmp_path / "copy"
  shutil.copytree(run[0], workdir)
  settings = {
    "best_epoch": 2,
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


def test_the_page_fits_a_phone_and_asks_for_nothing(written, tmp_path):
  browser_path = shutil.which("chromium") or shutil.which("google-chrome")
  sync_api = pytest.importorskip(
    "playwright.sync_api", reason="no playwright to drive a browser"
  )
  if browser_path is None:
    pytest.skip("no Chromium on this machine")
  file = pathlib.Path(tmp_path / "page.html")
  file.write_text(written)
  asked, said = [], []
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(
      executable_path=browser_path, args=["--no-sandbox"]
    )
    view = browser.new_page(viewport={"width": 360, "height": 740})
    view.on("request", lambda request: asked.append(request.url))
    view.on("console", lambda message: said.append(message.text))
    view.goto(file.as_uri())
    width = view.evaluate("document.documentElement.scrollWidth")
    view.click("table[data-sort] th:nth-child(3) button")
    recalls = view.evaluate(
      "[...document.querySelectorAll('table[data-sort] tbody tr')]"
      ".map(row => Number(row.cells[2].dataset.value))"
    )
    browser.close()
  assert width <= 360
  assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
  assert said == []
  assert recalls == sorted(recalls, reverse=True)
