"""The VGG-like peer: counts by hand, and what it refuses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax.models import build_model


def _shapes(m, **arguments):
  model = build_model("fer_vgg", num_classes=7, **arguments)
  return jax.eval_shape(
    lambda: model.init_with_output(
      jax.random.key(0), jnp.zeros((2, m, m, 1)), train=False
    )
  )


def test_parameters_by_hand():
  (logits, out), variables = _shapes(48)
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


@pytest.mark.parametrize(
  ("arguments", "m", "message"),
  [
    ({"width": 0}, 48, "width"),
    ({"dense_features": ()}, 48, "dense_features"),
    ({"dropout_rate": 1.0}, 48, "dropout_rate"),
    ({}, 8, r"sides of at least 16, got \(2, 8, 8, 1\)"),
  ],
)
def test_bad_arguments_are_refused(arguments, m, message):
  with pytest.raises(ValueError, match=message):
    _shapes(m, **arguments)
