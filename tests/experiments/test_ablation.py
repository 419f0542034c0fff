"""Members of a grid against the same trainings done one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_network
from tiny_network import TinyNetwork

from emosynth_jax import losses
from emosynth_jax.metrics import classification
from emosynth_jax.training import state as train_state
from emosynth_jax.training import train_step
from experiments.lib import ablation, ablation_members

_GRID = [
  {"loss": "cross_entropy"},
  {"loss": "arcface", "scale": [8.0, 16.0], "margin": 0.3},
  {"loss": "mam_softmax_class_ema", "kappa": 1.0},
  {"loss": "sphereface", "margin": [2, 3]},
]
_EPOCHS, _BATCH = 2, 8


def _augment(key, images):
  return images + jax.random.uniform(key, images.shape, maxval=50.0)


@pytest.fixture(scope="module")
def arrays():
  return tiny_network.random_images(27), tiny_network.random_images(11, seed=2)


def _arguments():
  return {
    "model": TinyNetwork(),
    "build_optimizer": lambda rate: optax.adam(optax.cosine_decay_schedule(rate, 6)),
    "augment": _augment,
    "num_classes": 3,
    "num_epochs": _EPOCHS,
    "batch_size": _BATCH,
    "eval_batch_size": 4,
  }


def _formulas(settings):
  return list(dict.fromkeys(ablation_members.formula_of(s)[0] for s in settings))


def _stack(members, formulas):
  return ablation_members.stack_members(
    [ablation_members.Member(*member, learning_rate=0.02) for member in members],
    formulas,
  )


def _one_by_one(setting, seed, arrays):
  """The training without formulas that are data: the loss as any run uses it."""
  (images, labels), (test_images, test_labels) = arrays
  arguments = {k: v for k, v in setting.items() if k != "loss"}
  given = _arguments()
  optimizer = given["build_optimizer"](0.02)
  evaluation_logits = losses.get_evaluation_logits(setting["loss"], **arguments)
  state = jax.jit(
    functools.partial(
      train_state.create_train_state,
      model=given["model"],
      optimizer=optimizer,
      plateau=tiny_network.build_plateau(),
      image_shape=images.shape[1:],
      input_scale=1 / 255,
      init_loss_state=functools.partial(losses.init_state, setting["loss"], 3),
    )
  )(jax.random.key(seed))
  steps = train_step.StepSetup(
    model=given["model"],
    loss=losses.get_loss(setting["loss"], **arguments),
    evaluation_logits=evaluation_logits,
    class_counts=jnp.bincount(labels, length=3),
    optimizer=optimizer,
    augment=_augment,
    class_weights=np.ones(3, np.float32),
  )
  run = train_step.compile_train_steps(steps, batch_size=_BATCH)
  for _ in range(_EPOCHS):
    state = state.replace(totals=train_state.zero_totals())
    state = run(state, images, labels, num_steps=len(images) // _BATCH)
  logits, out = jax.jit(functools.partial(given["model"].apply, train=False))(
    state.variables, test_images / 255
  )
  logits = evaluation_logits(
    **losses.select_inputs(
      evaluation_logits,
      logits=logits,
      embeddings=out["pre_logits"],
      weights=state.params["logits"]["kernel"],
    )
  )
  loss = state.totals["loss"] / state.totals["steps"]
  return float(loss), classification.summarize(
    [classification.batch_statistics(logits, test_labels, None, 3)], "abc"
  )


def test_members_of_one_program_are_the_trainings_one_by_one(arrays):
  settings = ablation_members.expand_grid(_GRID)
  formulas = _formulas(settings)
  run = ablation.compile_members("map", formulas, **_arguments())
  members = [(settings[2], 0), (settings[3], 3), (settings[4], 1)]
  test_images, test_labels = arrays[1]
  others = test_images, (test_labels + 1) % 3
  out = jax.device_get(run(_stack(members, formulas), *arrays, others))
  for i, (setting, seed) in enumerate(members):
    own = jax.tree.map(lambda leaf, i=i: leaf[i], out)
    loss, summary = _one_by_one(setting, seed, arrays)
    assert own["loss"][-1] == pytest.approx(loss, rel=1e-4), setting
    ours = classification.summarize(own["statistics"], "abc")
    assert ours["loss"] == pytest.approx(summary["loss"], rel=1e-3), setting
    assert ours["accuracy"] == summary["accuracy"]
    # Of each class the images that are taken for the next one.
    confused = np.asarray(summary["confusion_matrix"])[range(3), (1, 2, 0)].sum()
    memorized = classification.summarize(own["memorized"], "abc")["accuracy"]
    assert memorized == pytest.approx(confused / len(test_labels))
    assert (own["bad_step"] == -1).all()


@pytest.mark.slow
def test_every_mapping_trains_alike(arrays):
  settings = ablation_members.expand_grid(_GRID[:2])
  formulas = _formulas(settings)
  # One device here; the number of members has to be a multiple of it.
  members = _stack([(s, 1) for s in settings], formulas)
  by_turn = ablation.compile_members("map", formulas, **_arguments())(members, *arrays)
  for mapping in ("vmap", "devices"):
    run = ablation.compile_members(mapping, formulas, **_arguments())
    np.testing.assert_allclose(
      run(members, *arrays)["loss"], by_turn["loss"], rtol=1e-4
    )


@pytest.mark.slow
def test_seeds_are_paired(arrays):
  # With a weight of 0 the other loss is cross-entropy: nothing else may differ.
  settings = ablation_members.expand_grid(
    [{"loss": "cross_entropy"}, {"loss": "mam_softmax", "kappa": 0.0}]
  )
  formulas = _formulas(settings)
  run = ablation.compile_members("map", formulas, **_arguments())
  members = [(s, seed) for seed in (0, 1) for s in settings]
  loss = run(_stack(members, formulas), *arrays)["loss"]
  np.testing.assert_allclose(loss[0], loss[1], rtol=1e-5)
  np.testing.assert_allclose(loss[2], loss[3], rtol=1e-5)
  assert abs(loss[0, 0] - loss[2, 0]) > 1e-3


def test_a_step_that_is_not_finite_is_told(arrays):
  settings = ablation_members.expand_grid([{"loss": "cross_entropy"}])
  formulas = _formulas(settings)
  # An infinite rate: the first step's update is not finite, so the second's loss.
  run = ablation.compile_members(
    "map",
    formulas,
    **_arguments() | {"build_optimizer": lambda rate: optax.sgd(np.inf)},
  )
  out = run(_stack([(settings[0], 0)], formulas), *arrays)
  # Three steps an epoch; the mean over an epoch with such a step is no number.
  assert out["bad_step"].tolist() == [[1, 3]]
  assert np.isnan(out["loss"]).all()


def test_expand_grid_makes_all_combinations_once():
  settings = ablation_members.expand_grid(
    [
      {"loss": "arcface", "scale": [8.0, 16.0], "margin": (0.1, 0.2)},
      {"loss": "arcface", "scale": 8.0, "margin": 0.1},
    ]
  )
  assert [(s["scale"], s["margin"]) for s in settings] == [
    (8.0, 0.1),
    (8.0, 0.2),
    (16.0, 0.1),
    (16.0, 0.2),
  ]


@pytest.mark.parametrize(
  ("entry", "message"),
  [
    ({"loss": "arcfase"}, "unknown loss 'arcfase'; did"),
    ({"loss": "arcface", "kappa": [1.0]}, "takes no argument 'kappa'. Known"),
  ],
)
def test_expand_grid_refuses_what_no_loss_knows(entry, message):
  with pytest.raises(ValueError, match=message):
    ablation_members.expand_grid([entry])


@pytest.mark.parametrize(
  ("setting", "message"),
  [
    ({"loss": "cosface", "margin": -0.1}, r"margin: expected a number in \[0, inf\]"),
    ({"loss": "mam_softmax+focal", "gamma": -1.0}, "gamma: expected"),
    ({"loss": "sce_loss", "reading": "batsch"}, "reading: expected one of batch"),
  ],
)
def test_values_that_a_loss_refuses_are_refused_before_they_are_data(setting, message):
  with pytest.raises(ValueError, match=message):
    ablation_members.check_values(setting, 3)


def test_floats_are_data_and_all_else_is_formula():
  one, numbers = ablation_members.formula_of(
    {"loss": "arcface", "scale": 8.0, "margin": 0.3}
  )
  two, _ = ablation_members.formula_of(
    {"loss": "arcface", "margin": 0.1, "scale": 64.0}
  )
  assert one == two
  assert numbers == (0.3, 8.0)
  assert (
    ablation_members.formula_of({"loss": "sphereface", "margin": 2})[0]
    != ablation_members.formula_of({"loss": "sphereface", "margin": 3})[0]
  )


def test_unknown_mapping_is_refused():
  with pytest.raises(ValueError, match="map, vmap, devices"):
    ablation.compile_members("pmap", [])
