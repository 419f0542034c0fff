"""A metric, a data set, a loss, a network and a setting, each added in one place."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network

from emosynth_jax import data, losses, models, train_loop
from emosynth_jax.config import checks, defaults, settings
from emosynth_jax.data.augmentation import augment
from emosynth_jax.workdir.metric_writer import read_records

# A data set with its own validation split: images of class k are gray at level 100 k.
_DATA_SET = """
import numpy as np
from emosynth_jax.data.dataset import Dataset

SIZES = {"train": 12, "validation": 6}

def load(data_dir, split, *, sides=4):
  labels = np.arange(SIZES[split], dtype=np.int32) % 3
  images = np.full((len(labels), sides, sides, 1), 50, np.uint8)
  images += (100 * labels[:, None, None, None]).astype(np.uint8)
  names = tuple(f"{split} {i}" for i in range(len(labels)))
  return Dataset(images, labels, ("dark", "gray", "bright"), split, names)
"""


def _squared_logits(logits, labels, *, weight=0.1):
  """Cross-entropy with a penalty of large logits."""
  return losses.cross_entropy(logits, labels) + weight * jnp.sum(logits**2, axis=-1)


def _augment(key, images, *, brightness, real, **ranges):
  return real(key, images, **ranges) + brightness


@pytest.fixture
def _added(tmp_path, monkeypatch):
  (tmp_path / "gray_levels.py").write_text(_DATA_SET)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setitem(
    data.LOADERS, "gray", data.Loader("gray_levels", has_validation=True)
  )
  monkeypatch.setitem(
    settings.SELECTION_METRICS,
    "worst_recall",
    settings.ValidationMetric(
      lambda summary: min(row["recall"] for row in summary["per_class"].values())
    ),
  )
  monkeypatch.setitem(losses.LOSSES, "squared_logits", _squared_logits)
  monkeypatch.setitem(models.MODELS, "tiny", tiny_network.TinyNetwork)
  monkeypatch.setitem(
    settings.SETTINGS,
    "augment.brightness",
    settings.Setting(0.0, checks.number(at_least=0), "Added to every pixel."),
  )
  # The argument itself: what a setting is passed on to by its name.
  monkeypatch.setattr(
    augment, "augment", functools.partial(_augment, real=augment.augment)
  )


def _config():
  config = defaults.get_default_config()
  config.data.name = "gray"
  config.data.test_split = ""
  config.data.options.sides = 8
  config.model = {"name": "tiny", "features": 4, "dtype": "float32"}
  config.loss = {"name": "squared_logits", "weight": 0.01}
  config.selection_metric = "worst_recall"
  config.batch_size, config.num_epochs = 6, 2
  return config


@pytest.mark.usefixtures("_added")
def test_what_is_added_in_one_place_is_trained_with(tmp_path):
  config = _config()
  config.augment.brightness = 5.0
  defaults.check_config(config)
  assert train_loop.train(config, tmp_path / "run")

  records = read_records(tmp_path / "run/metrics.jsonl")
  worst = [record["validation/worst_recall"] for record in records]
  assert len(worst) == 2
  assert set(worst) <= {0.0, 0.5, 1.0}  # Of two images each.
  best = records[int(np.argmax(worst))]["step"]
  assert [f.name for f in (tmp_path / "run/checkpoints/best").iterdir()] == [str(best)]

  config.augment.brightness = 6.0
  with pytest.raises(ValueError, match=r"augment\.brightness is 6\.0, was 5\.0"):
    train_loop.train(config, tmp_path / "run")


@pytest.mark.usefixtures("_added")
def test_each_is_known_where_names_are_checked_and_listed():
  config = _config()
  config.augment.brightness = -1.0
  with pytest.raises(ValueError, match=r"augment\.brightness: expected a number, at"):
    defaults.check_config(config)
  config.augment.brightness = 0.0
  config.selection_metric = "best_recall"
  with pytest.raises(ValueError, match=r"one of \('accuracy', .*'worst_recall'\)"):
    defaults.check_config(config)
  helps = {path: text for path, _, text in settings.describe()}
  assert helps["augment.brightness"].startswith("Added to every pixel.")
  assert "'worst_recall'" in helps["selection_metric"]

  loaded = data.load_splits(
    "gray", "", ("validation",), validation_fraction=0.5, seed=0, sides=2
  )
  np.testing.assert_array_equal(loaded["validation"].images[:2, 0, 0, 0], [50, 150])
  with pytest.raises(ValueError, match=r"Known: .*squared_logits"):
    losses.get_loss("squared_logit")
  with pytest.raises(ValueError, match=r"Known: .*tiny"):
    models.build_model("tinier", num_classes=3)
