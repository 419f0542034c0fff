"""On accelerators every convolution is XLA's own."""

import jax
import jax.numpy as jnp
import pytest

from emosynth_jax.models.ops import convolutions, unit_stride


@pytest.mark.parametrize(
  ("convolve", "shapes"),
  [
    (
      lambda x, k: convolutions.strided_conv2d(x, k, 2),
      [(2, 6, 6, 3), (3, 3, 3, 3)],
    ),
    (
      lambda x, k: convolutions.depthwise_conv2d(x, k, 2),
      [(2, 6, 6, 3), (3, 3, 1, 3)],
    ),
    (unit_stride.conv_transpose_valid, [(2, 4, 4, 3), (3, 3, 3, 5)]),
    (unit_stride.conv_transpose_upsampled, [(2, 4, 4, 3), (3, 3, 3, 5)]),
    (unit_stride.conv2d, [(8, 12, 12, 48), (3, 3, 48, 50)]),
  ],
  ids=["strided", "depthwise", "valid", "upsampled", "same"],
)
def test_other_platforms_get_the_plain_convolution(convolve, shapes):
  def gradients(inputs, kernel):
    return jax.grad(lambda x, k: jnp.sum(convolve(x, k) ** 2), (0, 1))(inputs, kernel)

  traced = jax.jit(gradients).trace(*map(jnp.zeros, shapes))
  found = {
    platform: traced.lower(lowering_platforms=(platform,)).as_text()
    for platform in ("cuda", "tpu", "cpu")
  }
  # The value, and a gradient each of inputs and kernel.
  assert found["cuda"].count("stablehlo.convolution") == 3
  assert found["tpu"].count("stablehlo.convolution") == 3
  assert found["cpu"].count("stablehlo.convolution") == 0
