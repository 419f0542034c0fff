"""What every loss promises, whatever its formula."""

import functools
import inspect
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import AS_USED, HASTE
from hypothesis import given, settings
from hypothesis import strategies as st

from emosynth_jax.losses import (
  CLASSIFICATION_LOSSES,
  INPUTS,
  LOSSES,
  MARGINS,
  call_loss,
  get_loss,
  init_state,
  loss_inputs,
)

D = 4
# Every loss once (an alias is another one's function), the readings and
# options that take another path, and margins under other losses.
REQUIRED = {
  "deferred_reweighting": {"reweight_step": 3},
  "mixed_cross_entropy": {"total_steps": 12},
  "small_loss_cross_entropy": {"noise_rate": 0.4, "warmup_steps": 12},
  "subcenter_arcface": {"sub_centers": 3},
}
CASES = {
  **{loss.__name__: REQUIRED.get(loss.__name__, {}) for loss in LOSSES.values()},
  "active_passive ce+mae": {"active": "ce", "passive": "mae"},
  "arcface easy_margin": {"easy_margin": True, "scale": 10.0},
  "dynamically_weighted_balanced all": {"regularizer": "all"},
  "elastic_arcface sorted": {"sort_margins": True, "sigma": 0.3, "scale": 16.0},
  "elastic_cosface sorted": {"sort_margins": True, "sigma": 0.3, "scale": 16.0},
  "focal steep": {"gamma": 0.5, "alpha": 0.3},
  "generalized_cross_entropy q=0": {"q": 0},
  "magface easy_margin": {"easy_margin": True, "min_norm": 0.5, "max_norm": 4.0},
  "mam_softmax box_repaired": {"margin_fn": "box_repaired"},
  "mam_softmax printed_argmax": {"margin_fn": "printed_argmax"},
  "mam_softmax printed_max": {"margin_fn": "printed_max", "kappa": 0.5},
  "real_world_weight_cross_entropy costs": {"fn_weights": 2.0, "fp_weights": 0.7},
  "sce_loss box": {"reading": "box"},
  "sce_loss example": {"reading": "example"},
  "sce_loss intent": {"reading": "intent"},
  "sphereface unannealed": {"lam_min": 0.0, "lam_max": 0.0},
  "mam_softmax+sce_loss": {},
  "arcface+focal": {"gamma": 1.0, "scale": 16.0},
  "mam_softmax_class_ema+center_loss": {},
  "ldam+deferred_reweighting": {"reweight_step": 3, "beta": 0.9},
}
CASES = {case: CASES[case] for case in sorted(CASES)}

ALL = pytest.mark.parametrize("case", CASES)
# (N, K) and dtype. Compiling is what costs time here: these do for all tests, all but
# "middle" compiled in haste, as are the programs that a single test needs. That one is
# compiled as users have it, whatever conftest.py asks for.
SIZES = {
  "small": (1, 2, jnp.float32),
  "low": (4, 3, jnp.bfloat16),
  "middle": (5, 7, jnp.float32),
}


def bound(case):
  return get_loss(case.split(" ")[0], **CASES[case])


def takes(case, name):
  return name in loss_inputs(bound(case))


def cases_that(condition):
  return pytest.mark.parametrize("case", [c for c in CASES if condition(c)])


def sub_centers(case):
  return CASES[case].get("sub_centers", 1)


def batch(case, seed, n, k, dtype=jnp.float32, scale=1.0):
  """Every input that the loss takes, of ordinary size times `scale`."""
  rng = np.random.default_rng([seed, zlib.crc32(case.encode())])
  inputs = {
    "logits": scale * rng.normal(size=(n, k)),
    "embeddings": scale * rng.normal(size=(n, D)),
    "weights": rng.normal(size=(D, k * sub_centers(case))),
  }
  inputs = {name: jnp.asarray(x, dtype) for name, x in inputs.items()}
  inputs["labels"] = jnp.asarray(rng.integers(k, size=n), jnp.int32)
  counts = rng.integers(1, 100, size=k)
  counts[0] = 0
  inputs["class_counts"] = jnp.asarray(counts, jnp.int32)
  inputs["step"] = jnp.int32(7)
  inputs["state"] = jax.tree.map(
    lambda x: x + jnp.asarray(rng.uniform(size=x.shape), jnp.float32),
    init_state(case.split(" ")[0], k, D),
  )
  return {name: inputs[name] for name in loss_inputs(bound(case))}


def total(case, floats, others):
  """The sum of the losses, and with it the losses and the new state."""
  values, state = call_loss(bound(case), **floats, **others)
  return jnp.sum(values), (values, state)


