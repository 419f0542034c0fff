"""docs/notebooks: every cell runs, on tiny data, and training is a stand-in."""

import dataclasses
import json
import pathlib
import shutil
import sys
import types

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats

import emosynth_jax as ej
from emosynth_jax import api
from emosynth_jax.config import defaults
from emosynth_jax.training import build
from emosynth_jax.workdir import own_parts
from tools import docs_text

_FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs/notebooks"
_NOTEBOOKS = sorted(_FOLDER.glob("*.ipynb"))
_NAMES = ("auditing_data", "first_training", "own_margin")


def _read(name):
  return json.loads((_FOLDER / f"{name}.ipynb").read_text())


def _run(name, folder, monkeypatch, **parameters):
  """Runs a notebook's cells in an empty folder; returns its variables."""
  monkeypatch.chdir(folder)
  monkeypatch.setattr(plt, "show", lambda: None)
  # Without a file, as a kernel's.
  module = types.ModuleType("a_notebook")
  monkeypatch.setitem(sys.modules, module.__name__, module)
  variables = vars(module)
  for cell in _read(name)["cells"]:
    if cell["cell_type"] == "code":
      exec("".join(cell["source"]), variables)
    if "parameters" in cell["metadata"].get("tags", ()):
      assert parameters.keys() <= variables.keys()
      variables.update(parameters)
  plt.close("all")
  return variables


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_networks):
  """A workdir of one epoch of a tiny network."""
  workdir = tmp_path_factory.mktemp("trained") / "run"
  config = ej.get_default_config()
  config.model = {"name": "tiny", "dtype": "float32"}
  config.num_epochs, config.batch_size = 1, 14
  config.data.options = {"num_examples": 14}
  return ej.train(config, workdir).workdir


def _check(config, workdir, **parts):
  """Checks the arguments of `ej.train` without a training."""
  config = api._with_parts(
    config, parts.get("loss"), parts.get("model"), parts.get("datasets")
  )
  defaults.check_config(config)
  build.check_parts(own_parts.of_run(config, workdir))


def test_the_first_training(trained, tmp_path, monkeypatch, capsys):
  def train(config, workdir):
    _check(config, workdir)
    assert config.data.options.num_examples == 14
    shutil.copytree(trained, workdir)
    run = ej.load(workdir)
    return dataclasses.replace(run, history=run.history * config.num_epochs)

  monkeypatch.setattr(ej, "train", train)
  found = _run("first_training", tmp_path, monkeypatch, NUM_IMAGES=14, NUM_EPOCHS=2)
  assert len(found["run"].history) == 2
  assert found["predicted"].shape == found["test"].labels.shape
  printed = capsys.readouterr().out
  assert "balanced accuracy" in printed
  assert printed.count("predicted") == 7


def test_ones_own_margin(tmp_path, monkeypatch, capsys):
  # Test images that a loss's network gets wrong, whatever the seed.
  errors = {None: [0, 1, 2, 3], "margin": [3, 4]}
  accuracies = {None: [0.5, 0.6, 0.7], "margin": [0.52, 0.63, 0.76]}

  def train(config, workdir, *, loss, model, datasets):
    _check(config, workdir, loss=loss, model=model, datasets=datasets)
    test = datasets["test"]
    network = model(len(test.class_names))
    (logits, out), _ = jax.eval_shape(
      lambda x: network.init_with_output(jax.random.key(0), x, train=False),
      jnp.asarray(test.images, jnp.float32),
    )
    assert logits.shape == (len(test), 10)
    assert out["pre_logits"].shape == (len(test), 32)
    if loss is not None:
      assert jax.eval_shape(loss, logits, test.labels).shape == (len(test),)
    kind = None if loss is None else "margin"
    answers = test.labels.copy()
    answers[errors[kind]] += 1
    summary = {"accuracy": accuracies[kind][config.seed]}
    return types.SimpleNamespace(
      report={"splits": {"test": summary}}, logits=lambda _: np.eye(11)[answers]
    )

  monkeypatch.setattr(ej, "train", train)
  found = _run(
    "own_margin", tmp_path, monkeypatch, SEEDS=(0, 1, 2), NUM_IMAGES=60, NUM_EPOCHS=1
  )
  expected = scipy.stats.ttest_rel(accuracies["margin"], accuracies[None])
  paired = found["paired"]
  assert paired["p_value"] == pytest.approx(expected.pvalue)
  interval = expected.confidence_interval()
  assert (paired["low"], paired["high"]) == pytest.approx(tuple(interval))
  # By hand: images 0, 1 and 2, and image 4. 2 (1 + 4) / 16 for at most 1 of 4.
  assert "{'only_ours': 3, 'only_baseline': 1, 'p_value': 0.625}" in (
    capsys.readouterr().out
  )


def test_the_audit_finds_what_is_planted(tmp_path, monkeypatch, capsys):
  found = _run("auditing_data", tmp_path, monkeypatch, NUM_IMAGES=70)
  groups = [
    {member["source"] for member in group} for group in found["report"]["groups"]
  ]
  names = found["names"]
  for row, planted in enumerate(
    [
      f"test/{names[0]}/copy.png",
      f"test/{names[1]}/mirrored.png",
      f"test/{names[2]}/compressed.jpg",
      f"test/{names[3]}/brighter.png",
    ]
  ):
    original = f"train/{names[row]}/{row:04d}.png"
    assert any({planted, original} <= group for group in groups), planted
  assert found["report"]["label_conflicts"]["exact"] == {"groups": 2, "images": 4}
  blank = found["report"]["splits"]["train"]["blank_images"]
  assert blank == [f"train/{names[6]}/blank.png"]
  # At least the originals of the four copies in test.
  assert found["removed"] >= 4
  assert "damaged.png: cannot decode" in capsys.readouterr().out


@pytest.mark.parametrize("name", _NAMES)
def test_outputs_are_stored_without_errors_or_paths(name):
  assert [path.stem for path in _NOTEBOOKS] == list(_NAMES)
  notebook = _read(name)
  outputs = [
    output
    for cell in notebook["cells"]
    if cell["cell_type"] == "code"
    for output in cell["outputs"]
  ]
  assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
  assert {output["output_type"] for output in outputs} <= {
    "display_data",
    "execute_result",
    "stream",
  }
  text = json.dumps(notebook)
  assert len(text) < 400_000
  for folder in ("/tmp", "/home", "/root", "/usr"):
    assert folder not in text


def test_a_notebook_becomes_a_page_with_its_outputs():
  cells = [
    {"cell_type": "markdown", "source": ["# Title\n", "\n", "Text."]},
    {
      "cell_type": "code",
      "source": ["x = 1\n", "x"],
      "outputs": [
        {"output_type": "stream", "text": ["said\n"]},
        {"output_type": "execute_result", "data": {"text/plain": ["1"]}},
        {
          "output_type": "display_data",
          "data": {"image/png": "UE5H\n", "text/plain": ["<Figure>"]},
        },
      ],
    },
  ]
  text, plots = docs_text.notebook_to_markdown({"cells": cells}, "name")
  assert plots == {"name-0.png": b"PNG"}
  assert text == (
    '# Title\n\n<a href="name.ipynb" download>Download this notebook</a>\n\nText.\n\n'
    "```python\nx = 1\nx\n```\n\n```text\nsaid\n```\n\n```text\n1\n```\n\n"
    "![Output of the cell above](name-0.png)\n"
  )
