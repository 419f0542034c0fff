"""A training step against plain arithmetic, and what a run of steps promises."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_network
from compilation import AS_USED
from tiny_network import TinyNetwork

from emosynth_jax import losses
from emosynth_jax.parallel.mesh import build_placement
from emosynth_jax.training import programs
from emosynth_jax.training import state as train_state
from emosynth_jax.training.train_step import (
  Batch,
  StepSetup,
  ascend,
  compile_train_steps,
  epoch_order,
  train_step,
  train_steps,
)

_LEARNING_RATE, _B1, _B2, _EPSILON = 0.01, 0.9, 0.999, 1e-8


def _no_augmentation(key, images):
  return images.astype(jnp.float32)


def _mix_with_next(key, images, one_hot):
  """A mixup without chance."""
  mix = lambda x: 0.3 * x + 0.7 * jnp.roll(x, -1, axis=0)  # noqa: E731
  return mix(images), mix(one_hot)


def _arguments(**changes):
  """What the steps of a run have in common, without anything random."""
  return {
    "model": TinyNetwork(),
    "loss": losses.get_loss("cross_entropy"),
    "evaluation_logits": losses.get_evaluation_logits("cross_entropy"),
    "optimizer": tiny_network.build_optimizer(),
    "augment": _no_augmentation,
    "mixup": None,
  } | changes


def _step(**arguments):
  """`train_step` as a function of the class weights too."""

  def step(state, images, labels, class_weights):
    setup = StepSetup(class_weights=class_weights, **arguments)
    return train_step(state, Batch(images, labels), setup=setup)

  return step


def _random_arguments():
  """All that draws from the run's key at once; quicker to compile than the real one."""

  def add_noise(key, images):
    return images + jax.random.uniform(key, images.shape, maxval=50.0)

  def mix(key, images, one_hot):
    share = jax.random.uniform(key)
    return tuple(share * x + (1 - share) * x[::-1] for x in (images, one_hot))

  return _arguments(model=TinyNetwork(dropout_rate=0.4), augment=add_noise, mixup=mix)


def _leaves(tree):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def _assert_identical(tree, other):
  for leaf, other_leaf in zip(_leaves(tree), _leaves(other), strict=True):
    np.testing.assert_array_equal(leaf, other_leaf, strict=True)


def _assert_close(tree, other, *, rtol, atol=0.0):
  for leaf, other_leaf in zip(_leaves(tree), _leaves(other), strict=True):
    np.testing.assert_allclose(leaf, other_leaf, rtol=rtol, atol=atol)


def _differ(tree, other):
  pairs = zip(_leaves(tree), _leaves(other), strict=True)
  return any((leaf != other_leaf).any() for leaf, other_leaf in pairs)


@pytest.fixture(scope="module")
def batch():
  return tiny_network.random_images(6)


_WEIGHTS = np.array([0.5, 1.0, 3.0], np.float32)