@functools.cache
def compiled(case):
  """Losses and the gradient of their sum by every array that a model makes."""
  step = jax.value_and_grad(functools.partial(total, case), has_aux=True)
  slow, hasty = (jax.jit(step, compiler_options=x) for x in (AS_USED, HASTE))

  def run(inputs):
    step = slow if len(inputs["labels"]) == SIZES["middle"][0] else hasty
    (_, (values, state)), grads = step(*floats_and_others(inputs))
    return values, grads, state

  return run


def floats_and_others(inputs):
  """What a model makes, by which gradients are taken, and the rest."""
  made = ("logits", "embeddings", "weights")
  floats = {n: x for n, x in inputs.items() if n in made}
  return floats, {n: x for n, x in inputs.items() if n not in made}


def losses_of(case, inputs):
  return compiled(case)(inputs)[0]


def assert_finite(case, inputs):
  values, grads, state = compiled(case)(inputs)
  for name, array in {"losses": values, **grads}.items():
    array = np.asarray(array, np.float32)
    assert np.isfinite(array).all(), (name, array, inputs)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def assert_same(got, expected, rtol=1e-4):
  """Trees of losses and gradients, to within `rtol` of each array's largest entry."""
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      np.asarray(a, np.float32),
      np.asarray(b, np.float32),
      rtol=rtol,
      atol=rtol * float(jnp.abs(b).max()) + 1e-6,
    ),
    got,
    expected,
  )


@ALL
@pytest.mark.parametrize("size", SIZES)
def test_one_float32_value_an_example(case, size):
  n, k, dtype = SIZES[size]
  inputs = batch(case, 0, n, k, dtype)
  values, grads, state = compiled(case)(inputs)
  assert values.shape == (n,)
  assert values.dtype == jnp.float32
  for name, grad in grads.items():
    assert (grad.dtype, grad.shape) == (dtype, inputs[name].shape)
  before = jax.tree.map(lambda x: (x.shape, x.dtype), inputs.get("state"))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == before
  assert_finite(case, inputs)
  # A negative margin is a fault of the printed ones; no bound, the unhinged loss's.
  if "printed" not in case and case != "unhinged":
    assert (values > -1e-6).all()


@ALL
@pytest.mark.parametrize("size", SIZES)
@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(
  seed=st.integers(0, 2**31),
  values=st.sampled_from(
    [
      (0.0,),
      (1e4, -1e4),
      (0.0, 1e4),
      (1.0, -1.0, 1e4, -1e4, 0.0, 1e-4, 1e-30),
      (20.0, -20.0, 90.0, 0.0),
    ]
  ),
)
def test_extreme_inputs_give_finite_values_and_gradients(case, size, seed, values):
  n, k, dtype = SIZES[size]
  inputs = batch(case, 0, n, k, dtype)
  rng = np.random.default_rng(seed)
  for name in ("logits", "embeddings", "weights"):
    if name in inputs:
      x = inputs[name]
      inputs[name] = jnp.asarray(rng.choice(values, size=x.shape), x.dtype)
  inputs["labels"] = jnp.asarray(rng.integers(k, size=n), jnp.int32)
  assert_finite(case, inputs)


@cases_that(lambda case: takes(case, "weights"))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [1e-6, 1.0, 1e4, 1e18])
def test_cosines_of_plus_and_minus_one_and_zero_vectors(case, size, length):
  inputs = batch(case, 1, *SIZES[size])
  own = inputs["weights"].T[inputs["labels"] * sub_centers(case)] * length
  if length > 1e4 and case.startswith(("sphereface", "l_softmax")):
    pytest.skip("its logits grow with |x|, and 1e4 is what the losses promise")
  for embeddings in (own, -own, 0.0 * own):
    assert_finite(case, inputs | {"embeddings": embeddings})
  assert_finite(case, inputs | {"weights": 0.0 * inputs["weights"]})


@ALL
def test_neither_jit_nor_bfloat16_changes_anything(case):
  """Eager and from bfloat16, against compiled and from the same numbers in float32."""
  low = batch(case, 2, 5, 7, jnp.bfloat16, scale=3.0)
  floats, others = floats_and_others(low)
  high = {n: x.astype(jnp.float32) for n, x in floats.items()}
  values, grads, state = compiled(case)(high | others)
  (_, (got, got_state)), got_grads = jax.value_and_grad(
    functools.partial(total, case), has_aux=True
  )(floats, others)
  assert_same((got, got_state), (values, state))
  # Gradients come back in the dtype of what they are of: three digits.
  assert_same(got_grads, grads, rtol=8e-3)


