"""README and docs: links, snippets, outputs and generated parts."""

import ast
import functools
import importlib
import io
import json
import pathlib
import re
import shlex
import types

import commands
import cv2
import jax
import numpy as np
import pytest

import emosynth_jax as ej
from emosynth_jax import console, losses, models
from emosynth_jax.config import defaults
from emosynth_jax.data.datasets import synthetic_faces
from emosynth_jax.predict import media, output, predictor, sources
from emosynth_jax.training import epoch
from tools import docs_text, reference

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_PAGES = sorted(
  [
    *_ROOT.glob("*.md"),
    *(_ROOT / "docs").rglob("*.md"),
    _ROOT / "experiments/README.md",
  ]
)
# Pages whose Python has a test of its own: tests/test_extend.py,
# tests/losses/test_by_name.py, tests/experiments/test_margin_ablation.py, and below:
# models.md needs a file of weights, sweeps.md an optional package.
_TESTED_ELSEWHERE = (
  *("ablations.md", "extend.md", "losses.md", "models.md", "sweeps.md"),
)


def _fences(page, *languages):
  """The code blocks of a page."""
  found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.M)
  return [code for language, code in found if language in languages]


def _slugs(page):
  """Anchors of a page's headings, as MkDocs makes them."""
  text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.M)
  titles = re.findall(r"^#+ (.*)$", text, re.M)
  plain = (re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles)
  return {re.sub(r"[-\s]+", "-", title) for title in plain}


def test_every_link_has_a_target():
  broken = []
  for page in _PAGES:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
      path, _, anchor = target.partition("#")
      if re.match(r"[a-z]+:", target):
        continue
      to = (page.parent / path).resolve() if path else page
      if not to.exists() or (anchor and anchor not in _slugs(to)):
        broken.append(f"{page.relative_to(_ROOT)}: {target}")
  assert not broken


def test_every_page_that_the_code_names_exists():
  named = {}
  for folder in ("emosynth_jax", "configs", "experiments", "benchmarks", "tools", "."):
    files = (_ROOT / folder).glob("*.*" if folder == "." else "**/*.py")
    for path in files:
      if path.suffix in (".py", ".md", ".cfg", ".toml"):
        for page in re.findall(r"docs/[\w/]+\.(?:md|svg|png)", path.read_text()):
          named[page] = path
  assert len(named) > 10
  assert {page for page in named if not (_ROOT / page).exists()} == set()


def test_every_page_is_in_the_navigation():
  text = (_ROOT / "mkdocs.yml").read_text()
  docs = _ROOT / "docs"
  pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")}
  # A notebook becomes a page.
  pages |= {f"notebooks/{path.stem}.md" for path in docs.glob("notebooks/*.ipynb")}
  assert pages == set(re.findall(r"[\w/]+\.md$", text, re.M))


def test_the_readme_is_short():
  assert len((_ROOT / "README.md").read_text().splitlines()) <= 110


@functools.cache
def _included(faces="none"):
  return predictor.Predictor(faces=faces)


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_prediction_is_as_shown(page, monkeypatch):
  monkeypatch.chdir(_ROOT)
  (shown,) = map(json.loads, _fences(_ROOT / page, "json"))
  (command,) = re.findall(r"predict (\S+) --faces=none", (_ROOT / page).read_text())
  (frame,) = media.read_all(sources.find([command]))
  file = io.StringIO()
  output.json_writer(file)(frame._replace(image=None), _included()(command))
  (face,), (expected,) = json.loads(file.getvalue())["faces"], shown["faces"]
  assert shown["source"] == command
  assert face.keys() == expected.keys()
  assert face["label"] == expected["label"] == "happy"
  assert face["probabilities"] == pytest.approx(expected["probabilities"], abs=2e-3)