@pytest.mark.parametrize(
  ("clip", "scale", "input_scale", "weights", "mixup", "soft"),
  [
    (0.0, 1.0, 1 / 255, np.ones(3, np.float32), None, False),
    (0.05, 0.1, 1 / 512, _WEIGHTS, None, False),
    (0.0, 1.0, 1 / 255, _WEIGHTS, _mix_with_next, False),
    (0.0, 1.0, 1 / 255, _WEIGHTS, None, True),
    (0.0, 1.0, 1 / 255, _WEIGHTS, _mix_with_next, True),
  ],
  ids=[
    "plain",
    "clipped, decayed, weighted",
    "mixed, weighted",
    "soft labels, weighted",
    "soft labels, mixed, weighted",
  ],
)
def test_steps_are_adam_on_the_weighted_mean_loss(
  batch, clip, scale, input_scale, weights, mixup, soft
):
  images, labels = batch
  targets = np.eye(3, dtype=np.float32)[labels]
  if soft:
    # The most probable class is still the label.
    targets = 0.6 * targets + 0.4 * np.float32([0.1, 0.4, 0.5])
  model = TinyNetwork()
  state = tiny_network.create_state(model, gradient_clip=clip)
  state = state.replace(
    plateau=state.plateau._replace(scale=jnp.float32(scale)),
    input_scale=jnp.float32(input_scale),
  )
  optimizer = tiny_network.build_optimizer(gradient_clip=clip)
  step = jax.jit(_step(**_arguments(optimizer=optimizer, mixup=mixup)))

  given = targets if soft else labels
  inputs = np.asarray(images, np.float32)
  if mixup:
    inputs = 0.3 * inputs + 0.7 * np.concatenate([inputs[1:], inputs[:1]])
    targets = 0.3 * targets + 0.7 * np.concatenate([targets[1:], targets[:1]])

  @jax.jit
  def loss_of(params, batch_stats):
    (logits, _), updated = model.apply(
      {"params": params, "batch_stats": batch_stats},
      inputs * input_scale,
      train=True,
      mutable=["batch_stats"],
    )
    negative = -jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1)
    aux = logits, updated["batch_stats"], jnp.mean(negative)
    return jnp.sum(negative * (targets @ weights)) / 6, aux

  params, batch_stats = state.params, state.batch_stats
  first = jax.tree.map(np.zeros_like, params)
  second = jax.tree.map(np.zeros_like, params)
  loss_sum = norm_sum = correct = cross_entropy_sum = 0
  for t in range(1, 4):
    state = step(state, images, given, weights)

    (value, (logits, batch_stats, cross_entropy)), gradient = jax.value_and_grad(
      loss_of, has_aux=True
    )(params, batch_stats)
    norm = np.sqrt(sum(np.sum(np.square(g, dtype=float)) for g in _leaves(gradient)))
    assert norm > 0.05  # or the clipping would show nothing
    loss_sum, norm_sum = loss_sum + value, norm_sum + norm
    cross_entropy_sum += cross_entropy
    # Of a mixed image the class with the larger share.
    correct += np.sum(np.argmax(logits, -1) == np.argmax(targets, -1))
    factor = min(1, clip / norm) if clip else 1
    gradient = jax.tree.map(lambda g, f=factor: f * np.asarray(g), gradient)
    first = jax.tree.map(lambda m, g: _B1 * m + (1 - _B1) * g, first, gradient)
    second = jax.tree.map(lambda v, g: _B2 * v + (1 - _B2) * g**2, second, gradient)
    params = jax.tree.map(
      lambda p, m, v, t=t: (
        p
        - scale
        * _LEARNING_RATE
        * (m / (1 - _B1**t))
        / (np.sqrt(v / (1 - _B2**t)) + _EPSILON)
      ),
      params,
      first,
      second,
    )

  close = functools.partial(_assert_close, rtol=2e-4, atol=2e-6)
  close(state.params, params)
  close(state.batch_stats, batch_stats)
  close(state.totals["loss"], loss_sum)
  close(state.totals["cross_entropy"], cross_entropy_sum)
  close(state.totals["gradient_norm"], norm_sum)
  assert int(state.totals["correct"]) == correct
  assert int(state.totals["count"]) == 18
  assert int(state.totals["steps"]) == int(state.step) == 3
  assert int(state.totals["bad_step"]) == -1


def test_the_cross_entropy_of_a_step_has_neither_margin_nor_weights(batch):
  totals = {}
  for name in ("cross_entropy", "mam_softmax+sce_loss"):
    loss = {
      "loss": losses.get_loss(name),
      "evaluation_logits": losses.get_evaluation_logits(name),
    }
    step = jax.jit(_step(**_arguments(**loss)))
    totals[name] = step(tiny_network.create_state(), *batch, _WEIGHTS).totals
  plain, margin = totals.values()
  # Of the first step's logits, which no loss has changed yet.
  assert float(margin["cross_entropy"]) == float(plain["cross_entropy"])
  assert abs(float(margin["loss"]) - float(plain["loss"])) > 0.01
  assert abs(float(plain["cross_entropy"]) - float(plain["loss"])) > 0.01


@pytest.mark.slow
def test_a_step_is_the_same_without_jit(batch):
  step = _step(**_arguments())
  state = tiny_network.create_state()
  eager, compiled = (
    step(state, *batch, _WEIGHTS),
    jax.jit(step)(state, *batch, _WEIGHTS),
  )
  _assert_close(eager, compiled, rtol=1e-3, atol=1e-6)