@ALL
def test_vmap_over_batches_is_a_loop(case):
  batches = [batch(case, seed, *SIZES["middle"], scale=2.0) for seed in range(3)]
  stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
  step = jax.value_and_grad(functools.partial(total, case), has_aux=True)
  mapped = jax.jit(jax.vmap(step), compiler_options=HASTE)(*floats_and_others(stacked))
  for i, inputs in enumerate(batches):
    (_, (values, state)), grads = jax.tree.map(lambda x, i=i: x[i], mapped)
    assert_same((values, grads, state), compiled(case)(inputs))


# ElasticFace's margins are drawn by row, unless they are sorted.
@cases_that(lambda case: not case.startswith("elastic") or "sorted" in case)
def test_no_loss_depends_on_the_order_of_the_examples(case):
  inputs = batch(case, 4, *SIZES["middle"])
  order = np.array([3, 0, 1, 4, 2])

  def shuffle(arrays):
    own = ("logits", "embeddings", "labels")
    return {n: x[order] if n in own else x for n, x in arrays.items()}

  values, grads, state = compiled(case)(inputs)
  assert_same(
    compiled(case)(shuffle(inputs)), (values[order], shuffle(grads), state), rtol=1e-5
  )


def classes(array, order):
  """The classes `order` of seven, each with all of its columns on the last axis."""
  of_class = array.reshape(*array.shape[:-1], 7, -1)
  return of_class[..., order, :].reshape(*array.shape[:-1], -1)


def of_classes(state, order):
  """The same of a state, where it has one entry for each class."""
  return jax.tree.map(lambda x: x[order] if x.shape[:1] == (7,) else x, state)


@cases_that(lambda case: "printed_argmax" not in case)
def test_no_loss_depends_on_the_names_of_the_classes(case):
  inputs = batch(case, 5, *SIZES["middle"])
  order = np.array([3, 0, 5, 1, 6, 4, 2])

  def rename(arrays):
    by_class = ("logits", "weights", "class_counts")
    return {n: classes(x, order) if n in by_class else x for n, x in arrays.items()}

  renamed = rename(inputs)
  renamed["labels"] = jnp.asarray(np.argsort(order), jnp.int32)[inputs["labels"]]
  if "state" in inputs:
    renamed["state"] = of_classes(inputs["state"], order)
  values, grads, state = compiled(case)(inputs)
  state = of_classes(state, order)
  assert_same(compiled(case)(renamed), (values, rename(grads), state), rtol=1e-5)


@cases_that(
  lambda c: takes(c, "logits") and "printed" not in c and c != "binary_cross_entropy"
)
def test_a_constant_added_to_the_logits_changes_nothing(case):
  inputs = batch(case, 6, *SIZES["middle"])
  shifted = inputs | {"logits": inputs["logits"] - 20.0}
  assert_same(compiled(case)(shifted), compiled(case)(inputs))


LOGITS_CASES = cases_that(lambda c: takes(c, "logits"))


@LOGITS_CASES
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("all_others", [False, True])
def test_masked_classes_leave_values_and_gradients_finite(case, size, all_others):
  """Logits of -inf for one class that is not the label, or for all such classes."""
  n, k, dtype = SIZES[size]
  inputs = batch(case, 13, n, k, dtype)
  others = np.arange(k)[None, :] != np.asarray(inputs["labels"])[:, None]
  masked = others if all_others else others & (np.cumsum(others, axis=1) == 1)
  inputs["logits"] = jnp.where(masked, -jnp.inf, inputs["logits"])
  assert_finite(case, inputs)
  grads = compiled(case)(inputs)[1]["logits"]
  np.testing.assert_array_equal(np.asarray(grads, np.float32)[masked], 0)


# Not where the classes' counts or a class's number enter.
@cases_that(
  lambda c: takes(c, "logits") and not takes(c, "class_counts") and "argmax" not in c
)
def test_a_masked_class_is_none(case):
  """Masked by a logit of -inf, class 4 counts as little as if it did not exist."""
  inputs = batch(case, 14, *SIZES["middle"])
  labels = np.array([2, 0, 6, 5, 0])
  keep = np.array([0, 1, 2, 3, 5, 6])
  masked = inputs | {"labels": jnp.asarray(labels, jnp.int32)}
  masked["logits"] = inputs["logits"].at[:, 4].set(-jnp.inf)
  without = inputs | {"labels": labels - (labels > 4)}
  without["logits"] = inputs["logits"][:, keep]
  if "state" in inputs:
    without["state"] = of_classes(inputs["state"], keep)
  np.testing.assert_allclose(
    losses_of(case, masked), call_loss(bound(case), **without)[0], rtol=1e-5, atol=1e-6
  )


