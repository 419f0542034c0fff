"""The residual network for faces: counts by hand, and what it refuses."""

import jax
import network_shapes
import numpy as np
import pytest

from emosynth_jax.models import build_model, cost


def _shapes(m, **arguments):
  model = build_model("fer_resnet", num_classes=7, **arguments)
  return network_shapes.of(model, (2, m, m, 1))


def test_sizes_by_hand():
  # Kernels by side of the maps: stem, blocks, shortcuts where the shape changes.
  at_24 = [25 * 64, 9 * 64 * 64, 9 * 64 * 64]
  at_12 = [9 * 64 * 128, 64 * 128] + 3 * [9 * 128 * 128]
  at_6 = [9 * 128 * 256, 128 * 256] + 3 * [9 * 256 * 256]
  kernels = sum(at_24) + sum(at_12) + sum(at_6)
  norms = 2 * (3 * 64 + 5 * 128 + 5 * 256)
  multiply_adds = sum(at_24) * 24**2 + sum(at_12) * 12**2 + sum(at_6) * 6**2 + 256 * 7
  # The longest path: stem, five blocks of two, the last layer.
  expected = cost.Cost(kernels + norms + 256 * 7 + 7, multiply_adds, 12)
  assert cost.count(build_model("fer_resnet", num_classes=7), (48, 48, 1)) == expected

  _, logits, out = _shapes(48)
  assert logits.shape == (2, 7)
  assert out["stage1"].shape == (2, 24, 24, 64)
  assert out["stage3"].shape == (2, 6, 6, 256)
  assert out["pre_logits"].shape == (2, 256)


def test_last_layer_takes_the_mean_of_the_last_maps():
  model = build_model("fer_resnet", num_classes=7, width=1 / 16, blocks=(1, 1, 2))
  images = jax.random.uniform(jax.random.key(1), (3, 18, 18, 1))
  (logits, out), variables = jax.jit(
    lambda k: model.init_with_output(k, images, train=False)
  )(jax.random.key(0))
  embedding = np.asarray(out["stage3"], np.float64).mean((1, 2))
  np.testing.assert_allclose(out["pre_logits"], embedding, rtol=1e-5)
  last = variables["params"]["logits"]
  np.testing.assert_allclose(logits, embedding @ last["kernel"], rtol=1e-4, atol=1e-6)
  assert "stage3_block2" in variables["params"]


def test_the_stem_is_torchs_convolution_with_padding_2():
  model = build_model("fer_resnet", num_classes=2, width=1 / 64, blocks=(1, 1, 1))
  images = np.zeros((1, 8, 8, 1), np.float32)
  images[0, 3, 4] = 1.0

  @jax.jit
  def kernel_and_response(key):
    variables = model.init(key, images, train=False)
    _, state = model.apply(variables, images, train=False, capture_intermediates=True)
    stem = state["intermediates"]["stem_conv"]["__call__"][0]
    return variables["params"]["stem_conv"]["kernel"][..., 0, 0], stem[0, ..., 0]

  kernel, response = kernel_and_response(jax.random.key(0))
  # Output (i, j) sees input (2 i + a - 2, 2 j + b - 2) through kernel (a, b).
  expected = np.zeros((4, 4))
  for i in range(4):
    for j in range(4):
      a, b = 3 - 2 * i + 2, 4 - 2 * j + 2
      if 0 <= a < 5 and 0 <= b < 5:
        expected[i, j] = kernel[a, b]
  np.testing.assert_allclose(response, expected, rtol=1e-6)


@pytest.mark.parametrize(
  ("arguments", "m", "message"),
  [
    ({"width": 0}, 48, "width"),
    ({"blocks": (1, 1)}, 48, "blocks: expected 3 numbers"),
    ({"blocks": (1, 0, 1)}, 48, "blocks: expected 3 numbers"),
    ({"dropout_rate": 1.0}, 48, "dropout_rate"),
    ({}, 4, r"sides of at least 8, got \(2, 4, 4, 1\)"),
  ],
)
def test_bad_arguments_are_refused(arguments, m, message):
  with pytest.raises(ValueError, match=message):
    _shapes(m, **arguments)