class _Dropout(nn.Module):
  """What a layer's dropout draws from, given the key that the network was given."""

  @nn.compact
  def __call__(self):
    return self.make_rng("dropout")


def test_no_two_uses_and_no_two_steps_share_a_random_stream(batch, monkeypatch):
  keys = {"step": [], "augment": [], "mixup": [], "order": [], "dropout": []}

  def note(use, key):
    jax.debug.callback(
      lambda data: keys[use].append(tuple(data.tolist())), jax.random.key_data(key)
    )

  def spy_augment(key, images):
    note("augment", key)
    return images.astype(jnp.float32)

  def spy_mixup(key, images, one_hot):
    note("mixup", key)
    return images, one_hot

  class Dropped(TinyNetwork):
    @nn.compact
    def __call__(self, images, *, train):
      if train:
        note("dropout", self.make_rng("dropout"))
      return super().__call__(images, train=train)

  split = jax.random.split

  def spy_split(key, num=2):
    if num == 3:  # The step's, of which those of the three uses are made.
      note("step", key)
    return split(key, num)

  monkeypatch.setattr(jax.random, "split", spy_split)
  step = jax.jit(
    _step(**_arguments(model=Dropped(), augment=spy_augment, mixup=spy_mixup))
  )
  for seed in (0, 1):
    state = step(tiny_network.create_state(seed=seed), *batch, _WEIGHTS)
    step(state, *batch, _WEIGHTS)
  jax.effects_barrier()
  # The order of the images, of epochs of one step.
  monkeypatch.setattr(jax.random, "permutation", lambda key, _: note("order", key))
  for seed in (0, 1):
    for number in (0, 1):
      key = tiny_network.create_state(seed=seed).key
      epoch_order(key, jnp.int32(number), num_images=6, batch_size=6)
  jax.effects_barrier()
  # The layer's own key is derived from the one that the step hands over: as the others
  # would be, had they been handed over.
  for use in ("augment", "mixup", "order"):
    for data in list(keys[use]):
      key = jax.random.wrap_key_data(jnp.array(data, jnp.uint32))
      derived = _Dropout().apply({}, rngs={"dropout": key})
      keys[use].append(tuple(jax.random.key_data(derived).tolist()))
  every = [key for uses in keys.values() for key in uses]
  assert len(every) == len(set(every)) == 2 * 2 * (1 + 2 + 2 + 2 + 1)


class _NanGradient:
  """A loss of 0 whose gradient is not a number, at one step alone."""

  def __call__(self, logits, labels):
    return jnp.sqrt(jnp.sum((logits - jax.lax.stop_gradient(logits)) ** 2, axis=-1))


@pytest.mark.parametrize(
  ("loss", "input_scale", "bad_loss"),
  [
    (losses.get_loss("cross_entropy"), np.inf, np.nan),
    (_NanGradient(), 1 / 255, 0.0),
    (lambda logits, labels: logits[:, 0] - np.inf, 1 / 255, -np.inf),
  ],
  ids=["loss NaN", "gradient NaN", "loss infinite"],
)
def test_a_step_that_is_not_finite_changes_only_the_totals(
  batch, loss, input_scale, bad_loss
):
  good = jax.jit(_step(**_arguments()))
  bad = jax.jit(_step(**_arguments(loss=loss)))
  state = good(tiny_network.create_state(), *batch, _WEIGHTS)
  after = bad(state.replace(input_scale=jnp.float32(input_scale)), *batch, _WEIGHTS)

  for name in ("params", "batch_stats", "opt_state", "plateau", "key"):
    _assert_identical(getattr(after, name), getattr(state, name))
  assert int(after.step) == 2
  assert int(after.totals["bad_step"]) == 1  # counted from 0
  np.testing.assert_array_equal(after.totals["bad_loss"], bad_loss)
  assert not np.isfinite(after.totals["bad_gradient_norm"]) or not np.isfinite(bad_loss)
  assert after.totals["loss"] == state.totals["loss"]
  assert after.totals["gradient_norm"] == state.totals["gradient_norm"]

  # The first bad step stays the one that is told of, and training can go on.
  later = bad(after.replace(input_scale=jnp.float32(np.nan)), *batch, _WEIGHTS)
  for name in ("bad_step", "bad_loss", "bad_gradient_norm"):
    _assert_identical(later.totals[name], after.totals[name])
  later = good(later.replace(input_scale=jnp.float32(1 / 255)), *batch, _WEIGHTS)
  assert int(later.totals["bad_step"]) == 1
  assert _differ(later.params, state.params)
  assert all(np.isfinite(leaf).all() for leaf in _leaves(later.params))