def test_the_examples_face_is_a_synthetic_one():
  faces = synthetic_faces.load("", "test", num_examples=14)
  happy = np.flatnonzero(faces.labels == faces.class_names.index("happy"))[1]
  image = cv2.imread(str(_ROOT / "docs/images/face.png"), cv2.IMREAD_GRAYSCALE)
  np.testing.assert_array_equal(image, faces.images[happy, ..., 0])


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_an_epochs_line_is_as_shown(page, caplog):
  (shown,) = _fences(_ROOT / page, "text")
  record = {"epoch": 1, "learning_rate": 2e-3}
  record |= {
    f"{x}/{y}": 0.5 for x in ("train", "validation") for y in ("loss", "accuracy")
  }
  with caplog.at_level("INFO", logger="absl"):
    epoch.log(record, is_best=True)
  (line,) = (r.getMessage() for r in caplog.records if r.module == "epoch")

  def without_numbers(text):
    return re.sub(r"\d+(?:\.\d+)?(?:e-\d+)?", "N", text).strip()

  assert without_numbers(shown) == without_numbers(line)


@pytest.mark.parametrize(
  "page",
  [p for p in _PAGES if _fences(p, "python") and p.name not in _TESTED_ELSEWHERE],
  ids=lambda page: page.name,
)
def test_python_snippets_run(page, monkeypatch):
  monkeypatch.chdir(_ROOT)
  # Built first: it is a Predictor itself.
  included = _included()
  monkeypatch.setattr(predictor, "Predictor", lambda faces="none": included)
  names = {}
  for code in _fences(page, "python"):
    if "fastapi" not in code:  # The service needs an extra.
      exec(code, names)
  if "predictions" in names:
    assert names["predictions"][0].label == "happy"
  if "sharpened" in names:
    z, y = np.array([[1.0, -1.0, 0.5]], np.float32), np.array([2])
    expected = losses.cross_entropy(z / 0.5, y)
    np.testing.assert_allclose(names["sharpened"](z, y), expected, rtol=1e-6)


def test_the_snippet_of_the_models_page_runs():
  code = _fences(_ROOT / "docs/reference/models.md", "python")[0]
  names = {}

  def trace(key, images):
    # Traced and not compiled.
    names.update(key=key, images=images)
    exec(code, names)
    return names["logits"], names["out"]["pre_logits"]

  images = jax.ShapeDtypeStruct((2, 48, 48, 1), np.float32)
  logits, embeddings = jax.eval_shape(trace, jax.random.key(0), images)
  assert logits.shape == (2, 7)
  assert embeddings.shape == (2, 512)


def test_the_study_of_the_sweeps_page_finds_the_best_trial(monkeypatch, tmp_path):
  pytest.importorskip("optuna", reason="no Optuna: pip install -e '.[optuna]'")

  def train(config, workdir):
    defaults.check_config(config)
    assert not config.data.test_split
    accuracy = 1 - config.loss.margin
    report = {"splits": {"validation": {"accuracy": accuracy}}}
    return types.SimpleNamespace(report=report)

  monkeypatch.setattr(ej, "train", train)
  monkeypatch.chdir(tmp_path)
  (code,) = _fences(_ROOT / "docs/guides/sweeps.md", "python")
  for count in (20, 40):
    names = {}
    exec(code, names)
    # A second start continues the study.
    margins = [trial.params["margin"] for trial in names["study"].trials]
    assert len(margins) == count
    assert names["study"].best_params["margin"] == min(margins)


def _commands():
  """Module, arguments and page of each `python -m` line in a shell block."""
  found = []
  for page in _PAGES:
    for code in _fences(page, "sh"):
      code = re.sub(r"\\\n\s*", " ", code)
      for name, first in re.findall(r"for (\w+) in (\S+)", code):
        code = code.replace(f"${name}", first)
      for line in re.findall(r"python -m (.*)", code):
        if line.count('"') % 2:  # The end of a quoted command.
          line = line.rpartition('"')[0]
        words = shlex.split(line, comments=True)
        if words[0].partition(".")[0] in ("emosynth_jax", "experiments", "benchmarks"):
          found.append((words[0], words[1:], page.name))
  return found


