import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax import losses, models
from emosynth_jax.config import defaults
from emosynth_jax.training import build


@pytest.fixture
def config(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "mine.py").write_text(
    """
import flax.linen as nn
import jax.numpy as jnp

NUMBER = 3

def loss(logits, labels, *, power=2.0):
  return jnp.abs(logits[jnp.arange(len(labels)), labels]) ** power

def wrong_input(scores, labels):
  return labels

def no_labels(logits):
  return logits[:, 0]

def a_matrix(logits, labels):
  return logits

def by_embedding(embeddings, weights, labels):
  return embeddings[:, 0]

def remembers(logits, labels, state):
  return logits[:, 0], state

def margin(logits, *, factor=1.0):
  return factor * logits.max(axis=-1)

def two_arrays(logits, labels):
  return logits[:, 0]

def same_name(logits, *, kappa=1.0):
  return logits[:, 0]

class Network(nn.Module):
  num_classes: int
  features: int = 4

  @nn.compact
  def __call__(self, images, train):
    x = nn.Dense(self.features)(images.reshape(len(images), -1))
    return nn.Dense(self.num_classes, name="logits")(x), {"pre_logits": x}

class NoEmbedding(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images, train):
    return nn.Dense(self.num_classes)(images.reshape(len(images), -1)), {}

class OnlyLogits(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images, train):
    return nn.Dense(self.num_classes, name="logits")(images.reshape(len(images), -1))

class WrongWidth(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images, train):
    x = images.reshape(len(images), -1)
    return nn.Dense(9, name="logits")(x), {"pre_logits": x}

class Fails(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, images, train):
    if images.sum() > 0:
      return images

class NoClasses(nn.Module):
  features: int = 2
"""
  )
  return defaults.get_default_config()


def experiment(config):
  return build.build_experiment(config, image_shape=(4, 4, 1), num_classes=3)


def test_an_own_loss_gets_its_arguments(config):
  config.loss = {"name": "mine.py:loss", "power": 3.0}
  logits = np.array([[2.0, 0.0, 1.0], [0.0, -3.0, 1.0]], np.float32)
  loss = experiment(config).loss
  np.testing.assert_allclose(loss(jnp.asarray(logits), jnp.array([0, 1])), [8.0, 27.0])


def test_an_own_margin_gets_its_arguments_beside_those_of_the_loss(config):
  config.loss = {
    "name": "mam_softmax",
    "margin_fn": "mine.py:margin",
    "factor": 0.5,
    "kappa": 2.0,
  }
  logits = jnp.array([[2.0, 0.0, 1.0], [0.0, -3.0, 1.0]])
  labels = jnp.array([0, 1])
  # The label's logit is reduced by kappa * factor * the largest logit.
  expected = losses.cross_entropy(logits.at[0, 0].add(-2.0).at[1, 1].add(-1.0), labels)
  np.testing.assert_allclose(experiment(config).loss(logits, labels), expected)


def test_an_own_loss_can_stand_under_a_built_in_margin(config):
  config.loss = {"name": "mam_softmax+mine.py:loss", "power": 1.0, "kappa": 0.0}
  got = experiment(config).loss(jnp.array([[-2.0, 0.0, 1.0]]), jnp.array([0]))
  np.testing.assert_allclose(got, [2.0])


def test_an_own_margin_can_stand_before_a_built_in_loss(config, tmp_path):
  (tmp_path / "margins.py").write_text(
    "def reduced(logits, labels, *, by=1.0):\n"
    "  return logits - by * (labels[:, None] == 0)\n"
  )
  config.loss = {"name": "margins.py:reduced+cross_entropy", "by": 2.0}
  logits, labels = jnp.array([[2.0, 0.0, 1.0]]), jnp.array([0])
  # The same number off all logits of an example changes nothing.
  np.testing.assert_allclose(
    experiment(config).loss(logits, labels),
    losses.cross_entropy(logits, labels),
    rtol=1e-6,
  )


