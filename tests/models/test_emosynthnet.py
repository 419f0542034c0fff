"""EmoSynthNet's sizes and counts against the thesis's text, and its interface."""

import jax
import jax.numpy as jnp
import network_shapes
import numpy as np
import pytest

from emosynth_jax.models import build_model, cost, emosynthnet

# What is looked at runs once: compiling it costs more, and op by op still more.
_QUICK = {"xla_backend_optimization_level": 0}


def _quickly(function, *arguments):
  return jax.jit(function, compiler_options=_QUICK)(*arguments)


def _abstract(model, m, channels):
  """Shapes of the variables and of the outputs, without computing."""
  variables, *outputs = network_shapes.of(model, (2, m, m, channels))
  return variables, outputs


def _count(tree):
  return sum(x.size for x in jax.tree.leaves(tree))


def _layers(tree, key="kernel"):
  return [
    jax.tree_util.keystr(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    if path[-1].key == key
  ]


@pytest.fixture(scope="module")
def small():
  """A tiny network with its variables, compiled once."""
  model = build_model("emosynthnet", num_classes=7, width=1 / 32, dropout_rate=0.5)
  images = jax.random.uniform(jax.random.key(1), (6, 32, 32, 1))
  variables = _quickly(lambda k: model.init(k, images, train=False), jax.random.key(0))
  return model, variables, images


@pytest.fixture(scope="module")
def in_training(small):
  """The tiny network's outputs and updates in training."""
  model, variables, images = small
  return _quickly(
    lambda v: model.apply(
      v,
      images,
      train=True,
      mutable=["batch_stats"],
      rngs={"dropout": jax.random.key(0)},
    ),
    variables,
  )


@pytest.mark.parametrize("m", [32, 48, 64])
def test_sides_and_maps_of_section_3_2(m):
  _, (logits, out) = _abstract(build_model("emosynthnet", num_classes=10), m, 3)
  assert logits.shape == (2, 10)
  for i, maps in enumerate((64, 128, 256, 512), start=1):
    assert out[f"block{i}"].shape == (2, m // 2**i, m // 2**i, maps)
  assert out["side"].shape[1:3] == (m // 16 + 2, m // 16 + 2)
  assert out["upsample1"].shape == (2, m // 8 + 4, m // 8 + 4, 1408)
  assert out["block5"].shape == (2, m // 4 + 12, m // 4 + 12, 256)
  assert out["pre_logits"].shape == (2, 64)


@pytest.mark.parametrize("m", [32, 48])
def test_first_dense_layer_takes_256_maps_of_m_over_4_plus_12(m):
  variables, _ = _abstract(build_model("emosynthnet", num_classes=10), m, 3)
  kernel = variables["params"]["dense1"]["kernel"]
  assert kernel.shape == (256 * (m // 4 + 12) ** 2, 128)


def test_34_layers_14_at_the_side_and_20_in_the_main_branch():
  variables, _ = _abstract(build_model("emosynthnet", num_classes=10), 32, 3)
  names = _layers(variables["params"])
  side = [name for name in names if "side" in name]
  assert (len(side), len(names) - len(side)) == (14, 20)


def _conv(k, inputs, features):
  return k * k * inputs * features + features


def _norms(*features):
  return sum(2 * f for f in features)  # Scale and bias; the statistics don't count.


def _module(inputs):
  """Parameters of the module of section 3.2.2 by its sentence."""
  return (
    _conv(1, inputs, 64)
    + _conv(5, 64, 96)
    + _conv(5, 96, 96)
    + _conv(1, inputs, 64)
    + _conv(1, inputs, 128)
    + _conv(3, 128, 192)
    + _conv(3, 192, 192)
  )


@pytest.mark.parametrize(("m", "channels", "classes"), [(32, 3, 10), (48, 1, 7)])
def test_parameters_of_each_block(m, channels, classes):
  variables, _ = _abstract(build_model("emosynthnet", num_classes=classes), m, channels)
  # Worked out from the layer sizes in sections 3.2.1 to 3.2.3, not from the code.
  expected = {
    "block1": _conv(3, channels, 32)
    + _conv(3, 32, 64)
    + 2 * _conv(3, 64, 64)
    + _norms(32, 64, 64, 64),
    "block2": _conv(3, 64, 128) + 3 * _conv(3, 128, 128) + _norms(*4 * (128,)),
    "block3": _conv(3, 128, 256) + 3 * _conv(3, 256, 256) + _norms(*4 * (256,)),
    "block4": _conv(3, 256, 512) + 2 * _conv(3, 512, 512) + _norms(*3 * (512,)),
    "side1": _module(64),
    "side2": _module(640),
    "transposed1": _conv(3, 512, 512),
    "transposed2": _conv(3, 1408, 256),
    "dense1": 256 * (m // 4 + 12) ** 2 * 128 + 128,
    "dense2": 128 * 64 + 64,
    "logits": 64 * classes + classes,
  }
  found = {name: _count(block) for name, block in variables["params"].items()}
  assert found == expected
  # "About 29 M at 32x32x3 and 35 M at 48x48x1" is what the reading comes to.
  assert round(sum(found.values()) / 1e6) == {32: 29, 48: 35}[m]


def test_the_default_side_input_is_the_nearest_to_table_3_2():
  """1.12 G multiply-adds, says the thesis. The count itself: test_cost.py."""

  def off(side_input):
    model = build_model("emosynthnet", num_classes=10, side_input=side_input)
    return abs(cost.count(model, (32, 32, 3)).multiply_adds - 1.12e9)

  default = build_model("emosynthnet", num_classes=10).side_input
  assert default == min(emosynthnet.SIDE_INPUTS, key=off)


@pytest.mark.parametrize(
  ("arguments", "maps"),
  [({"skip": "none"}, 1152), ({"side_input": "image"}, 1408)],
)
def test_alternative_readings_change_the_concatenation(arguments, maps):
  model = build_model("emosynthnet", num_classes=10, **arguments)
  _, (_, out) = _abstract(model, 48, 3)
  assert out["upsample1"].shape == (2, 10, 10, maps)


@pytest.mark.parametrize("synthesis", ["norm", "linear"])
def test_synthesis_readings(synthesis):
  model = build_model("emosynthnet", num_classes=10, synthesis=synthesis)
  variables, _ = _abstract(model, 32, 3)
  norms = [n for n in _layers(variables["params"], "scale") if "transposed" in n]
  assert len(norms) == (2 if synthesis == "norm" else 0)


def test_norm_order_is_where_the_norm_stands(small, in_training):
  _, variables, images = small
  model = build_model("emosynthnet", num_classes=7, width=1 / 32, norm_order="first")
  (_, norm_first), _ = _quickly(
    lambda v: model.apply(v, images, train=True, mutable=["batch_stats"]), variables
  )
  (_, norm_last), _ = in_training  # The default.

  # Without a shortcut, norm last leaves maps of mean 0; ELU last leaves them above -1
  # and off 0.
  for out, is_last in ((norm_first, False), (norm_last, True)):
    means = np.asarray(out["block2"]).mean((0, 1, 2))
    assert (np.abs(means).max() < 1e-4) == is_last
  assert np.asarray(norm_first["block2"]).min() >= -1


def test_width_scales_the_maps_and_not_the_embedding():
  model = build_model("emosynthnet", num_classes=7, width=0.125)
  _, (_, out) = _abstract(model, 48, 1)
  assert out["upsample1"].shape[-1] == 1408 // 8
  assert out["pre_logits"].shape == (2, 64)


def test_bfloat16_computes_in_it_and_keeps_parameters_in_float32(small):
  _, variables, images = small
  model = build_model("emosynthnet", num_classes=7, width=1 / 32, dtype=jnp.bfloat16)
  (logits, out), updates = _quickly(
    lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]),
    variables,
    images,
  )
  assert logits.dtype == jnp.float32
  assert out["block4"].dtype == out["side"].dtype == jnp.bfloat16
  assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
  initial = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
  assert {x.dtype for x in jax.tree.leaves(initial)} == {jnp.dtype("float32")}


def test_dropout_acts_in_training_only(small):
  model, variables, images = small

  def logits(train):
    apply = jax.jit(
      lambda key: model.apply(
        variables, images, train=train, mutable=["batch_stats"], rngs={"dropout": key}
      )[0][0],
      compiler_options=_QUICK,
    )
    return [apply(jax.random.key(seed)) for seed in (0, 1)]

  np.testing.assert_array_equal(*logits(False))
  first, second = logits(True)
  assert np.abs(first - second).max() > 1e-3


def test_evaluation_of_an_image_does_not_depend_on_its_batch(small):
  model, variables, images = small
  apply = jax.jit(lambda x: model.apply(variables, x, train=False)[0])
  together, alone = apply(images), jnp.concatenate([apply(x[None]) for x in images])
  np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_merged_upsampling_computes_the_same(small):
  model, variables, images = small
  plain = model.clone(merge_upsampling=False)

  def logits_and_gradient(model):
    def loss(params):
      given = {**variables, "params": params}
      logits, _ = model.apply(given, images, train=False)
      return jnp.sum(logits**2), logits

    names = ("transposed1", "transposed2", "dense1", "block3")
    compute = jax.jit(
      jax.grad(loss, has_aux=True),
      compiler_options={"xla_backend_optimization_level": 0},
    )
    gradients, logits = compute(variables["params"])
    return {"logits": logits} | {name: gradients[name] for name in names}

  found, expected = logits_and_gradient(model), logits_and_gradient(plain)
  for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * np.abs(want).max())


def test_the_last_layer_turns_the_embedding_into_the_logits(small, in_training):
  _, variables, _ = small
  (logits, out), _ = in_training
  last = variables["params"]["logits"]
  expected = np.asarray(out["pre_logits"]) @ last["kernel"] + last["bias"][None]
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_training_updates_the_running_statistics(small, in_training):
  _, variables, _ = small
  _, updates = in_training
  before, after = variables["batch_stats"], updates["batch_stats"]
  assert jax.tree.structure(after) == jax.tree.structure(before)
  moved = jax.tree.map(lambda old, new: np.abs(new - old).max() > 0, before, after)
  still = [path for path, is_moved in jax.tree.leaves_with_path(moved) if not is_moved]
  assert still == []


@pytest.mark.parametrize("shape", [(1, 28, 28, 1), (1, 16, 16, 1), (1, 32, 48, 1)])
def test_refuses_sides_that_do_not_fit(shape):
  model = build_model("emosynthnet", num_classes=7)
  with pytest.raises(ValueError, match="multiple of 16 and at least 32"):
    network_shapes.of(model, shape)


@pytest.mark.parametrize(
  ("argument", "value"),
  [
    ("norm_order", "other"),
    ("side_input", "other"),
    ("skip", "other"),
    ("synthesis", "other"),
    ("width", 0.0),
    ("width", -1.0),
    ("dropout_rate", 1.5),
    ("dropout_rate", -0.5),
    ("norm_momentum", 3.0),
    ("dense_features", (0,)),
    ("dense_features", ()),
  ],
)
def test_refuses_arguments_out_of_range(argument, value):
  model = build_model("emosynthnet", num_classes=7, **{argument: value})
  expected = r"one of .*'other'" if value == "other" else ""
  with pytest.raises(ValueError, match=f"{argument}: expected {expected}"):
    network_shapes.of(model, (1, 32, 32, 1))


def test_refuses_an_unknown_network_or_argument():
  with pytest.raises(ValueError, match=r"unknown model 'vgg'.* Known: .*emosynthnet"):
    build_model("vgg", num_classes=7)
  with pytest.raises(
    ValueError, match=r"no argument 'widht'; did you mean width.* Known: .*width"
  ):
    build_model("emosynthnet", num_classes=7, widht=0.5)
