"""A workdir of a tiny network that nobody trained, with its data, and its page."""

import contextlib
import types

import jax
import jax.numpy as jnp
import made_up_run
import numpy as np
import pytest
import tiny_network
import tiny_workdir

from emosynth_jax.config import defaults
from emosynth_jax.data.dataset import Dataset
from emosynth_jax.metrics import classification
from emosynth_jax.report import report
from emosynth_jax.training import build

TOTAL = 24
# A name that would be a script, if a page let it.
_FILE = '"><img src=x onerror=alert(1)>/{}.png'


def dataset():
  """The run's split, whichever is asked for."""
  rng = np.random.default_rng(3)
  # Of different brightness, which is what a mean over the pixels sees.
  images = rng.integers(0, 256, (TOTAL, 8, 8, 1)) * rng.random((TOTAL, 1, 1, 1))
  return Dataset(
    images=images.astype(np.uint8),
    labels=rng.integers(0, 3, TOTAL).astype(np.int32),
    class_names=made_up_run.CLASSES,
    split="test",
    sources=tuple(_FILE.format(i) for i in range(TOTAL)),
    official_split="PrivateTest",
  )


@contextlib.contextmanager
def installed():
  """Within it, the network has a name and the data is found."""
  with pytest.MonkeyPatch.context() as patch:
    tiny_workdir.install(patch, lambda config, split: dataset())
    yield


def write(workdir):
  """Writes the workdir; returns the state and its images' probabilities."""
  config = defaults.get_default_config()
  config.model = {"name": "tiny_maps", "dtype": "float32"}
  split = dataset()
  with installed():
    built = build.build_experiment(config, image_shape=(8, 8, 1), num_classes=3)
    state = build.create_state(built, 5)
  state = state.replace(best_epoch=jnp.int32(2))
  tiny_workdir.write(workdir, config, state)
  inputs = split.images.astype(np.float32) * np.float32(state.input_scale)
  logits, _ = jax.jit(lambda v, x: tiny_network.TinyMaps(3).apply(v, x, train=False))(
    state.variables, inputs
  )
  statistics = jax.jit(lambda x, y: classification.batch_statistics(x, y, None, 3))(
    logits, split.labels
  )
  made_up_run.write_run(
    workdir,
    test=classification.summarize(statistics, made_up_run.CLASSES),
    config={"model": config.model},
  )
  (workdir / "data.json").unlink()  # of made-up images
  shares = np.exp(np.asarray(logits, np.float64))
  return state, shares / shares.sum(axis=1, keepdims=True)


def flags_of(*workdirs, **changes):
  """The flags of emosynth_jax.report, as its defaults but for the changes."""
  given = {
    "workdir": [str(workdir) for workdir in workdirs],
    "output": None,
    "audit": None,
    "images": True,
    "paired": False,
    "mistakes": 12,
    "embedded": 2000,
    "layer": None,
    "batch_size": 256,
    "data_dir": None,
  }
  return types.SimpleNamespace(**given | changes)


def write_page(workdir, folder):
  """The page of `write`'s run with all that one can have; returns the file."""
  made_up_run.write_audit(folder, made_up_run.json_of(workdir / "report.json"))
  with installed():
    return report.write_page(
      flags_of(
        workdir,
        audit=folder,
        output=folder / "report.html",
        mistakes=5,
        embedded=0,
        batch_size=10,
      )
    )
