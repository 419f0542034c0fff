"""Multiplicative angular margins: SphereFace and L-Softmax.

Each `*_logits` function returns logits with a margin at the label, for training only;
see `additive_margin`. Defined for integer labels only.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from emosynth_jax.losses import _inputs
from emosynth_jax.losses._inputs import under_margin
from emosynth_jax.losses.classification import cross_entropy
from emosynth_jax.losses.cosine import cosines_and_norms
from emosynth_jax.utils import arguments


def _multiple_angle(cosines: Array, margin: int) -> Array:
  """SphereFace's psi(theta): the monotone extension of cos(margin theta) to [0, pi].

    psi = (-1)^k cos(margin theta) - 2k  on  [k pi / margin, (k + 1) pi / margin]

  The cosine of the multiple angle by Chebyshev's recursion T_{n+1} = 2c T_n -
  T_{n-1}; k has no gradient, and psi is continuous where k steps.
  """
  previous, chebyshev = jnp.ones_like(cosines), cosines
  for _ in range(margin - 1):
    previous, chebyshev = chebyshev, 2.0 * cosines * chebyshev - previous
  angle = jnp.arccos(jnp.clip(jax.lax.stop_gradient(cosines), -1.0, 1.0))
  k = jnp.clip(jnp.floor(angle * margin / math.pi), 0, margin - 1)
  sign = 1.0 - 2.0 * (k % 2)
  return sign * chebyshev - 2.0 * k


def _annealed_psi(
  cosines: Array,
  labels: ArrayLike,
  step: ArrayLike,
  margin: int,
  lam_min: float | Array,
  lam_max: float | Array,
  lam_decay: float | Array,
) -> Array:
  """`(lam c + psi) / (1 + lam)` at the label, c elsewhere; lam falls with the step."""
  margin = arguments.as_integer("margin", margin, low=1)
  arguments.check_number("lam_min", lam_min, low=0)
  arguments.check_number("lam_max", lam_max, low=0)
  arguments.check_number("lam_decay", lam_decay, low=0)
  is_label = _inputs.as_mask(labels, cosines)
  lam = jnp.maximum(lam_min, lam_max / (1.0 + lam_decay * _inputs.as_step(step)))
  blended = (lam * cosines + _multiple_angle(cosines, margin)) / (1.0 + lam)
  return jnp.where(is_label, blended, cosines)


def sphereface_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  step: ArrayLike,
  *,
  margin: int = 4,
  lam_min: float | Array = 5.0,
  lam_max: float | Array = 1500.0,
  lam_decay: float | Array = 0.1,
) -> Array:
  """SphereFace, also called A-Softmax: the label's angle is multiplied by `margin`.

    z_j = |x| c_j,  z_y = |x| (lam c_y + psi(theta_y)) / (1 + lam)
    psi(theta) = (-1)^k cos(margin theta) - 2k on [k pi / margin, (k+1) pi / margin]
    lam = max(lam_min, lam_max / (1 + lam_decay step))

  Plain cos(margin theta), as the thesis prints it, is not monotone: psi is. The
  annealing by lam is the authors'; without it training does not start. Logits grow with
  the embedding's norm alone, since the weights are normalized. Equations 2.15 (which
  shows the additive margin in its denominator) and 2.22.

  On 7 and on 10 classes margins of 2 and 4 trained under the default annealing, most of
  which a few hundred steps do not undo; without it (`lam_max=0`) the network shrinks
  its embeddings to 0 at once and stays there (docs/results/ablations.md).

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    step: training steps done, a scalar.
    margin: an integer, at least 1; 1 gives `norm_cosine_logits`.
    lam_min: the weight of the plain cosine at the end.
    lam_max: the weight of the plain cosine at step 0.
    lam_decay: decay rate of lam; 0 and lam_max = lam_min = 0 mean no annealing.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `cosface_logits` does; TypeError also for a margin that is
      no integer.

  References:
    Liu et al., `SphereFace: Deep Hypersphere Embedding for Face Recognition
    <https://arxiv.org/abs/1704.08063>`_, 2017
  """
  cosines, norms, _ = cosines_and_norms(embeddings, weights)
  return norms * _annealed_psi(
    cosines, labels, step, margin, lam_min, lam_max, lam_decay
  )


def l_softmax_logits(
  embeddings: ArrayLike,
  weights: ArrayLike,
  labels: ArrayLike,
  step: ArrayLike,
  *,
  margin: int = 4,
  lam_min: float | Array = 5.0,
  lam_max: float | Array = 1500.0,
  lam_decay: float | Array = 0.1,
) -> Array:
  """L-Softmax: as `sphereface_logits`, with weights of any length.

    z_j = |W_j| |x| c_j,  z_y = |W_y| |x| (lam c_y + psi(theta_y)) / (1 + lam)

  The margin is an integer because cos(m theta) is expanded by multiple angles, not
  for a Taylor series. Equations 2.18 and 4.11.

  On 7 and on 10 classes margins of 2 and 4 trained under the default annealing, most of
  which a few hundred steps do not undo; without it (`lam_max=0`) the network shrinks
  its embeddings to 0 at once and stays there (docs/results/ablations.md).

  Args:
    embeddings: floating `(N, D)`.
    weights: floating `(D, K)`, the kernel of the last layer.
    labels: integer `(N,)`.
    step: training steps done, a scalar.
    margin: an integer, at least 1; 1 gives `linear_logits`.
    lam_min: the weight of the plain cosine at the end.
    lam_max: the weight of the plain cosine at step 0.
    lam_decay: decay rate of lam; 0 and lam_max = lam_min = 0 mean no annealing.

  Returns:
    Logits `(N, K)`.

  Raises:
    TypeError, ValueError: as `cosface_logits` does; TypeError also for a margin that is
      no integer.

  References:
    Liu et al., `Large-Margin Softmax Loss for Convolutional Neural Networks
    <https://arxiv.org/abs/1612.02295>`_, 2016
  """
  cosines, norms, weight_norms = cosines_and_norms(embeddings, weights)
  return (
    weight_norms
    * norms
    * _annealed_psi(cosines, labels, step, margin, lam_min, lam_max, lam_decay)
  )


sphereface = under_margin(sphereface_logits, cross_entropy, "sphereface")
l_softmax = under_margin(l_softmax_logits, cross_entropy, "l_softmax")
