"""What a notebook needs: classes that are in no file, and objects that print short."""

import linecache
import sys
import types

import numpy as np
import pytest
import tiny_network
import tiny_predictor

from emosynth_jax import models
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.predict.predictor import Predictor
from emosynth_jax.utils import own_code
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


def test_a_network_prints_no_parameters(monkeypatch):
  monkeypatch.setitem(models.MODELS, "tiny", tiny_network.TinyNetwork)
  network = tiny_predictor.create_bundle(tiny_network.create_state())
  # 16 inputs to 5 features, scale and bias of BatchNorm, 5 to 3 with bias.
  shown = (
    f"Bundle(tiny, {16 * 5 + 2 * 5 + 5 * 3 + 3} parameters, images of 4x4x1, "
    f"3 classes: {', '.join(network.class_names)})"
  )
  assert repr(network) == shown
  assert repr(Predictor(network, faces="none")) == f"Predictor({shown}, faces='none')"
