"""The comparison networks' sizes by their sources, and what they have in common."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import network_shapes
import numpy as np
import pytest
import torch_weights

from emosynth_jax.models import build_model, efficientnet, mobilenet_v2
from emosynth_jax.models.densenet import DenseNet121
from emosynth_jax.models.mobilenet_v2 import InvertedResidual, Stage
from emosynth_jax.models.ops.convolutions import Convolution
from emosynth_jax.models.ops.squeeze_excitation import SqueezeExcitation
from emosynth_jax.models.vgg import adaptive_average_pool

NETWORKS = (
  "all_cnn",
  "densenet121",
  "efficientnet_b0",
  "mobilenet_v2",
  "resnet18",
  "resnet50",
  "vgg19",
)


def _abstract(model, side, channels=3):
  """Shapes of the variables and of the outputs, without computing."""
  return network_shapes.of(model, (2, side, side, channels))


def _count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  ("name", "parameters"),
  # timm's results/results-imagenet.csv: 11.78 M of legacy_seresnet18 and 28.09 M of
  # seresnet50; the digits are those of 2 C C / 16 + C / 16 + C a block of C channels.
  # Without squeeze and excitation: tests/models/test_cost.py.
  [("resnet18", 11_778_592), ("resnet50", 28_088_024)],
)
def test_parameters_with_squeeze_and_excitation_are_those_of_timm(name, parameters):
  model = build_model(name, num_classes=1000, stem="imagenet", se_reduction=16)
  variables, _, _ = _abstract(model, 64)
  assert _count(variables["params"]) == parameters


def test_parameters_of_all_cnn_c():
  variables, _, out = _abstract(build_model("all_cnn", num_classes=10), 32)
  # Table 1 of Springenberg et al., layer by layer; its table 3 says 1.4 M.
  maps = [(9 * 3, 96), (9 * 96, 96), (9 * 96, 96), (9 * 96, 192), (9 * 192, 192)]
  maps += [(9 * 192, 192), (9 * 192, 192), (192, 192), (192, 10)]
  assert _count(variables["params"]) == sum(i * o + o for i, o in maps) == 1_369_738
  assert [out[f"conv{i}"].shape[1] for i in range(1, 9)] == [32] * 2 + [16] * 3 + [
    8,
    6,
    6,
  ]


@pytest.mark.parametrize(
  ("name", "side", "maps"),
  [
    ("resnet18", 4, 512),
    ("resnet50", 4, 2048),
    ("densenet121", 4, 1024),
    ("mobilenet_v2", 4, 1280),
    ("efficientnet_b0", 4, 1280),
    ("vgg19", 1, 512),
    ("all_cnn", 6, 192),
  ],
)
def test_small_images_keep_their_detail_and_bfloat16_stays_inside(name, side, maps):
  model = build_model(name, num_classes=7, dtype=jnp.bfloat16)
  variables, logits, out = _abstract(model, 32, channels=1)
  assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)
  assert out["pre_logits"].shape == (2, maps)
  assert variables["params"]["logits"]["kernel"].shape == (maps, 7)
  stages = [x for key, x in out.items() if key != "pre_logits"]
  assert {x.dtype for x in stages} == {jnp.dtype("bfloat16")}
  assert stages[-1].shape[1:3] == (side, side)


@pytest.mark.parametrize("name", NETWORKS)
def test_imagenet_stem_ends_at_a_32nd_of_the_side(name):
  if name == "all_cnn":
    pytest.skip("has no ImageNet stem")
  _, _, out = _abstract(build_model(name, num_classes=7, stem="imagenet"), 64)
  stages = [x for key, x in out.items() if key != "pre_logits"]
  assert stages[-1].shape[1:3] == (2, 2)


class _ShortDenseNet(DenseNet121):
  block_sizes: ClassVar = (1, 2, 1, 1)


def _tiny(name, monkeypatch):
  """A network whose training compiles in seconds, with all kinds of its parts."""
  short = (Stage(1, 3, 16, 1, 1), Stage(6, 3, 16, 2, 2), Stage(6, 5, 24, 1, 2))
  monkeypatch.setattr(mobilenet_v2, "STAGES", short)
  monkeypatch.setattr(efficientnet, "STAGES", short)
  if name == "densenet121":
    return _ShortDenseNet(num_classes=3, width=0.125, drop_rate=0.1)
  if name == "all_cnn":
    return build_model(name, num_classes=3, width=0.125)
  return build_model(name, num_classes=3, width=0.0625, norm_momentum=0.75)


def _random_variables(model, images):
  """Like `model.init`, which takes longer to compile than a training step."""
  rng = np.random.default_rng(0)

  def fill(path, x):
    if path[-1].key == "kernel":
      return rng.normal(0, np.prod(x.shape[:-1]) ** -0.5, x.shape).astype(np.float32)
    return rng.uniform(0.5, 1, x.shape).astype(np.float32)

  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
  return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.mark.parametrize(
  "name",
  [
    # EfficientNet-B0 has its blocks too.
    pytest.param(n, marks=pytest.mark.slow) if n == "mobilenet_v2" else n
    for n in NETWORKS
    if n != "resnet50"
  ],
)
def test_training_reaches_every_parameter_and_statistic(name, monkeypatch):
  model = _tiny(name, monkeypatch)
  images = jnp.asarray(torch_weights.images(32))

  def loss(params, rest, key):
    (logits, out), updates = model.apply(
      {"params": params, **rest},
      images,
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": key},
    )
    kernel, bias = params["logits"]["kernel"], params["logits"]["bias"]
    again = out["pre_logits"] @ kernel + bias[None]
    return jnp.sum(jnp.sin(logits + jnp.arange(3.0)[None])), (logits, again, updates)

  step = jax.jit(
    jax.value_and_grad(loss, has_aux=True),
    compiler_options={"xla_backend_optimization_level": 0},
  )
  before = _random_variables(model, images)
  params = before.pop("params")
  (_, (logits, again, updates)), gradients = step(params, before, jax.random.key(0))
  (_, (other, _, _)), _ = step(params, before, jax.random.key(1))
  np.testing.assert_allclose(again, logits, rtol=1e-4, atol=1e-5)
  for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
    where = jax.tree_util.keystr(path)
    assert np.isfinite(gradient).all(), where
    # BatchNorm takes away what VGG19's convolution biases add.
    if not (name == "vgg19" and "conv" in where and "bias" in where):
      assert np.abs(gradient).max() > 0, where
  if name != "all_cnn":
    moved = jax.tree.map(lambda new, old: (new != old).any(), updates, before)
    assert all(jax.tree.leaves(moved))
  drops = name not in ("resnet18", "vgg19")  # VGG19 only in the ImageNet head.
  assert bool((other != logits).any()) == drops


def test_running_statistics_decay_by_the_momentum():
  model = build_model("resnet18", num_classes=3, width=1 / 64, norm_momentum=0.75)
  images = jnp.asarray(torch_weights.images(8))

  variables = _random_variables(model, images)
  before = variables["batch_stats"]["stem_norm"]

  def update(variables):
    _, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
    kernel = variables["params"]["stem_conv"]["kernel"]
    stem = Convolution(1).apply({"params": {"kernel": kernel}}, images)
    return updates["batch_stats"]["stem_norm"], stem

  update = jax.jit(update, compiler_options={"xla_backend_optimization_level": 0})
  statistics, stem = update(variables)
  for name, batch in (("mean", np.mean), ("var", np.var)):
    expected = 0.75 * before[name] + 0.25 * batch(stem, (0, 1, 2))
    np.testing.assert_allclose(statistics[name], expected, rtol=1e-4)


def test_stochastic_depth_drops_whole_examples_and_keeps_the_mean():
  block = InvertedResidual(
    4,
    Stage(2, 3, 4, 1, 1),
    1,
    nn.swish,
    Convolution,
    lambda name: nn.BatchNorm(use_running_average=True, name=name),
    squeeze=2,
    drop_path_rate=0.25,
    deterministic=False,
  )
  x = np.random.default_rng(1).normal(size=(400, 2, 2, 4)).astype(np.float32)
  sure = block.clone(deterministic=True)
  shapes = jax.eval_shape(lambda: sure.init(jax.random.key(0), jnp.asarray(x)))
  variables = jax.tree.map(lambda s: torch_weights.uniform("x", s.shape) + 1, shapes)
  kept = jax.jit(sure.apply)(variables, x)
  dropped = jax.jit(block.apply)(variables, x, rngs={"dropout": jax.random.key(1)})
  branch, found = kept - x, dropped - x
  gone = np.abs(found).max((1, 2, 3)) == 0
  np.testing.assert_allclose(found[~gone], branch[~gone] / 0.75, rtol=1e-3, atol=1e-5)
  assert 60 < gone.sum() < 140  # 100 expected, with a deviation of 8.7.


@pytest.mark.parametrize(("height", "width"), [(2, 3), (7, 7), (10, 15), (1, 1)])
def test_adaptive_pooling_by_its_definition(height, width):
  x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
  expected = np.zeros((2, 7, 7, 3))
  for i in range(7):
    for j in range(7):
      rows = slice(int(np.floor(i * height / 7)), int(np.ceil((i + 1) * height / 7)))
      columns = slice(int(np.floor(j * width / 7)), int(np.ceil((j + 1) * width / 7)))
      expected[:, i, j] = x[:, rows, columns].mean((1, 2))
  np.testing.assert_allclose(
    adaptive_average_pool(jnp.asarray(x), 7), expected, rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize(
  ("features", "expected"),
  # By the rule in the authors' code: nearest 8, but never less than 90 %.
  [(11.2, 16), (8.4, 8), (5.6, 8), (22.4, 24), (44.8, 48), (1792, 1792), (2, 8)],
)
def test_maps_are_rounded_to_multiples_of_eight(features, expected):
  assert mobilenet_v2.rounded(features) == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_arguments_out_of_range_are_refused(name):
  def call(shape=(1, 32, 32, 3), **arguments):
    build_model(name, num_classes=2, **arguments).init(
      jax.random.key(0), jnp.zeros(shape), train=False
    )

  with pytest.raises(ValueError, match="width: expected more than 0, got 0"):
    call(width=0)
  with pytest.raises(ValueError, match=r"images: expected .*got \(32, 32, 3\)"):
    call(shape=(32, 32, 3))
  fields = build_model(name, num_classes=2).__dataclass_fields__
  fractions = [n for n in fields if n.endswith("_rate") or n == "norm_momentum"]
  assert fractions
  for fraction in fractions:
    with pytest.raises(ValueError, match=rf"{fraction}: expected \[0, 1\), got 1"):
      call(**{fraction: 1})
  if name != "all_cnn":
    with pytest.raises(ValueError, match=r"stem: expected one of .*got 'large'"):
      call(stem="large")


@pytest.mark.parametrize(
  ("name", "arguments", "least"),
  [
    ("all_cnn", {}, 9),
    ("vgg19", {}, 32),
    ("densenet121", {}, 8),
    ("densenet121", {"stem": "imagenet"}, 29),
  ],
)
def test_images_too_small_to_leave_a_pixel_are_refused(name, arguments, least):
  model = build_model(name, num_classes=2, **arguments)
  _, _, out = _abstract(model, least)
  assert min(min(x.shape) for x in out.values()) == 1
  with pytest.raises(ValueError, match=f"sides of at least {least}"):
    _abstract(model, least - 1)


def test_squeeze_and_excitation_scales_each_channel_by_its_gate():
  x = np.random.default_rng(1).normal(size=(2, 3, 3, 8)).astype(np.float32)
  module = SqueezeExcitation(2, jnp.float32, nn.relu)
  variables = _random_variables_of(module, x)
  reduce, expand = (variables["params"][name] for name in ("reduce", "expand"))
  # Hu et al. 2018, equations 2 to 4, with biases.
  hidden = x.astype(np.float64).mean((1, 2)) @ reduce["kernel"] + reduce["bias"]
  gate = np.maximum(hidden, 0) @ expand["kernel"] + expand["bias"]
  expected = x / (1 + np.exp(-gate))[:, None, None, :]
  np.testing.assert_allclose(module.apply(variables, x), expected, rtol=1e-5)
  assert 0 < (hidden > 0).mean() < 1


def _random_variables_of(module, x):
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x))
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda s: rng.normal(size=s.shape).astype(np.float32), shapes)


def test_a_ratio_above_the_channels_leaves_one_and_a_negative_one_is_refused():
  model = build_model("resnet18", num_classes=3, width=0.0625, se_reduction=16)
  variables, _, _ = _abstract(model, 16)
  squeeze = variables["params"]["stage1_block1"]["squeeze"]
  assert squeeze["reduce"]["kernel"].shape == (4, 1)
  with pytest.raises(ValueError, match="se_reduction: expected 0 or more, got -1"):
    _abstract(build_model("resnet18", num_classes=3, se_reduction=-1), 16)
