import functools

import jax
import numpy as np
import pytest
import scipy.stats
from small_network import load

from emosynth_jax.analysis.gradcam import grad_cam, sanity_check


def test_rank_correlations_are_scipys():
  rng = np.random.default_rng(0)
  first = rng.integers(0, 6, (4, 3, 5)).astype(float)  # With ties.
  second = first + rng.integers(0, 4, first.shape)
  expected = [
    scipy.stats.spearmanr(a.ravel(), b.ravel()).statistic
    for a, b in zip(first, second, strict=True)
  ]
  np.testing.assert_allclose(
    sanity_check.rank_correlations(first, second), expected, rtol=1e-12
  )
  second[1] = 7
  found = sanity_check.rank_correlations(first, second)
  assert np.isnan(found).tolist() == [False, True, False, False]
  with pytest.raises(ValueError, match="expected one shape"):
    sanity_check.rank_correlations(first, second[:, :2])


def test_layers_come_in_the_order_of_use():
  model, variables, images, _, _ = load("relu")
  apply_fn = grad_cam.flax_apply_fn(model)
  assert sanity_check.layers_in_order(apply_fn, variables, images) == [
    "conv1",
    "norm1",
    "conv2",
    "norm2",
    "logits",
  ]


def test_a_map_of_the_network_changes_and_one_of_the_image_does_not():
  model, variables, images, targets, _ = load("elu")
  apply_fn = grad_cam.flax_apply_fn(model, modules=True)
  fresh = jax.jit(functools.partial(model.init, train=False))(jax.random.key(3), images)

  edges = np.abs(np.diff(images, axis=1))

  @jax.jit
  def saliency(variables):
    cam = grad_cam.grad_cam(
      apply_fn, variables, images, layer="stage1", targets=targets
    )
    return {"grad_cam": cam.maps, "edges": edges}

  layers = sanity_check.layers_in_order(apply_fn, variables, images)
  found = sanity_check.cascading_randomization(saliency, variables, fresh, layers)
  assert list(found) == layers[::-1]
  # On the way down they fall; the last step is the fresh network as a whole.
  assert np.nanmean(found["logits"]["grad_cam"]) < 0.9
  assert np.nanmean(found["conv1"]["grad_cam"]) < 0.5
  np.testing.assert_allclose(
    found["conv1"]["grad_cam"],
    sanity_check.rank_correlations(
      saliency(variables)["grad_cam"], saliency(fresh)["grad_cam"]
    ),
  )
  for kinds in found.values():
    np.testing.assert_allclose(kinds["edges"], 1)


def test_mistakes_are_named():
  _, variables, _, _, _ = load("elu")
  check = functools.partial(
    sanity_check.cascading_randomization, lambda variables: {}, variables
  )
  with pytest.raises(ValueError, match=r"expected some of \['conv1', .* got 'conv'"):
    check(variables, ["conv"])
  with pytest.raises(ValueError, match="fresh: expected arrays"):
    check({"params": {}}, ["conv1"])