HARD_ONLY = ("center_loss", "mam_softmax_class_ema", "supervised_contrastive")


def accepts_probabilities(case):
  name = case.split(" ")[0]
  return takes(case, "logits") and not any(n in name for n in HARD_ONLY)


@cases_that(accepts_probabilities)
def test_one_hot_probabilities_are_the_integer_label(case):
  inputs = batch(case, 7, *SIZES["middle"])
  soft = inputs | {"labels": jax.nn.one_hot(inputs["labels"], 7)}
  np.testing.assert_allclose(
    call_loss(bound(case), **soft)[0], losses_of(case, inputs), rtol=1e-5, atol=1e-6
  )


@cases_that(accepts_probabilities)
@pytest.mark.parametrize("labels", [np.full((5, 7), 0.5), 2 * np.eye(7)[:5] - 1 / 7])
def test_labels_that_are_no_probabilities_are_refused(case, labels):
  inputs = batch(case, 7, *SIZES["middle"])
  with pytest.raises(ValueError, match=r"labels.*sum to 1"):
    call_loss(bound(case), **inputs | {"labels": labels})


@cases_that(lambda c: not accepts_probabilities(c))
def test_probabilities_are_refused_where_they_mean_nothing(case):
  inputs = batch(case, 7, *SIZES["middle"])
  soft = inputs | {"labels": jax.nn.one_hot(inputs["labels"], 7)}
  with pytest.raises(TypeError, match=r"labels.*integer.*float32.*mixup"):
    call_loss(bound(case), **soft)


# What is detached is checked where its formula is, against its own closed form.
DETACHED = (
  "adaface",
  "center_loss",
  "curricularface",
  "dynamic_am",
  "mam_softmax",
  "sce_loss",
  "small_loss",
)


@cases_that(lambda c: not any(d in c for d in DETACHED) or "printed" in c)
def test_the_gradient_is_that_of_the_float64_loss(case):
  """Central differences along random directions, in float64."""
  inputs = batch(case, 8, *SIZES["middle"])
  _, grads, _ = compiled(case)(inputs)
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    loss = jax.jit(
      lambda given: jnp.sum(call_loss(bound(case), **given)[0]),
      compiler_options=HASTE,
    )
    wide = {n: np.asarray(inputs[n], np.float64) for n in grads}
    for name in grads:
      direction = rng.normal(size=wide[name].shape)
      ahead, behind = (
        float(loss({**inputs, **wide, name: wide[name] + h * direction}))
        for h in (1e-6, -1e-6)
      )
      expected = float(np.sum(np.asarray(grads[name], np.float64) * direction))
      assert (ahead - behind) / 2e-6 == pytest.approx(expected, rel=1e-3, abs=1e-4)


@LOGITS_CASES
@pytest.mark.parametrize(
  ("logits", "labels", "error", "message"),
  [
    (np.ones((4, 3), np.int32), np.zeros(4, np.int32), TypeError, "logits.*int32"),
    (np.ones(3, np.float32), np.zeros(4, np.int32), ValueError, r"logits.*\(3,\)"),
    (np.ones((4, 1), np.float32), np.zeros(4, np.int32), ValueError, "2 classes"),
    (np.ones((0, 3), np.float32), np.zeros(0, np.int32), ValueError, "zero"),
    (np.ones((4, 3), np.float32), np.zeros(5, np.int32), ValueError, r"labels.*\(5,\)"),
    (np.ones((4, 3), np.float32), np.zeros((4, 3), int), ValueError, "labels"),
    (np.ones((4, 3), np.float32), np.zeros(4, bool), TypeError, "labels.*bool"),
    (np.ones((4, 3), np.float32), np.full(4, 3), ValueError, r"0\.\.2"),
    (np.ones((4, 3), np.float32), np.full(4, -1), ValueError, r"0\.\.2"),
    (np.ones((4, 3), np.float32), np.full(4, 2**32), ValueError, r"0\.\.2"),
  ],
)
def test_bad_input_is_refused(case, logits, labels, error, message):
  inputs = batch(case, 9, 4, 3)
  with pytest.raises(error, match=message):
    call_loss(bound(case), **inputs | {"logits": logits, "labels": labels})


