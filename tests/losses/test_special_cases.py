"""Losses that some arguments turn into another loss."""

import numpy as np
import pytest

from emosynth_jax import losses
from emosynth_jax.losses.classification import SCE_READINGS

_EQUAL = np.full(7, 30)

# Of logits and labels: a loss with arguments, and what it then is.
LOGITS = {
  "focal": (
    lambda *z: losses.focal(*z, gamma=0.0, alpha=0.5),
    lambda *z: 0.5 * losses.cross_entropy(*z),
  ),
  "poly": (lambda *z: losses.poly(*z, epsilon=0.0), losses.cross_entropy),
  "real_world_weight_cross_entropy": (
    losses.real_world_weight_cross_entropy,
    losses.cross_entropy,
  ),
  "logit_adjustment, tau": (
    lambda *z: losses.logit_adjustment(*z, np.arange(7), tau=0.0),
    losses.cross_entropy,
  ),
  "logit_adjustment, counts": (
    lambda *z: losses.logit_adjustment(*z, _EQUAL, tau=2.0),
    losses.cross_entropy,
  ),
  "truncated_generalized_cross_entropy": (
    lambda *z: losses.truncated_generalized_cross_entropy(*z, threshold=0.0),
    losses.generalized_cross_entropy,
  ),
  "mam_softmax_class_count": (
    lambda *z: losses.mam_softmax_class_count(*z, _EQUAL),
    losses.mam_softmax,
  ),
} | {
  f"sce_loss, {reading}": (
    lambda *z, reading=reading: losses.sce_loss(
      *z, reading=reading, ce_weight=0.25, sce_weight=0.0
    ),
    lambda *z: 0.25 * losses.cross_entropy(*z),
  )
  for reading in SCE_READINGS
}

# Likewise of embeddings, the last layer's weights, and labels.
MARGINS = {
  "magface": (
    lambda *x: losses.magface(*x, min_margin=0.3, max_margin=0.3, norm_weight=0.0),
    lambda *x: losses.arcface(*x, margin=0.3),
  ),
  "double_am_softmax": (
    lambda *x: losses.double_am_softmax(*x, margin=0.3),
    lambda *x: losses.cosface(*x, margin=0.6),
  ),
  "ldam": (
    lambda *x: losses.ldam(*x, _EQUAL, scale=16.0, max_margin=0.3),
    lambda *x: losses.cosface(*x, scale=16.0, margin=0.3),
  ),
  "subcenter_arcface, one": (
    lambda *x: losses.subcenter_arcface(*x, sub_centers=1),
    losses.arcface,
  ),
  "subcenter_arcface, equal": (
    lambda x, w, y: losses.subcenter_arcface(
      x, np.repeat(w, 3, axis=1), y, sub_centers=3
    ),
    losses.arcface,
  ),
  "l_softmax": (
    lambda *x: losses.l_softmax(*x, 0, margin=1),
    lambda x, w, y: losses.cross_entropy(x @ w, y),
  ),
}


@pytest.mark.parametrize(("loss", "other"), LOGITS.values(), ids=LOGITS)
def test_a_loss_of_logits_is_another(data, loss, other):
  given = data.logits, data.labels
  np.testing.assert_allclose(loss(*given), other(*given), rtol=1e-6)


@pytest.mark.parametrize(("loss", "other"), MARGINS.values(), ids=MARGINS)
def test_a_loss_with_a_margin_is_another(data, loss, other):
  given = data.embeddings, data.weights, data.labels
  np.testing.assert_allclose(loss(*given), other(*given), rtol=1e-6)
