"""All figures by one command: which there are, their runs, their page, what lacks."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import types

import commands
import html_rules
import pytest
import tiny_workdir

from emosynth_jax import train_loop as train_run
from emosynth_jax.training import epoch
from emosynth_jax.workdir import provenance
from experiments import all_figures
from experiments.figure import KINDS
from experiments.lib import comparison_rows, figures_page, thesis_figures
from experiments.lib.comparison_rows import Row
from experiments.lib.thesis_figures import Figure

_FACES = Row("tiny", "synthetic_faces")


@pytest.fixture
def tiny(tiny_networks, without_plots, monkeypatch):
  """Synthetic faces with a network that compiles fast, and one epoch."""
  tiny_workdir.shrink_recipe(monkeypatch, "synthetic_faces", data__limit=32)


def _flags(tmp_path, **changes):
  values = {
    "only": [],
    "scale": "small",
    "seeds": 1,
    "face_epochs": 0,
    "data_dir": str(tmp_path / "data"),
    "workdir": str(tmp_path / "runs"),
    "output": None,
  }
  return types.SimpleNamespace(**values | changes)


def _figures_are(monkeypatch, *figures):
  monkeypatch.setattr(thesis_figures, "figures_of", lambda *_: list(figures))


@pytest.mark.parametrize("scale", ["full", "small"])
def test_every_figure_of_the_thesis_is_there_once(scale):
  figures = thesis_figures.figures_of(scale)
  # Chapters 3, 4 and 5 of the thesis, without its drawings of networks.
  thesis = [f"3.{i}" for i in range(4, 12)]
  thesis += [f"4.{i}" for i in range(2, 7)] + [f"5.{i}" for i in range(1, 9)]
  assert [number for figure in figures for number in figure.numbers] == thesis
  assert {figure.kind for figure in figures} == set(KINDS)


@pytest.mark.parametrize("scale", ["full", "small"])
def test_every_run_of_a_figure_has_a_valid_config(scale):
  for figure in thesis_figures.figures_of(scale, face_epochs=2):
    for row in figure.rows:
      config = comparison_rows.build_config(row, 1, scale, None)
      assert config.data.name == row.data
      if row.data in ("fer2013", "raf_db", "ck_plus"):
        assert config.num_epochs == 2


@pytest.mark.parametrize(
  ("data", "expected"),
  [("fer2013", "there"), ("cifar10", "there/tfds"), ("ck_plus", "there")],
)
def test_data_sets_lie_in_one_folder_as_by_default(data, expected):
  assert all_figures.data_dir_of(Row("", data, "ce"), "there") == expected
  assert all_figures.data_dir_of(Row("", data, "ce"), None) is None


@pytest.mark.slow
def test_runs_are_trained_once_and_drawn(tiny, tmp_path, monkeypatch):
  curves = Figure(("3.5",), "curves", "Curves", [_FACES], every_seed=True)
  matrices = Figure(("3.6",), "confusions", "Matrices <of> faces", [_FACES])
  _figures_are(monkeypatch, curves, matrices)
  trained = []

  def train(config, workdir, real=train_run.train, **shared):
    trained.append(pathlib.Path(workdir).name)
    return real(config, workdir, **shared)

  monkeypatch.setattr(train_run, "train", train)
  given = _flags(tmp_path, seeds=2)
  records = all_figures.make_all(given)
  assert [record["state"] for record in records] == [all_figures.DRAWN] * 2, records
  assert trained == ["synthetic_faces-seed0", "synthetic_faces-seed1"]
  folder = tmp_path / "runs" / "figures"
  matrix = "figure_3_6-synthetic_faces-tiny-cross_entropy-seed0.png"
  assert records[0]["plots"] == ["figure_3_5.png"]
  # Of the first seed alone.
  assert records[1]["plots"] == [matrix]
  page = html_rules.check((folder / "index.html").read_text())
  images = [element.get("alt") for element in page.iter("img")]
  assert images == ["figure 3.5: Curves", "figure 3.6: Matrices <of> faces"]
  assert "trained by" in html_rules.text_of(page)
  # Again: nothing is trained, and a plot that lay there is not taken for a new one.
  (folder / "figure_3_6-mnist-old.png").write_bytes((folder / matrix).read_bytes())
  given.only = ["3.6"]
  (record,) = all_figures.make_all(given)
  assert record["plots"] == [matrix]
  assert len(trained) == 2
  # The page keeps what was not asked for this time.
  page = html_rules.check((folder / "index.html").read_text())
  assert len(list(page.iter("img"))) == 2


@pytest.mark.slow
def test_what_is_missing_or_fails_is_told_and_the_rest_goes_on(
  tiny, tmp_path, monkeypatch
):
  missing = Figure(("5.4",), "embeddings", "Faces", [Row("CE", "raf_db", "ce")])
  # It loads a run's network, which this process alone knows.
  failing = Figure(("5.8",), "saliency", "Maps", [_FACES])
  drawn = Figure(("3.5",), "curves", "Curves", [_FACES])
  _figures_are(monkeypatch, missing, failing, drawn)
  records = all_figures.make_all(_flags(tmp_path))
  states = [all_figures.NOT_RUN, all_figures.FAILED, all_figures.DRAWN]
  assert [record["state"] for record in records] == states
  assert records[0]["reason"].startswith(f"no RAF-DB at {tmp_path / 'data'}")
  assert "experiments.figure 5.8" in records[1]["reason"]
  assert records[1]["reason"].endswith("ended with exit code 1")
  page = html_rules.check((tmp_path / "runs" / "figures" / "index.html").read_text())
  text = html_rules.text_of(page)
  assert "Faces. Not run: no RAF-DB" in text
  assert "Maps. Failed:" in text


@pytest.mark.slow
def test_a_run_with_other_settings_fails_its_figure_alone(tiny, tmp_path, monkeypatch):
  folder = tmp_path / "runs" / "synthetic_faces-seed0"
  config = comparison_rows.build_config(_FACES, 0, "small", None)
  config.batch_size = 8
  train_run.train(config, folder)
  _figures_are(monkeypatch, Figure(("3.5",), "curves", "Curves", [_FACES]))
  (record,) = all_figures.make_all(_flags(tmp_path))
  assert record["state"] == all_figures.FAILED
  assert "batch_size" in record["reason"]


@pytest.mark.parametrize(
  "error",
  [epoch.NonFiniteError("the loss is nan"), RuntimeError("RESOURCE_EXHAUSTED: memory")],
)
def test_a_training_that_fails_is_told(tiny, tmp_path, monkeypatch, error):
  def train(config, workdir, **_):
    raise error

  monkeypatch.setattr(train_run, "train", train)
  _figures_are(monkeypatch, Figure(("3.5",), "curves", "Curves", [_FACES]))
  (record,) = all_figures.make_all(_flags(tmp_path))
  assert record["state"] == all_figures.FAILED
  assert record["reason"] == str(error)


def test_a_damaged_memory_of_the_figures_is_told(tmp_path):
  (tmp_path / "figures.json").write_text("{")
  with pytest.raises(ValueError, match=r"figures\.json is damaged .*: delete it"):
    all_figures.read_records(tmp_path)


def test_an_earlier_commands_record_is_read(tmp_path):
  (tmp_path / "figures.json").write_text('{"figure_3_5": {"pictures": ["a.png"]}}')
  assert all_figures.read_records(tmp_path) == {"figure_3_5": {"plots": ["a.png"]}}


def test_plots_that_are_gone_are_told(tmp_path):
  figure = Figure(("3.5",), "curves", "Curves")
  records = {"figure_3_5": {"state": "drawn", "plots": ["figure_3_5.png"]}}
  html = figures_page.build([figure], records, tmp_path, provenance.provenance())
  text = html_rules.text_of(html_rules.check(html))
  assert "Curves. Plotted, but its images are missing" in text


def test_the_command_says_what_is_not_run_and_why(tmp_path):
  done = commands.run(
    *("-m", "experiments.all_figures", "--scale=small", "--only=5.4,4.2"),
    *(f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'runs'}"),
  )
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert lines[0].startswith("figure 4.2: not run: no data set 'mnist' prepared")
  assert lines[1].startswith("figure 5.4: not run: no RAF-DB")
  records = json.loads((tmp_path / "runs/figures/figures.json").read_text())
  assert set(records) == {"figure_4_2", "figure_5_4"}


def test_the_command_ends_with_1_where_a_figure_failed():
  code = (
    "from emosynth_jax.utils import cli;"
    "from experiments import all_figures as command;"
    "records = [{'figure': 'figure 3.5', 'state': 'drawn', 'plots': ['a.png']},"
    " {'figure': 'figure 5.8', 'state': 'failed', 'reason': 'no memory'}];"
    "command.make_all = lambda given: records;"
    "cli.run(command.define_flags, command.report)"
  )
  done = commands.run("-c", code)
  assert done.returncode == 1
  assert done.stdout == "figure 3.5: drawn: a.png\nfigure 5.8: failed: no memory\n"
  assert done.stderr.splitlines()[-1] == "error: 1 failed: figure 5.8"


def test_a_plot_that_is_drawn_ends_with_the_command(tmp_path):
  drawing = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
  code = (
    "import pathlib, sys; from emosynth_jax.utils import cli;"
    "from experiments import all_figures; from experiments.lib import thesis_figures;"
    "figure = thesis_figures.Figure(('3.5',), 'curves', 'Curves');"
    "drawing, folder = sys.argv[1:]; sys.argv[1:] = [];"
    "cli.run(lambda: None, lambda given:"
    " all_figures.draw(figure, ['-c', drawing], pathlib.Path(folder)))"
  )
  command = [sys.executable, "-c", code, drawing, str(tmp_path)]
  with subprocess.Popen(
    command, cwd=commands.ROOT, stdout=subprocess.PIPE, text=True
  ) as process:
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.terminate()
    assert process.wait(timeout=30) == -signal.SIGTERM
  with pytest.raises(ProcessLookupError):
    os.kill(child, 0)