@cases_that(lambda c: takes(c, "weights"))
@pytest.mark.parametrize(
  ("embeddings", "weights", "error", "message"),
  [
    (np.ones((4, D)), np.ones((D + 1, 3)), ValueError, r"weights.*\(4, K\).*\(5, 3\)"),
    (np.ones((4, D)), np.ones((3, D)), ValueError, r"weights.*\(4, K\).*\(3, 4\)"),
    (np.ones((4, D), int), np.ones((D, 3)), TypeError, "embeddings.*int"),
    (np.ones((4, D)), np.ones(D), ValueError, r"weights.*\(D, K\).*\(4,\)"),
    (np.ones((4, 2, 2)), np.ones((D, 3)), ValueError, r"embeddings.*\(N, D\)"),
  ],
)
def test_bad_embeddings_are_refused(case, embeddings, weights, error, message):
  inputs = batch(case, 10, 4, 3)
  with pytest.raises(error, match=message):
    call_loss(bound(case), **inputs | {"embeddings": embeddings, "weights": weights})


@ALL
@pytest.mark.parametrize("label", [-1, 7])
def test_a_label_out_of_range_is_nan_inside_jit(case, label):
  inputs = batch(case, 11, *SIZES["middle"])
  inputs["labels"] = inputs["labels"].at[0].set(label)
  assert np.isnan(losses_of(case, inputs)[0])


@ALL
def test_every_hyperparameter_that_is_a_number_is_checked(case):
  inputs = batch(case, 12, *SIZES["middle"])
  for name, parameter in inspect.signature(bound(case)).parameters.items():
    numeric = isinstance(parameter.default, (int, float))
    if parameter.kind != inspect.Parameter.KEYWORD_ONLY or not numeric:
      continue
    if isinstance(parameter.default, bool) or name.endswith("_weights"):
      continue
    loss = bound(case)
    for bad in (float("nan"), "0.5"):
      with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
        loss(**inputs, **{name: bad})
    with pytest.raises(ValueError, match=f"^{name}: expected"):
      loss(**inputs, **{name: -2})


@ALL
def test_numbers_of_numpy_are_taken(case):
  """Arrays of float64, whole numbers of other widths, hyperparameters as scalars."""
  inputs = batch(case, 15, *SIZES["middle"])
  wide = {n: np.asarray(x, np.float64) for n, x in floats_and_others(inputs)[0].items()}
  wide["labels"] = np.asarray(inputs["labels"], np.uint8)
  if "class_counts" in inputs:
    wide["class_counts"] = np.asarray(inputs["class_counts"], np.int64)
  if "step" in inputs:
    wide["step"] = np.int64(inputs["step"])
  kinds = {int: np.int64, float: np.float32}
  scalars = {
    name: kinds[type(parameter.default)](parameter.default)
    for name, parameter in inspect.signature(bound(case)).parameters.items()
    if type(parameter.default) in kinds
  }
  values, _ = call_loss(functools.partial(bound(case), **scalars), **inputs | wide)
  np.testing.assert_allclose(values, losses_of(case, inputs), rtol=1e-4, atol=1e-5)


@ALL
def test_hyperparameters_can_be_traced(case):
  """As an ablation does, in which they are data of one program."""
  inputs = batch(case, 16, *SIZES["middle"])
  parameters = inspect.signature(bound(case)).parameters
  numbers = {n: p.default for n, p in parameters.items() if type(p.default) is float}
  traced = jax.eval_shape(
    lambda numbers: call_loss(functools.partial(bound(case), **numbers), **inputs)[0],
    {n: jnp.float32(x) for n, x in numbers.items()},
  )
  assert (traced.shape, traced.dtype) == ((5,), jnp.float32)


def test_every_input_is_one_that_a_training_step_offers():
  for loss in [*LOSSES.values(), *MARGINS.values()]:
    names = loss_inputs(loss)
    assert names == tuple(i for i in INPUTS if i in names)
    assert "labels" in names


def test_no_margin_and_loss_share_a_hyperparameter():
  for margin in MARGINS:
    for loss in CLASSIFICATION_LOSSES:
      needed = REQUIRED.get(margin, {}) | REQUIRED.get(loss, {})
      get_loss(f"{margin}+{loss}", **needed)


def test_every_public_loss_documents_its_arguments():
  for loss in [*LOSSES.values(), *MARGINS.values()]:
    for part in (*inspect.signature(loss).parameters, "Returns", "Raises"):
      assert re.search(rf"^ *{part}: ?", loss.__doc__, re.M), (loss.__name__, part)