@functools.cache
def _flags():
  """Names of the flags of each command."""
  # A figure's flags depend on its number.
  shown = {module for module, _, _ in _commands()} - {"experiments.figure"}
  installed = {module for module, _, _ in console.COMMANDS.values()}
  modules = sorted(shown | installed)
  listed = commands.run("-m", "tools.reference", "flags", *modules, check=True)
  return json.loads(listed.stdout)


def test_what_reads_a_run_can_be_told_to_trust_its_code():
  reads = ("bundle", "compare", "run", "runs", "workdir", "workdirs")
  known = {module: set(names) for module, names in _flags().items()}
  reading = {module for module, names in known.items() if names & set(reads)}
  assert {"emosynth_jax.main", "emosynth_jax.predict", "emosynth_jax.audit"} <= reading
  assert {m for m in reading if not {"trust", "traceback"} <= known[m]} == set()
  assert "trust" not in known["emosynth_jax.data.prepare"]


def test_commands_have_the_flags_that_are_shown():
  shown = [command for command in _commands() if command[0] != "experiments.figure"]
  assert len(shown) > 50
  known = _flags()
  unknown = []
  for module, arguments, page in shown:
    for argument in arguments:
      flag = re.match(r"--(\w+)", argument)
      names = {flag[1], flag[1].removeprefix("no")} if flag else set(known[module])
      if not names & set(known[module]):
        unknown.append((page, module, argument))
  assert not unknown


def _with_settings(arguments):
  """The config of a command line."""
  (file,) = [
    a.removeprefix("--config=") for a in arguments if a.startswith("--config=")
  ]
  name, _, variants = file.partition(":")
  module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
  config = module.get_config(variants or None)
  for argument in arguments:
    if match := re.fullmatch(r"--config\.([\w.]+)=(.*)", argument):
      path, text = match.groups()
      part, _, leaf = path.rpartition(".")
      try:
        value = ast.literal_eval(text)
      except (SyntaxError, ValueError):
        value = text
      section = defaults.get(config, part) if part else config
      with section.unlocked():
        section[leaf] = value
  return config


def test_configs_have_the_settings_that_are_shown():
  seen = 0
  for module, arguments, _ in _commands():
    # An evaluation reads the run's own config.
    has_config = "..." not in str(arguments) and "--mode=eval" not in arguments
    if module in ("emosynth_jax.main", "emosynth_jax.audit") and has_config:
      defaults.check_config(_with_settings(arguments))
      seen += 1
  assert seen > 15


def test_generated_parts_are_complete():
  flat = defaults.flatten(defaults.get_default_config().to_dict())
  assert {name for name in flat if f"| `{name}` |" not in reference.settings()} == set()
  for names, table in (
    (losses.LOSSES, reference.loss_table()),
    (models.MODELS, reference.model_table()),
  ):
    assert {name for name in names if f"| `{name}` |" not in table} == set()
  for page in ("settings", "losses", "models", "commands"):
    text = (_ROOT / f"docs/reference/{page}.md").read_text()
    (part,) = re.findall(r"<!-- generated: (\w+)", text)
    assert part in reference.PARTS


def test_docstrings_become_markdown():
  text = docs_text.to_markdown(
    "A loss.\n\n  loss = f(x)\n\nText.\n\nReturns:\n  Values: `(N,): x`, floating.\n\n"
    "References:\n  A, `Title\n  <https://a.example/b>`_, 2020\n"
  )
  assert "```python\nloss = f(x)\n```" in text
  assert "Values&#58; `(N,): x`, floating." in text
  assert "[Title](https://a.example/b)" in text


@pytest.mark.parametrize(
  ("text", "is_loaded"),
  [
    ('<script src="https://a.example/x.js">', True),
    ('<link rel="stylesheet" href="//a.example/x.css">', True),
    ("@import url(https://a.example/x.css);", True),
    ('<a href="https://a.example">a page</a>', False),
    ('<link rel="stylesheet" href="../x.css"><script src="x.js">', False),
  ],
)
def test_requests_to_other_hosts_are_found(text, is_loaded):
  assert (docs_text.find_external_request(text) is not None) == is_loaded