def test_a_loss_gets_all_it_asks_for_and_its_state_goes_along(batch):
  images, labels = batch
  counts = jnp.array([2, 1, 3])

  def loss(logits, embeddings, weights, labels, class_counts, step, state):
    out = (embeddings @ weights).sum(-1) + class_counts[labels] + 100.0 * step
    return out - logits.sum(-1), state + labels.sum()

  def arguments(loss):
    return _arguments(
      loss=loss,
      # What the accuracy counts is not the network's own logits.
      evaluation_logits=lambda embeddings, weights: jax.nn.one_hot(labels, 3),
      class_counts=counts,
    )

  state = tiny_network.create_state().replace(loss_state=jnp.float32(0.5))
  step = jax.jit(_step(**arguments(loss)))
  for _ in range(2):
    state = step(state, images, labels, np.ones(3, np.float32))
  # The logits are embeddings @ weights + bias, whose sum Adam moved by its first step:
  # each of three biases has the gradient -1, and rises by the learning rate.
  expected = 2 * np.mean(counts[labels]) + 100 * (0 + 1) - 3 * _LEARNING_RATE
  np.testing.assert_allclose(state.totals["loss"], expected, rtol=1e-5)
  np.testing.assert_allclose(state.loss_state, 0.5 + 2 * np.sum(labels))
  assert int(state.totals["correct"]) == int(state.totals["count"]) == 12

  def bad_loss(logits, state):
    return logits[:, 0] * np.nan, state + 1

  bad_step = jax.jit(_step(**arguments(bad_loss)))
  after = bad_step(state, images, labels, np.ones(3, np.float32))
  assert int(after.totals["bad_step"]) == 2
  _assert_identical(after.loss_state, state.loss_state)


@pytest.fixture(scope="module")
def run_steps():
  """Compiled steps over a data set, everything random on."""
  return compile_train_steps(
    StepSetup(class_weights=_WEIGHTS, **_random_arguments()), batch_size=3
  )


def test_steps_in_several_calls_are_the_steps_of_one(run_steps):
  model, data = TinyNetwork(dropout_rate=0.4), tiny_network.random_images(23)
  create = functools.partial(tiny_network.create_state, model)

  # Equal bits are those of programs as users have them.
  def take(state, count):
    lowered = run_steps.lower(state, *data, num_steps=count)
    return lowered.compile(compiler_options=AS_USED)(state, *data)

  # Of epochs of seven steps.
  whole = take(create(), 8)
  parts = create()
  for _ in range(2):
    parts = take(parts, 4)
  assert int(parts.step) == 8
  _assert_identical(parts, whole)
  other_seed = take(create(seed=1), 8)
  assert _differ(other_seed.params, whole.params)


def test_the_state_is_donated_and_the_data_set_is_not(run_steps):
  state = tiny_network.create_state(TinyNetwork(dropout_rate=0.4))
  data = tiny_network.random_images(23)
  run_steps(state, *data, num_steps=3)
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
  assert not any(array.is_deleted() for array in data)


class _Uses(nn.Module):
  """A parameter for each image, whose gradient under minus the logit is -1 a use."""

  @nn.compact
  def __call__(self, images, *, train):
    number = images[:, 0, 0, 0].astype(jnp.int32)
    count = nn.Dense(1, use_bias=False, name="logits")
    x = jax.nn.one_hot(number, 12)
    return count(x), {"pre_logits": x}


