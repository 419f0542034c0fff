"""Counts of parameters, multiply-adds and depth against sources and closed forms."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
from jax import lax

from emosynth_jax.models import build_model
from emosynth_jax.models.cost import Cost, count


@pytest.mark.parametrize(
  ("name", "arguments", "parameters", "giga", "depth"),
  # "num_params" and "GFLOPS" (multiply-adds) of the networks' pages under
  # docs.pytorch.org/vision/stable/models; depths by the networks' names, those of
  # MobileNetV2 and EfficientNet-B0 as MathWorks counts them in its table of
  # pretrained networks (53 and 82).
  [
    ("vgg19", {"norm": False}, 143_667_240, 19.632, 19),
    ("vgg19", {"norm": True}, 143_678_248, 19.632, 19),
    ("resnet18", {}, 11_689_512, 1.814, 18),
    ("resnet50", {}, 25_557_032, 4.089, 50),
    ("densenet121", {}, 7_978_856, 2.834, 121),
    ("mobilenet_v2", {}, 3_504_872, 0.301, 53),
    ("efficientnet_b0", {}, 5_288_548, 0.386, 82),
  ],
)
def test_published_counts(name, arguments, parameters, giga, depth):
  model = build_model(name, num_classes=1000, stem="imagenet", **arguments)
  cost = count(model, (224, 224, 3))
  assert (cost.parameters, cost.depth) == (parameters, depth)
  assert cost.multiply_adds / 1e9 == pytest.approx(giga, abs=5e-4)


def test_all_cnn_c_layer_by_layer():
  # Table 1 of Springenberg et al. Ours computes the 8x8 outputs of the convolution
  # without padding and keeps 6x6; and the last layer after the mean, once.
  expected = 32 * 32 * 9 * (3 * 96 + 96 * 96)
  expected += 16 * 16 * 9 * (96 * 96 + 96 * 192 + 192 * 192)
  expected += 8 * 8 * 9 * 2 * 192 * 192
  expected += 6 * 6 * 192 * 192 + 192 * 10
  cost = count(build_model("all_cnn", num_classes=10), (32, 32, 3))
  assert cost == Cost(1_369_738, expected, 9)


def test_emosynthnet_layer_by_layer():
  def module(maps):
    return 256 * maps + 25 * (64 + 96) * 96 + 9 * (128 + 192) * 192

  # Sections 3.2.1 to 3.2.3 at sides 32, 16, 8, 4; both side modules at 16; transposed
  # convolutions with sides 4 and 10; 256 maps of side 20 into the dense layers.
  expected = 32 * 32 * 9 * (3 * 32 + 32 * 64 + 2 * 64 * 64)
  expected += 16 * 16 * 9 * (64 * 128 + 3 * 128 * 128)
  expected += 8 * 8 * 9 * (128 * 256 + 3 * 256 * 256)
  expected += 4 * 4 * 9 * (256 * 512 + 2 * 512 * 512)
  expected += 16 * 16 * (module(64) + module(640))
  expected += 4 * 4 * 9 * 512 * 512 + 10 * 10 * 9 * 1408 * 256
  expected += 256 * 20 * 20 * 128 + 128 * 64 + 64 * 10
  cost = count(build_model("emosynthnet", num_classes=10), (32, 32, 3))
  # Fifteen convolutions, two transposed ones and three dense layers.
  assert (cost.multiply_adds, cost.depth) == (expected, 20)


class _Paths(nn.Module):
  """Two dense layers beside one, a constant product, and the image with itself."""

  @nn.compact
  def __call__(self, images, *, train):
    x = images.reshape(images.shape[0], -1)
    x = x @ jnp.ones((x.shape[1], 5))
    y = nn.Dense(7, name="a")(nn.Dense(6, name="b")(x)) + nn.Dense(7, name="c")(x)
    return nn.Dense(2, name="logits")(y * (x @ x.T)), {}


def test_depth_is_the_longest_path_through_kernels():
  # The constant makes 12 x 5, the layers 5 x 6, 6 x 7, 5 x 7 and 7 x 2; x x' 5.
  cost = count(_Paths(), (2, 2, 3))
  assert cost == Cost(36 + 49 + 42 + 16, 60 + 30 + 42 + 35 + 14 + 5, 3)


class _Loop(nn.Module):
  @nn.compact
  def __call__(self, images, *, train):
    return lax.fori_loop(0, 3, lambda i, x: x + i, images), {}


def test_loops_are_refused():
  with pytest.raises(ValueError, match="without loops"):
    count(_Loop(), (2, 2, 1))


def test_the_counts_are_of_evaluation_on_any_type():
  model = build_model("mobilenet_v2", num_classes=3, dtype=jnp.bfloat16, width=0.25)
  plain = build_model("mobilenet_v2", num_classes=3, width=0.25)
  assert count(model, (32, 32, 1)) == count(plain, (32, 32, 1))
