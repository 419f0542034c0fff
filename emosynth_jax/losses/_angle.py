"""The cosine of an angle plus a margin, without the angle.

The arc cosine and sqrt(1 - c^2) have infinite slopes at c = +-1.
"""

import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

# Below this, 1 - c^2 is in float32 a few steps of rounding; see `sine`.
SINE_EPSILON = 1e-6

# The root of cos m + m sin m = 1. With a larger margin `add_angle` steps up where
# theta + m passes pi, from -1 to -cos m - m sin m, and is not monotone any more.
MAX_MARGIN = 2.331122


def sine(cosines: Array) -> Array:
  """`sqrt(1 - c^2)`, continued by its chord to (1, 0) where c^2 > 1 - 1e-6.

  So it is right at c = +-1, continuous, and its slope stays below 2000.
  """
  square = jnp.maximum(1.0 - jnp.square(cosines), 0.0)
  root = jnp.sqrt(jnp.maximum(square, SINE_EPSILON))
  return jnp.where(square < SINE_EPSILON, square / math.sqrt(SINE_EPSILON), root)


def add_angle(cosines: Array, margin: ArrayLike, easy_margin: bool = False) -> Array:
  """`cos(theta + margin)`, and `c - margin sin margin` where theta + margin exceeds pi.

  So it falls on all of [0, pi].

  Args:
    cosines: `(N, K)`.
    margin: radians in [0, MAX_MARGIN], one number or `(N, 1)`.
    easy_margin: whether obtuse angles keep their cosine instead: not monotone.

  Returns:
    `(N, K)`.
  """
  cos_m, sin_m = jnp.cos(margin), jnp.sin(margin)
  shifted = cosines * cos_m - sine(cosines) * sin_m
  if easy_margin:
    return jnp.where(cosines > 0, shifted, cosines)
  return jnp.where(cosines > -cos_m, shifted, cosines - margin * sin_m)
