"""Notebooks: classes that are in no file, objects that print short, bar and log."""

import linecache
import logging
import sys
import types

import numpy as np
import pytest
import tiny_network
import tiny_predictor
from absl import logging as absl_logging

from emosynth_jax.data.dataset import Dataset
from emosynth_jax.predict.predictor import Predictor
from emosynth_jax.utils import log_file, own_code, progress
from emosynth_jax.workdir import own_parts

_CLASS = """
class Small(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images, *, train):
    x = images.mean((1, 2))
    return nn.Dense(self.num_classes, name="logits")(x), {"pre_logits": x}
"""
_CELL = f"import flax.linen as nn\n{_CLASS}\nsize = 3\n"


@pytest.fixture
def cell(monkeypatch):
  """The names of a cell, run as IPython does: in __main__, its source in a cache."""
  main = types.ModuleType("__main__")
  monkeypatch.setitem(sys.modules, "__main__", main)
  name = "/tmp/ipykernel_1/1.py"
  lines = _CELL.splitlines(keepends=True)
  monkeypatch.setitem(linecache.cache, name, (len(_CELL), None, lines, name))
  exec(compile(_CELL, name, "exec"), main.__dict__)
  return main


def test_a_network_of_a_notebook_is_found_and_its_source_kept(cell):
  name = own_code.name_of(cell.Small)
  assert name == "python:Small"
  assert own_code.load(name) is cell.Small
  assert own_code.source_text(name) == _CLASS.lstrip()


def test_a_class_that_was_never_in_a_cell_has_no_source(cell):
  exec("class Typed:\n  def method(self): pass\n", cell.__dict__)
  assert own_parts.NO_SOURCE == own_parts._sha256(
    own_code.source_text(own_code.name_of(cell.Typed)).encode()
  )


def test_a_data_set_prints_no_pixels():
  images = np.zeros((1200, 8, 6, 3), np.uint8)
  labels = np.zeros(1200, np.int32)
  dataset = Dataset(images, labels, ("sad", "happy"), "test", ("",) * 1200)
  assert repr(dataset) == (
    "Dataset('test', 1,200 images of 8x6x3, 2 classes: sad, happy)"
  )


def test_a_network_prints_no_parameters(tiny_networks):
  network = tiny_predictor.create_bundle(tiny_network.create_state())
  # 16 inputs to 5 features, scale and bias of BatchNorm, 5 to 3 with bias.
  shown = (
    f"Bundle(tiny, {16 * 5 + 2 * 5 + 5 * 3 + 3} parameters, images of 4x4x1, "
    f"3 classes: {', '.join(network.class_names)})"
  )
  assert repr(network) == shown
  assert repr(Predictor(network, faces="none")).startswith(
    f"Predictor({shown}, faces='none', single_faces="
  )


class _Handle:
  """An output that is replaced in place, as IPython.display.display returns it."""

  def __init__(self, shown):
    self._shown = shown

  def update(self, form, *, raw):
    assert raw
    self._shown.append(form)


@pytest.fixture
def outputs(monkeypatch):
  """The forms of the one output that a notebook's process shows."""
  shown = []

  def display(form, *, raw, display_id):
    assert raw
    assert display_id
    assert not shown
    shown.append(form)
    return _Handle(shown)

  ipython, functions = types.ModuleType("IPython"), types.ModuleType("IPython.display")
  ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
  functions.display = display
  monkeypatch.setitem(sys.modules, "IPython", ipython)
  monkeypatch.setitem(sys.modules, "IPython.display", functions)
  return shown


def test_a_notebook_has_a_bar_that_is_replaced(outputs, monkeypatch, caplog):
  now = [100.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  caplog.set_level(logging.INFO, logger="absl")
  bar = progress.Progress(first=0, total=40, interval=1.0)
  for done in range(1, 41):
    now[0] += 0.125
    bar.update(done, f"loss < {done}", images_per_unit=2)

  texts = [form["text/plain"] for form in outputs]
  assert texts[0] == "  0 % compiling"
  assert texts[-1] == "100 % loss < 40 | 16 images/s | ETA 0:00:00"
  # One of four updates, and the last one.
  assert len(texts) == 12
  assert '<progress value="1.0000" max="1">' in outputs[-1]["text/html"]
  assert "loss &lt; 40" in outputs[-1]["text/html"]
  # The lines in between are for log.txt.
  assert caplog.records
  assert all(record.file_only for record in caplog.records)


@pytest.mark.usefixtures("outputs")
def test_a_notebooks_log_is_output_in_plain_lines(capsys, monkeypatch):
  root = logging.getLogger()
  # Something else logs there already, as IPython's kernel does.
  monkeypatch.setattr(root, "handlers", [logging.StreamHandler(sys.stderr)])
  # absl removes such a handler at the first start in a process.
  monkeypatch.setattr(
    absl_logging, "_attempted_to_remove_stderr_stream_handlers", False
  )
  for _ in range(2):  # Each call of ej.train starts it.
    log_file.start()
  absl_logging.info("parameters: %d", 5)
  absl_logging.get_absl_logger().info("step 3", extra={"file_only": True})
  absl_logging.warning("few images")
  assert capsys.readouterr() == ("parameters: 5\nwarning: few images\n", "")
