"""Every BatchNorm of a network has the decay that the config names."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from emosynth_jax import models

_NAMES = [name for name in models.MODELS if "norm_momentum" in models.defaults_of(name)]


@pytest.mark.parametrize("name", _NAMES)
def test_norm_momentum_reaches_every_layer(name):
  more = {"synthesis": "norm"} if name == "emosynthnet" else {}
  model = models.build_model(
    name, num_classes=7, width=0.125, norm_momentum=0.625, **more
  )
  found = []

  def note(call, arguments, keywords, context):
    if isinstance(context.module, nn.BatchNorm):
      found.append((context.module.path, context.module.momentum))
    return call(*arguments, **keywords)

  with nn.intercept_methods(note):
    shapes = jax.eval_shape(
      lambda x: model.init(jax.random.key(0), x, train=False),
      jax.ShapeDtypeStruct((1, 48, 48, 1), jnp.float32),
    )
  assert {momentum for _, momentum in found} == {0.625}
  # Each layer with running statistics is one of these.
  statistics = jax.tree.leaves(shapes["batch_stats"])
  assert len(set(found)) == len(statistics) / 2 > 3
