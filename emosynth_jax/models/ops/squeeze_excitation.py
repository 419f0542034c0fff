"""Squeeze-and-excitation (Hu et al., 2018)."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

Array = jax.Array


class SqueezeExcitation(nn.Module):
  """Scales each channel by a gate that is computed from the means of all channels.

  With the mean z of each channel over the pixels, its gate is one of

    s = sigmoid(W2 activation(W1 z + b1) + b2)

  Attributes:
    squeezed: channels of W1 z.
    dtype: type of the computation.
    activation: after the first product; the paper's is ReLU, EfficientNet's is swish.

  References:
    Hu, Shen and Sun, "Squeeze-and-Excitation Networks", CVPR 2018, equations 2 to 4,
    which have no biases; the authors' code and timm have them.
  """

  squeezed: int
  dtype: Any
  activation: Callable = nn.swish

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps `(N, H, W, C)` to the same shape."""
    dense = functools.partial(
      nn.Dense,
      kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
      dtype=self.dtype,
    )
    scale = self.activation(dense(self.squeezed, name="reduce")(x.mean((1, 2))))
    scale = nn.sigmoid(dense(x.shape[-1], name="expand")(scale))
    return x * scale[:, None, None, :]
