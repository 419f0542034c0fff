"""The VGG-like peer: counts by hand, and what it refuses."""

import itertools

import jax
import network_shapes
import numpy as np
import pytest

from emosynth_jax.models import build_model


def _shapes(m, **arguments):
  model = build_model("fer_vgg", num_classes=7, **arguments)
  return network_shapes.of(model, (2, m, m, 1))


def test_parameters_by_hand():
  variables, logits, out = _shapes(48)
  maps = [1, 64, 64, 128, 128, 256, 256, 512, 512]
  convolutions = sum(9 * a * b + b for a, b in itertools.pairwise(maps))
  norms = 2 * sum(maps[1:])
  sizes = [3 * 3 * 512, 4096, 4096, 7]
  dense = sum(a * b + b for a, b in itertools.pairwise(sizes))
  count = sum(x.size for x in jax.tree.leaves(variables["params"]))
  assert count == convolutions + norms + dense
  assert logits.shape == (2, 7)
  assert out["pre_logits"].shape == (2, 4096)
  assert out["stage4"].shape == (2, 3, 3, 512)


def test_last_layer_takes_the_embedding():
  model = build_model("fer_vgg", num_classes=7, width=1 / 32, dense_features=(8,))
  images = jax.random.uniform(jax.random.key(1), (3, 18, 18, 1))
  (logits, out), variables = jax.jit(
    lambda k: model.init_with_output(k, images, train=False),
    compiler_options={"xla_backend_optimization_level": 0},
  )(jax.random.key(0))
  last = variables["params"]["logits"]
  np.testing.assert_allclose(
    logits, out["pre_logits"] @ last["kernel"] + last["bias"][None], rtol=1e-5
  )


def test_mean_head_is_the_mean_of_the_last_maps():
  model = build_model(
    "fer_vgg", num_classes=7, width=1 / 32, head="mean", dense_features=()
  )
  images = jax.random.uniform(jax.random.key(1), (3, 32, 32, 1))
  variables = jax.jit(lambda k: model.init(k, images, train=False))(jax.random.key(0))
  logits, out = jax.jit(lambda v: model.apply(v, images, train=False))(variables)
  stages = np.asarray(out["stage4"], np.float64)
  assert stages.shape == (3, 2, 2, 16)
  embedding = stages.reshape(3, 4, 16).sum(1) / 4
  np.testing.assert_allclose(out["pre_logits"], embedding, rtol=1e-5)
  last = variables["params"]["logits"]
  np.testing.assert_allclose(
    logits, embedding @ last["kernel"] + last["bias"][None], 1e-4
  )
  assert not any(name.startswith("dense") for name in variables["params"])


def test_dropout_of_a_head_without_dense_layers():
  model = build_model(
    "fer_vgg",
    num_classes=7,
    width=1 / 32,
    head="mean",
    dense_features=(),
    dropout_rate=0.5,
  )
  images = jax.random.uniform(jax.random.key(1), (8, 16, 16, 1))

  @jax.jit
  def outputs(key, dropout_key):
    variables = model.init(key, images, train=False)
    return model.apply(
      variables,
      images,
      train=True,
      rngs={"dropout": dropout_key},
      mutable=["batch_stats"],
    )

  (_, out), _ = outputs(jax.random.key(0), jax.random.key(2))
  # Maps of 1x1: those kept are doubled, about half are dropped.
  whole, kept = out["stage4"].mean((1, 2)), out["pre_logits"]
  np.testing.assert_allclose(kept[kept != 0], 2 * whole[kept != 0], rtol=1e-6)
  dropped = float(((kept == 0) & (whole > 0)).sum() / (whole > 0).sum())
  assert 0.25 < dropped < 0.75


@pytest.mark.parametrize(
  ("arguments", "m", "message"),
  [
    ({"width": 0}, 48, "width"),
    ({"dense_features": (0,)}, 48, "dense_features"),
    ({"head": "max"}, 48, "head"),
    ({"dropout_rate": 1.0}, 48, "dropout_rate"),
    ({}, 8, r"sides of at least 16, got \(2, 8, 8, 1\)"),
  ],
)
def test_bad_arguments_are_refused(arguments, m, message):
  with pytest.raises(ValueError, match=message):
    _shapes(m, **arguments)
