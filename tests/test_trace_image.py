"""The files that docs/notes/architecture.md lists are those that a training calls."""

import io
import pathlib
import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from emosynth_jax import train_loop
from emosynth_jax.config import recipes
from emosynth_jax.data.datasets import fer2013
from emosynth_jax.training import build
from tools import trace_image

_PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs/notes/architecture.md"
_FOLDERS = {"Training": "train", "PublicTest": "test", "PrivateTest": "test"}


def _write_zip(path):
  """A FER-2013 of five images a class in each split, as Kaggle's files."""
  generator = np.random.default_rng(0)
  with zipfile.ZipFile(path, "w") as archive:
    for usage, folder in _FOLDERS.items():
      for name in 5 * fer2013.CLASS_NAMES:
        pixels = generator.integers(0, 256, (48, 48), dtype=np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "JPEG")
        number = len(archive.namelist())
        archive.writestr(f"{folder}/{name}/{usage}_{number}.jpg", content.getvalue())


def _create_zeros(experiment, seed):
  shapes = build.state_shapes(experiment)
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def test_the_page_lists_the_files_that_a_training_calls(tmp_path, monkeypatch):
  _write_zip(tmp_path / "fer2013.zip")
  config = recipes.fer2013("small")
  config.data.data_dir = str(tmp_path)
  config.batch_size = 35  # Enough for Winograd's form.
  # Zeros instead of a program to compile.
  monkeypatch.setattr(build, "create_state", _create_zeros)

  files = trace_image.trace(lambda: train_loop.train(config, tmp_path / "run"))
  called = {file.removeprefix("emosynth_jax/") for file in files}

  page = _PAGE.read_text()
  walk = page[page.index("### From disk to the loss") : page.index("### From the loss")]
  listed = set(re.findall(r"`([\w/]+\.py)`", walk))
  held = set(re.findall(r"`([\w/]+\.py)`", walk.split("These ")[0]))
  assert held - {"configs/fer2013.py"} <= called
  assert called <= listed