def test_an_own_network_is_built_with_its_arguments(config):
  config.model = {"name": "mine.py:Network", "dtype": "float32", "features": 6.0}
  built = experiment(config)
  assert isinstance(built.model, nn.Module)
  params = build.state_shapes(built).params
  assert params["logits"]["kernel"].shape == (6, 3)


@pytest.mark.parametrize(
  ("loss", "message"),
  [
    (
      {"name": "mine.py:wrong_input"},
      r"unknown input scores; a loss takes some of log",
    ),
    ({"name": "mine.py:no_labels"}, "expected labels among its inputs"),
    ({"name": "mine.py:by_embedding"}, "evaluation_logits has to be the function"),
    ({"name": "mine.py:remembers"}, "init_state has to be the function"),
    ({"name": "mine.py:NUMBER"}, "expected a function, got int"),
    (
      {"name": "mine.py:loss", "powr": 1.0},
      r"no argument 'powr'; did you mean power. Known: power",
    ),
    ({"name": "arcface+mine.py:loss"}, "angular margin.* can't stand over"),
    ({"name": "mine.py:loss+mine.py:loss+mse"}, r"expected margin\+loss"),
    ({"name": "mam_softmax", "margin_fn": "mine.py:two_arrays"}, "function of logits"),
    (
      {"name": "mam_softmax", "margin_fn": "mine.py:same_name"},
      "'?kappa'? is also one",
    ),
  ],
)
def test_what_is_no_loss_is_refused(config, loss, message):
  config.loss = loss
  with pytest.raises(ValueError, match=message):
    build.check_parts(config)


def test_a_loss_of_another_shape_is_refused_when_it_is_called(config):
  config.loss = {"name": "mine.py:a_matrix"}
  with pytest.raises(ValueError, match=r"one loss for each example, of shape \(2,\)"):
    experiment(config).loss(jnp.zeros((2, 3)), jnp.array([0, 1]))


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("NoEmbedding", r'last layer to be nn\.Dense\(num_classes, name="logits"\)'),
    ("OnlyLogits", r"to return \(logits, .*pre_logits"),
    ("WrongWidth", r"logits of shape \(2, 3\) for 2 images, got \(2, 9\)"),
    ("Fails", r"mine\.py:\d+: `if images\.sum\(\) > 0:`: JAX traces"),
    ("NoClasses", "expected the argument num_classes"),
    ("loss", "expected the argument num_classes"),
    ("NUMBER", "expected a class"),
  ],
)
def test_what_is_no_network_is_refused(config, name, message):
  config.model = {"name": f"mine.py:{name}", "dtype": "float32"}
  with pytest.raises(ValueError, match=message):
    experiment(config)


def test_names_are_checked_before_the_data_is_known(config):
  config.loss = {"name": "mine.py:wrong_input"}
  with pytest.raises(ValueError, match="unknown input scores"):
    build.check_parts(config)
  config.loss = {"name": "cross_entropy"}
  config.model = {"name": "resnet19", "dtype": "float32"}
  with pytest.raises(ValueError, match="unknown model"):
    build.check_parts(config)


def test_another_network_by_flag_drops_the_arguments_of_the_first():
  config = defaults.get_default_config()
  config.model.name = "resnet18"
  config.model.width = 0.5
  former = {"model.name": "emosynthnet", "model.width": 1.0}
  changed = defaults.without_foreign_arguments(config, former)
  assert changed.model.to_dict() == {
    "name": "resnet18",
    "dtype": "float32",
    "width": 0.5,
  }
  assert config.model.dense_features == (128, 64)
  models.build_model("resnet18", num_classes=2, width=0.5)
  assert defaults.without_foreign_arguments(config, {"seed": 1}) is config
  # The network that it is already.
  assert (
    defaults.without_foreign_arguments(config, {"model.name": "resnet18"}) is config
  )
