"""ELU from its output: the closed form, its derivatives, and what a step keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import AS_USED

from emosynth_jax.models.ops.layers import elu

_X = np.array([-50.0, -3.0, -1e-3, -1e-9, 0.0, 1e-9, 0.5, 7.0])
# By hand: e^x - 1, and below 0 every derivative is e^x.
_BELOW = _X <= 0


def _by_reverse(order):
  function = elu
  for _ in range(order):
    function = jax.grad(lambda x, f=function: f(x).sum())
  return function


@pytest.mark.parametrize(
  ("order", "above"), [(0, _X), (1, np.ones_like(_X)), (2, np.zeros_like(_X))]
)
def test_values_and_derivatives_are_the_closed_forms(order, above):
  below = np.expm1(_X) if order == 0 else np.exp(_X)
  with jax.enable_x64(True):
    found = _by_reverse(order)(jnp.asarray(_X, jnp.float64))
    assert found.dtype == jnp.float64
  expected = np.where(_BELOW, below, above)
  # To 1 of float64's rounding of 1, which e^x is 1 less than.
  np.testing.assert_allclose(found, expected, rtol=1e-9, atol=3e-16)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradients_are_jax_nns_bit_for_bit(dtype):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(scale=3, size=(7, 5)), dtype)
  g = jnp.asarray(rng.normal(size=(7, 5)), dtype)
  ours, plain = (
    jax.jit(lambda x, g, f=f: (f(x), jax.vjp(f, x)[1](g)[0]), compiler_options=AS_USED)(
      x, g
    )
    for f in (elu, jax.nn.elu)
  )
  for found, expected in zip(ours, plain, strict=True):
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


def test_extremes():
  x = jnp.asarray([-jnp.inf, jnp.inf, jnp.nan, -3e38])
  np.testing.assert_array_equal(elu(x), [-1, jnp.inf, jnp.nan, -1])
  slope = jax.grad(lambda x: elu(x).sum())(x)
  np.testing.assert_array_equal(slope, [0, 1, jnp.nan, 0])


def test_the_way_back_keeps_the_output_alone():
  x = jnp.linspace(-3, 3, 12).reshape(3, 4)
  output, back = jax.vjp(elu, x)
  kept = [leaf for leaf in jax.tree.leaves(back) if getattr(leaf, "size", 0) == x.size]
  assert len(kept) == 1
  np.testing.assert_array_equal(kept[0], output)
  _, back = jax.vjp(jax.nn.elu, x)
  assert len([k for k in jax.tree.leaves(back) if getattr(k, "size", 0) == x.size]) > 1
