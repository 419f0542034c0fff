"""What a config's names turn into, and the weights of classes."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from emosynth_jax import models
from emosynth_jax.config import defaults
from emosynth_jax.data import run_data
from emosynth_jax.data.dataset import from_arrays
from emosynth_jax.training import build

_LABELS = np.array([0] * 5 + [1] * 2 + [2], np.int32)


def _dataset(labels, class_names=("angry", "sad", "fear")):
  return from_arrays(np.zeros((len(labels), 32, 32), np.uint8), labels, class_names)


def _build(**changes):
  config = defaults.get_default_config()
  config.model.width = 1 / 32
  for path, value in changes.items():
    parent, _, key = path.rpartition("__")
    (config[parent] if parent else config)[key] = value
  return build.build_experiment(config, image_shape=(32, 32, 1), num_classes=3)


def test_balanced_weights_are_those_of_scikit_learn():
  weights = run_data.class_weights("balanced", _dataset(_LABELS))
  expected = compute_class_weight("balanced", classes=np.arange(3), y=_LABELS)
  assert weights.dtype == np.float32
  np.testing.assert_allclose(weights, expected, rtol=1e-6)
  assert np.mean(weights[_LABELS]) == pytest.approx(1)


def test_no_weights_are_ones():
  weights = run_data.class_weights("none", _dataset([0, 2, 2]))
  np.testing.assert_array_equal(weights, np.ones(3, np.float32), strict=True)


def test_a_class_without_images_cannot_be_balanced():
  with pytest.raises(ValueError, match=r"'sad' has no training image.*\"none\""):
    run_data.class_weights("balanced", _dataset([0, 2, 2]))


def test_shapes_are_those_of_the_state_that_is_created():
  built = _build()
  shapes = build.state_shapes(built)
  state = jax.eval_shape(built.create_state, jax.random.key(0))
  assert jax.tree.structure(shapes) == jax.tree.structure(state)
  assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(shapes)] == [
    (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)
  ]
  assert shapes.params["logits"]["kernel"].shape == (64, 3)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model__name": "vgg"}, r"unknown model 'vgg'; did .*Known: all_cnn.*emosynthnet"),
    ({"model__depth": 3}, "'depth'"),
    (
      {"loss__name": "crossentropy"},
      "unknown loss 'crossentropy'; did you mean cross_entropy.*Known: .*focal",
    ),
    ({"loss__gamma": 2.0}, "'cross_entropy' takes no argument 'gamma'"),
  ],
)
def test_an_unknown_name_or_argument_is_refused_with_the_known_ones(changes, message):
  with pytest.raises(ValueError, match=message):
    _build(**changes)


@pytest.mark.parametrize(
  ("model", "side", "message"),
  [
    ("fer_resnet", 24, None),
    (
      "fer_resnet",
      32,
      r"resizing\.side: expected less than the images' side, 32, got 3",
    ),
    ("fer_resnet", 6, r"resizing\.side: .* not take images of side 6: ValueError: .*8"),
    (
      "fer_vgg",
      24,
      r"config\.progressive_resizing: .*parameters depend on the images'",
    ),
  ],
)
def test_progressive_resizing_needs_a_network_for_both_sizes(model, side, message):
  network = models.build_model(model, num_classes=3, width=1 / 32)
  check = functools.partial(build.check_resizing, network, side)
  if message is None:
    check((32, 32, 1))
    with pytest.raises(ValueError, match="not square, here 32x48"):
      check((32, 48, 1))
    return
  with pytest.raises(ValueError, match=message):
    check((32, 32, 1))


def test_a_sub_center_loss_has_its_columns_in_the_last_layer():
  loss = {"name": "subcenter_arcface", "sub_centers": 2}
  built = _build(loss=ml_collections.ConfigDict(loss))
  assert build.state_shapes(built).params["logits"]["kernel"].shape == (64, 6)
  embeddings, weights = np.ones((4, 64), np.float32), np.ones((64, 6), np.float32)
  logits = built.evaluation_logits(embeddings, weights)
  assert logits.shape == (4, 3)


def test_mixup_is_there_only_when_asked_for():
  assert _build().mixup is None
  images, one_hot = jnp.ones((4, 2, 2, 1)), jnp.ones((4, 3))
  mixed = jax.eval_shape(
    _build(mixup_alpha=1).mixup, jax.random.key(0), images, one_hot
  )
  assert [array.shape for array in mixed] == [images.shape, one_hot.shape]


def test_data_splits_follow_the_config():
  config = defaults.get_default_config()
  config.data.limit = 14
  loaded = run_data.load_data(config, ("train", "test"))
  assert {split: len(data) for split, data in loaded.items()} == {
    "train": 14,
    "test": 14,
  }