@pytest.mark.parametrize(("num_images", "batch_size"), [(12, 4), (11, 4), (4, 4)])
def test_an_epoch_uses_every_image_at_most_once_in_an_order_of_its_own(
  num_images, batch_size
):
  images = jnp.zeros((num_images, 4, 4, 1), jnp.uint8)
  images = images.at[:, 0, 0, 0].set(jnp.arange(num_images, dtype=jnp.uint8))
  labels = jnp.zeros(num_images, jnp.int32)
  count_uses = jax.jit(
    functools.partial(
      train_steps,
      num_steps=1,
      batch_size=batch_size,
      setup=StepSetup(
        class_weights=np.ones(1, np.float32),
        **_arguments(
          model=_Uses(),
          loss=lambda logits, labels: -batch_size * logits[:, 0],
          optimizer=optax.sgd(1.0),
        ),
      ),
    )
  )

  def orders(seed):
    """The images of each step of three epochs: `(3, steps, batch_size)`."""
    state = tiny_network.create_state(seed=seed)
    state = state.replace(
      params={"logits": {"kernel": jnp.zeros((12, 1))}},
      batch_stats={},
      opt_state=optax.sgd(1.0).init({}),
      input_scale=jnp.float32(1),
    )
    epochs, uses = [], np.zeros(12)
    for _ in range(3):
      steps = []
      for _ in range(num_images // batch_size):
        state = count_uses(state, images, labels)
        new = np.asarray(state.params["logits"]["kernel"][:, 0])
        assert sum(new - uses) == batch_size
        assert set(new - uses) <= {0, 1}
        steps.append(tuple(np.flatnonzero(new - uses)))
        uses = new
      epochs.append(steps)
    return epochs

  epochs = orders(seed=0)
  for steps in epochs:
    used = [image for step in steps for image in step]
    assert len(used) == len(set(used)) == num_images // batch_size * batch_size
  if num_images > batch_size:
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert orders(seed=1) != epochs


def test_a_schedule_multiplies_the_updates_of_its_step(batch):
  scales = jnp.array([0.5, 0.0, 2.0])
  scheduled = jax.jit(_step(**_arguments(schedule=lambda step: scales[step])))
  plain = jax.jit(_step(**_arguments()))
  state = other = tiny_network.create_state()
  for scale in scales:
    plateau = state.plateau._replace(scale=scale * 0.1)
    other = plain(other.replace(plateau=plateau), *batch, _WEIGHTS)
    plateau = state.plateau._replace(scale=jnp.float32(0.1))
    state = scheduled(state.replace(plateau=plateau), *batch, _WEIGHTS)
    for name in ("params", "opt_state"):
      _assert_close(getattr(state, name), getattr(other, name), rtol=1e-6)


def test_averages_of_the_variables_follow_every_good_step(batch):
  step = jax.jit(_step(**_arguments(ema_decay=0.15)))
  state = tiny_network.create_state()
  state = state.replace(ema=train_state.copy_for_ema(state.params, state.batch_stats))
  expected = jax.tree.map(np.asarray, state.variables)
  for decay in (0.1, 0.15, 0.15):  # (1 + t) / (10 + t) at first
    state = step(state, *batch, _WEIGHTS)
    expected = jax.tree.map(
      lambda e, v, d=decay: d * e + (1 - d) * np.asarray(v), expected, state.variables
    )
  _assert_close(state.ema, expected, rtol=1e-5, atol=1e-7)
  after = step(state.replace(input_scale=jnp.float32(np.nan)), *batch, _WEIGHTS)
  assert int(after.totals["bad_step"]) == 3
  _assert_identical(after.ema, state.ema)


def test_smoothed_labels_are_mixed_as_plain_ones_are(batch):
  images, labels = batch
  arguments = _arguments(
    loss=losses.get_loss("label_smoothing", smoothing=0.3), mixup=_mix_with_next
  )
  state = tiny_network.create_state()
  after = jax.jit(_step(**arguments))(state, images, labels, np.ones(3, np.float32))
  one_hot = np.eye(3)[labels]
  mixed = 0.3 * one_hot + 0.7 * np.roll(one_hot, -1, axis=0)
  inputs = np.asarray(images, np.float32)
  inputs = (0.3 * inputs + 0.7 * np.roll(inputs, -1, axis=0)) / 255
  (logits, _), _ = TinyNetwork().apply(
    state.variables, inputs, train=True, mutable=["batch_stats"]
  )
  expected = -np.sum((0.7 * mixed + 0.1) * jax.nn.log_softmax(logits), axis=-1)
  np.testing.assert_allclose(after.totals["loss"], np.mean(expected), rtol=1e-5)


def test_the_gradient_at_the_ascended_point_of_a_quadratic():
  rng = np.random.default_rng(0)
  matrix, w = rng.normal(size=(5, 5)), rng.normal(size=5)
  matrix = matrix @ matrix.T + np.eye(5)
  # Of w' A w / 2, in float64; Foret et al. 2021, equations 2 and 3.
  expected = matrix @ (w + 0.3 * matrix @ w / np.linalg.norm(matrix @ w))

  def split(x):
    return {"a": jnp.float32(x[:2]), "b": {"c": jnp.float32(x[2:])}}

  def loss(params):
    x = jnp.concatenate([params["a"], params["b"]["c"]])
    return x @ jnp.float32(matrix) @ x / 2

  gradient = jax.grad(loss)
  found = gradient(ascend(split(w), gradient(split(w)), radius=0.3))
  flat = np.concatenate([found["a"], found["b"]["c"]])
  np.testing.assert_allclose(flat, expected, rtol=1e-5)
  assert np.abs(flat - matrix @ w).max() > 0.1
  # Where the gradient is 0, the point stays.
  zero = split(np.zeros(5))
  found = ascend(zero, gradient(zero), radius=0.3)
  assert not any(leaf.any() for leaf in _leaves(found))


def test_late_steps_take_the_sharpness_aware_gradient(batch):
  images, labels = batch
  rate, radius = 0.1, 0.5
  arguments = _arguments(optimizer=optax.sgd(rate))
  plain = jax.jit(_step(**arguments))
  late = jax.jit(_step(**arguments, sam_radius=radius, sam_from_step=1))
  state = tiny_network.create_state()
  state = state.replace(opt_state=optax.sgd(rate).init(state.params))
  first = late(state, images, labels, _WEIGHTS)
  _assert_identical(first, plain(state, images, labels, _WEIGHTS))

  @jax.jit
  @jax.grad
  def gradient(params):
    (logits, _), _ = TinyNetwork().apply(
      {"params": params, "batch_stats": first.batch_stats},
      np.asarray(images, np.float32) / 255,
      train=True,
      mutable=["batch_stats"],
    )
    values = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.mean(values * _WEIGHTS[labels])

  ascent = gradient(first.params)
  norm = np.sqrt(sum(np.sum(np.square(g, dtype=float)) for g in _leaves(ascent)))
  beside = jax.tree.map(lambda w, g: w + radius * g / norm, first.params, ascent)
  expected = jax.tree.map(lambda w, g: w - rate * g, first.params, gradient(beside))

  second, usual = (step(first, images, labels, _WEIGHTS) for step in (late, plain))
  _assert_close(second.params, expected, rtol=1e-4, atol=1e-6)
  assert _differ(second.params, usual.params)
  # The statistics and the totals are those of the parameters themselves.
  for name in ("batch_stats", "totals"):
    _assert_close(getattr(second, name), getattr(usual, name), rtol=1e-6)


def test_a_radius_of_0_leaves_the_program_as_it_is(batch):
  state = tiny_network.create_state()

  def program(**changes):
    step = _step(**_arguments(**changes))
    return str(jax.make_jaxpr(step)(state, *batch, _WEIGHTS))

  assert program(sam_radius=0.0, sam_from_step=2) == program()
  products = [program(sam_radius=r).count("dot_general") for r in (0.0, 0.1)]
  assert products[1] == 2 * products[0]


def test_a_subset_is_trained_on_as_a_split_of_its_own():
  images, labels = tiny_network.random_images(9)
  subset = jnp.array([7, 0, 3, 4, 8])
  setup = StepSetup(class_weights=np.ones(3, np.float32), **_random_arguments())
  steps = jax.jit(
    functools.partial(train_steps, setup=setup, num_steps=2, batch_size=2),
    compiler_options=AS_USED,
  )
  state = tiny_network.create_state(TinyNetwork(dropout_rate=0.4))
  _assert_identical(
    steps(state, images, labels, subset=subset),
    steps(state, images[subset], labels[subset]),
  )


def test_resized_images_train_as_images_of_that_size():
  """A tent filter at half of the size has weights of 1, 3, 3 and 1 eighths."""
  images, labels = tiny_network.random_images(6)
  weights = np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7
  shrunk = np.einsum("rh,nhwc,sw->nrsc", weights, images, weights)
  model = tiny_network.TinyMaps(3)
  state = tiny_network.create_state(model)
  ones = np.ones(3, np.float32)

  found = _step(**_arguments(model=model), image_side=2)(state, images, labels, ones)
  given = _arguments(model=model, augment=lambda key, _: jnp.float32(shrunk))
  expected = _step(**given)(state, images, labels, ones)
  for leaf, other in zip(_leaves(found.params), _leaves(expected.params), strict=True):
    np.testing.assert_allclose(leaf, other, rtol=1e-5, atol=1e-6)
  # Adam's first step has hardly more than the gradient's signs; these have its values.
  for name in ("loss", "gradient_norm"):
    np.testing.assert_allclose(found.totals[name], expected.totals[name], rtol=1e-5)
  assert not np.allclose(found.params["conv"]["kernel"], state.params["conv"]["kernel"])


@pytest.mark.parametrize("radius", [0.0, 0.1])
def test_precision_holds_forward_and_backward_and_in_the_ascent(batch, radius):
  seen = []

  @jax.custom_vjp
  def probe(x):
    return x

  def forward(x):
    seen.append(jax.config.jax_default_matmul_precision)
    return x, None

  def backward(_, cotangent):
    seen.append(jax.config.jax_default_matmul_precision)
    return (cotangent,)

  probe.defvjp(forward, backward)

  class Probed(TinyNetwork):
    def __call__(self, images, *, train):
      logits, out = super().__call__(images, train=train)
      return probe(logits), out

  arguments = _arguments(model=Probed(), sam_radius=radius)
  state = tiny_network.create_state(seed=0)
  for name in ("bfloat16", "default"):
    step = _step(matmul_precision=name, **arguments)
    with jax.default_matmul_precision("tensorfloat32"):
      jax.eval_shape(step, state, *batch, np.ones(3, np.float32))
    expected = {"bfloat16": "bfloat16", "default": "tensorfloat32"}[name]
    assert seen == [expected] * (4 if radius else 2)
    seen.clear()


def test_an_epochs_order_is_drawn_once_and_is_that_of_its_steps():
  # 23 images in batches of 3: epochs of seven steps.
  order = programs.order_by_epoch(23, 3, build_placement(devices=jax.devices()[:1]))
  first, other = (tiny_network.create_state(seed=seed) for seed in (0, 1))
  for state, step in ((first, 0), (first, 7), (other, 7), (first, 7)):
    state = state.replace(step=jnp.int32(step))
    drawn = order(state)
    expected = epoch_order(state.key, state.step, num_images=23, batch_size=3)
    np.testing.assert_array_equal(drawn, expected)
    assert order(state.replace(step=jnp.int32(step + 6))) is drawn


def test_steps_take_the_order_that_they_are_given(run_steps):
  model, (images, labels) = TinyNetwork(dropout_rate=0.4), tiny_network.random_images(9)
  order = jnp.asarray([4, 0, 8, 2, 6, 1, 7, 3, 5])

  def take(images, labels, order):
    state = tiny_network.create_state(model)
    return run_steps(state, images, labels, order, num_steps=3)

  in_order = take(images[order], labels[order], jnp.arange(9))
  _assert_identical(take(images, labels, order), in_order)
  assert _differ(take(images, labels, jnp.arange(9)).params, in_order.params)


def test_inputs_are_drawn_in_a_branch_on_a_cpu_alone():
  images, labels = tiny_network.random_images(6)
  step = jax.jit(_step(**_arguments()))
  traced = step.trace(tiny_network.create_state(), images, labels, _WEIGHTS)
  branches = {
    platform: traced.lower(lowering_platforms=(platform,)).as_text()
    for platform in ("cpu", "cuda", "tpu")
  }
  counts = {name: text.count("stablehlo.case") for name, text in branches.items()}
  # The choice of the platform is two branches on constants, which XLA removes.
  assert counts == {"cpu": 3, "cuda": 2, "tpu": 2}
