"""The FER-2013 record: teachers in one program, choices without the test split."""

import functools
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
import tiny_workdir

from emosynth_jax import losses, train_loop
from emosynth_jax.models import build_model, cost
from emosynth_jax.training import train_step
from emosynth_jax.utils import npz
from experiments import fer2013_record as command
from experiments.lib import record_recipe, record_students, teachers


def _setup():
  """Steps with a sharpness-aware gradient from the second on; the order is random."""
  return train_step.StepSetup(
    model=tiny_network.TinyNetwork(),
    loss=losses.get_loss("cross_entropy"),
    evaluation_logits=losses.get_evaluation_logits("cross_entropy"),
    optimizer=tiny_network.build_optimizer(),
    augment=lambda key, images: images.astype(jnp.float32),
    class_weights=np.ones(3, np.float32),
    sam_radius=0.1,
    sam_from_step=1,
  )


def _stacked(states):
  whole = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
  # A copy, since the program takes its state over.
  return whole.replace(step=jnp.copy(states[0].step))


def test_a_teacher_of_the_program_is_one_that_is_trained_alone():
  images, labels = tiny_network.random_images(12)
  subsets = teachers.rows_outside_folds(np.arange(12) % 3, 3, seed=0)
  setup = _setup()
  states = [tiny_network.create_state(seed=seed) for seed in range(3)]
  alone = jax.jit(
    functools.partial(train_step.train_steps, setup=setup, num_steps=2, batch_size=4)
  )
  pairs = zip(states, subsets, strict=True)
  expected = _stacked([alone(s, images[rows], labels[rows]) for s, rows in pairs])

  for mapping in teachers.MAPPINGS:
    together = teachers.compile_steps(setup, batch_size=4, num_steps=2, mapping=mapping)
    found = together(_stacked(states), images, labels, subsets)
    assert int(found.step) == 2
    for leaf, other in zip(
      jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
      np.testing.assert_allclose(leaf, other, rtol=2e-4, atol=2e-6)


def test_early_steps_of_a_batch_of_networks_do_not_pay_for_late_ones():
  images, labels = tiny_network.random_images(6)
  state = tiny_network.create_state()
  steps = teachers.compile_steps(_setup(), batch_size=2, num_steps=1, mapping="vmap")
  program = jax.make_jaxpr(steps)(
    _stacked([state, state]), images, labels, np.array([[0, 1], [2, 3]], np.int32)
  )
  # A condition on each network's own step would run both branches, for the choice.
  assert "cond[" in str(program)


def test_the_rows_of_a_teacher_are_as_many_as_the_others_and_of_other_folds():
  folds = np.array([0] * 5 + [1] * 3 + [2] * 4)
  rows = teachers.rows_outside_folds(folds, 3, seed=1)
  assert rows.shape == (3, 7)
  for fold, own in enumerate(rows):
    assert len(set(own.tolist())) == 7
    assert not (folds[own] == fold).any()
  assert (rows == teachers.rows_outside_folds(folds, 3, seed=1)).all()


@pytest.mark.usefixtures("tiny_networks")
def test_no_teacher_draws_from_its_own_fold(tmp_path, monkeypatch):
  """The subsets that the program of `train` is called with."""
  training = tiny_workdir.dataset(13, split="train")
  folds = np.array([0] * 5 + [1, 2] * 4)
  calls = []

  def compile_steps(setup, *, batch_size, num_steps, mapping):
    assert (batch_size, num_steps, mapping) == (4, 2, "map")

    def steps(states, images, labels, subsets):
      calls.append(np.asarray(subsets))
      np.testing.assert_array_equal(images, training.images)
      np.testing.assert_array_equal(labels, training.labels)
      totals = states.totals | dict.fromkeys(("steps", "count"), jnp.ones(3))
      return states.replace(step=states.step + num_steps, totals=totals)

    return steps

  monkeypatch.setattr(teachers, "compile_steps", compile_steps)
  config = tiny_workdir.config(batch_size=4, num_epochs=3)
  found = teachers.train(config, training, folds, tmp_path, num_folds=3, mapping="map")
  assert int(found.states.step) == 6
  assert len(calls) == 3
  for subsets in calls:
    # The first one's fold is the largest, and leaves eight images.
    assert subsets.shape == (3, 8)
    for fold, rows in enumerate(subsets):
      assert len(set(rows.tolist())) == 8
      assert fold not in folds[rows]
  # Each has a seed of its own.
  kernels = np.asarray(found.states.params["logits"]["kernel"])
  assert len({kernel.tobytes() for kernel in kernels}) == 3


def test_an_image_gets_the_logits_of_the_teacher_of_its_fold(monkeypatch):
  def constant(experiment):
    return lambda teacher, scale, images: jnp.tile(
      jnp.eye(3)[teacher], (len(images), 1)
    )

  monkeypatch.setattr(teachers.eval_step, "logits_of", constant)
  # Teacher f, who was trained without fold f, answers class f.
  states = types.SimpleNamespace(
    evaluation_variables=jnp.arange(3), input_scale=jnp.ones(3)
  )
  folds = np.array([2, 0, 1, 1, 0, 2, 2])
  unseen, seen = teachers.left_out_logits(
    teachers.Teachers(None, states), np.zeros((7, 4, 4, 1)), folds, batch_size=3
  )
  assert unseen.argmax(axis=1).tolist() == folds.tolist()
  assert not (seen.argmax(axis=1) == folds).any()


def test_the_estimate_stays_below_a_quarter_of_an_hour():
  parts = {name: (steps, rest) for name, steps, rest in record_recipe.estimate()}
  assert sum(steps + rest for steps, rest in parts.values()) <= 15 * 60
  # 300 epochs, 60 of them twice, against 3 teachers of 30 epochs of two thirds.
  ratio = parts["resnet18_se"][0] / parts[record_recipe.TEACHER][0]
  assert ratio == pytest.approx((300 + 60) / (3 * 30 * 2 / 3))


def test_a_small_student_has_at_most_4_mb():
  for name in ("fer_resnet", "fer_vgg"):
    model = dict(record_recipe.NETWORKS[name].model)
    network = build_model(model.pop("name"), num_classes=7, **model)
    assert 3e6 < 4 * cost.count(network, (48, 48, 1)).parameters <= 4e6


def test_no_config_has_the_test_split_and_the_gradient_is_sharp_only_late():
  for name in record_recipe.NETWORKS:
    config = record_recipe.build_config(name, data_dir="data")
    assert config.data.test_split == ""
    if name == record_recipe.TEACHER:
      assert not config.sam.radius
    else:
      late = config.num_epochs - config.sam.first_epoch + 1
      assert config.sam.radius
      assert late == config.num_epochs / 5
  with pytest.raises(ValueError, match="--data_dir: expected FER-2013's file"):
    record_recipe.build_config("fer_vgg", data_dir=None)


def test_one_student_of_a_group_is_chosen_by_its_chosen_views():
  def student(views, **losses_of_views):
    validation = {name: {"loss": x} for name, x in losses_of_views.items()}
    return {"views": views, "validation": validation}

  choices = {
    "resnet18_se": student("none", none=1.2, flip=1.3),
    "fer_resnet": student("flip", none=1.1, flip=1.0),
    "fer_vgg": student("none", none=1.05, flip=1.06),
  }
  assert record_students.choose(choices) == ["resnet18_se", "fer_resnet"]


_NETWORK = """
import flax.linen as nn
import jax.numpy as jnp

class Net(nn.Module):
  num_classes: int
  width: float = 1.0
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, images, *, train):
    x = nn.Dense(8)(images[:, ::8, ::8].reshape(images.shape[0], -1))
    x = nn.relu(x)
    return nn.Dense(self.num_classes, name="logits")(x), {"pre_logits": x}
"""


@pytest.mark.slow
def test_the_whole_command_and_its_rerun(tmp_path, monkeypatch, capsys, without_plots):
  network = tmp_path / "network.py"
  network.write_text(_NETWORK)
  model = {"name": f"{network}:Net", "width": 1.0}
  networks = {
    record_recipe.TEACHER: record_recipe.Network(model, 2, "", 0.2),
    "fer_resnet": record_recipe.Network(model, 2, "4 MB", 0.2),
  }
  monkeypatch.setattr(record_recipe, "NETWORKS", networks)
  monkeypatch.setattr(record_recipe, "STUDENTS", ("fer_resnet",))
  monkeypatch.setattr(record_recipe, "VIEWS", ("none", "flip"))
  # What takes long to compile, and is tested where it is.
  few = {"flip": True, "zoom": 0.0, "rotation": 0.0, "shift": 0.0}
  monkeypatch.setitem(record_recipe._SETTINGS, "augment", few)
  given = types.SimpleNamespace(
    estimate=False, rehearse=True, data_dir=None, mapping="map", workdir=tmp_path / "w"
  )
  command.run(given)
  printed = capsys.readouterr().out
  summary = json.loads((tmp_path / "w/summary.json").read_text())
  student = summary["students"]["fer_resnet"]
  chosen = student["validation"][student["views"]]["loss"]
  assert chosen == min(each["loss"] for each in student["validation"].values())
  assert f"{100 * student['test']['views']:.2f}" in printed
  assert "a rehearsal, no result" in printed

  assert f"{100 * student['test']['deduplicated']:.2f}" in printed

  # Beside the teacher's probabilities, the mean label of an image's near-duplicates.
  soft = npz.read_npz(tmp_path / "w/soft_labels.npz")
  logits = npz.read_npz(tmp_path / "w/teacher_logits.npz")["unseen"]
  groups = npz.read_npz(tmp_path / "w/folds.npz")["duplicates"]
  exact = np.exp(logits.astype(np.float64))
  taught = exact / exact.sum(axis=1, keepdims=True)
  labels = np.eye(logits.shape[1])[soft["labels"]]
  mean = np.stack([labels[groups == group].mean(axis=0) for group in groups])
  np.testing.assert_allclose(soft["soft_labels"], 0.7 * taught + 0.3 * mean, atol=1e-6)

  def refuse(*_, **__):
    raise AssertionError("it is done")

  for module, name in (
    (teachers, "train"),
    (train_loop, "train"),
    (record_students.evaluate, "evaluate_run"),
  ):
    monkeypatch.setattr(module, name, refuse)
  command.run(given)
  again = json.loads((tmp_path / "w/summary.json").read_text())
  assert again["students"] == summary["students"]
