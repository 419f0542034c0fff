"""A user's network for runs in processes of their own: compiled in a few seconds."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp


class OwnNetwork(nn.Module):
  """A convolution, BatchNorm and dropout: what trainings have to carry along."""

  num_classes: int
  features: int = 8
  dropout_rate: float = 0.2
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, images, *, train):
    x = nn.Conv(self.features, (3, 3), strides=2)(images)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
    x = nn.Dropout(self.dropout_rate, deterministic=not train)(nn.relu(x)).mean((1, 2))
    return nn.Dense(self.num_classes, name="logits")(x), {"pre_logits": x}
