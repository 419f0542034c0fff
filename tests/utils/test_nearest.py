"""Names that a mistyped one may mean."""

import pytest

from emosynth_jax import data, losses, models
from emosynth_jax.config import defaults
from emosynth_jax.utils.nearest import did_you_mean, nearest

_SETTINGS = tuple(defaults.flatten(defaults.get_default_config().to_dict()))


@pytest.mark.parametrize(
  ("name", "known", "meant"),
  [
    ("optimizer.lr", _SETTINGS, "optimizer.learning_rate"),
    ("optimiser.learning_rate", _SETTINGS, "optimizer.learning_rate"),
    ("learning_rate", _SETTINGS, "optimizer.learning_rate"),
    ("bach_size", _SETTINGS, "batch_size"),
    ("batchsize", _SETTINGS, "batch_size"),
    ("data.dir", _SETTINGS, "data.data_dir"),
    ("epochs", _SETTINGS, "num_epochs"),
    ("crossentropy", losses.LOSSES, "cross_entropy"),
    ("arcfase", losses.LOSSES, "arcface"),
    ("mam", losses.LOSSES, "mam_softmax"),
    ("resnet-18", models.MODELS, "resnet18"),
    ("fer", data.LOADERS, "fer2013"),
  ],
)
def test_the_meant_name_is_the_nearest(name, known, meant):
  assert nearest(name, known)[0] == meant


def test_a_name_that_is_like_no_other_gets_no_proposal():
  assert did_you_mean("zzzzz", losses.LOSSES) == ""
  assert did_you_mean("x", []) == ""
