"""What every loss promises, whatever its formula."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emosynth_jax import losses
from emosynth_jax.losses import LOSSES, get_loss

ALL = pytest.mark.parametrize("name", sorted(LOSSES))


def batch(seed, n, k, scale=1.0, dtype=jnp.float32):
  rng = np.random.default_rng(seed)
  logits = jnp.asarray(scale * rng.normal(size=(n, k)), dtype)
  return logits, jnp.asarray(rng.integers(k, size=n), jnp.int32)


@functools.cache
def value_and_grad(name):
  loss = get_loss(name)

  def total(logits, labels):
    values = loss(logits, labels)
    return jnp.sum(values), values

  return jax.jit(jax.value_and_grad(total, has_aux=True))


@ALL
@pytest.mark.parametrize(("n", "k"), [(1, 2), (1, 7), (5, 2), (6, 10)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_one_finite_float32_value_an_example(name, n, k, dtype):
  logits, labels = batch(0, n, k, dtype=dtype)
  (_, values), grad = value_and_grad(name)(logits, labels)
  assert values.shape == (n,)
  assert values.dtype == jnp.float32
  assert grad.dtype == dtype
  assert np.isfinite(values).all()
  assert np.isfinite(grad.astype(jnp.float32)).all()
  assert (values >= 0).all()


@ALL
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@settings(max_examples=40, deadline=None)
@given(
  rows=st.lists(
    st.lists(
      st.one_of(
        st.floats(-1e4, 1e4, width=32), st.sampled_from([0.0, 1e4, -1e4, 1e-30])
      ),
      min_size=3,
      max_size=3,
    ),
    min_size=2,
    max_size=2,
  ),
  labels=st.lists(st.integers(0, 2), min_size=2, max_size=2),
)
def test_extreme_logits_give_finite_values_and_gradients(name, dtype, rows, labels):
  (_, values), grad = value_and_grad(name)(
    jnp.asarray(rows, dtype), jnp.asarray(labels, jnp.int32)
  )
  assert np.isfinite(values).all()
  assert np.isfinite(grad.astype(jnp.float32)).all()


@ALL
def test_bfloat16_logits_are_computed_in_float32(name):
  logits, labels = batch(1, 6, 10, scale=3.0, dtype=jnp.bfloat16)
  loss = jax.jit(get_loss(name))
  np.testing.assert_array_equal(
    loss(logits, labels), loss(logits.astype(jnp.float32), labels)
  )


@ALL
def test_jit_changes_nothing(name):
  logits, labels = batch(2, 6, 10)
  loss = get_loss(name)
  np.testing.assert_allclose(
    jax.jit(loss)(logits, labels), loss(logits, labels), rtol=1e-5, atol=1e-7
  )


@ALL
def test_vmap_over_batches_is_a_loop(name):
  batches = [batch(seed, 4, 7, scale=2.0) for seed in range(3)]
  logits, labels = (jnp.stack(x) for x in zip(*batches, strict=True))
  loss = get_loss(name)
  np.testing.assert_allclose(
    jax.jit(jax.vmap(loss))(logits, labels),
    jnp.stack([loss(*b) for b in batches]),
    rtol=1e-5,
    atol=1e-7,
  )


@ALL
def test_no_loss_depends_on_the_order_of_the_examples(name):
  logits, labels = batch(3, 6, 7)
  order = np.array([3, 0, 5, 1, 4, 2])
  loss = jax.jit(get_loss(name))
  np.testing.assert_allclose(
    loss(logits[order], labels[order]), loss(logits, labels)[order], rtol=1e-5
  )


@ALL
def test_no_loss_depends_on_the_names_of_the_classes(name):
  logits, labels = batch(4, 6, 7)
  order = np.array([3, 0, 5, 1, 6, 4, 2])
  loss = jax.jit(get_loss(name))
  np.testing.assert_allclose(
    loss(logits[:, order], jnp.asarray(np.argsort(order))[labels]),
    loss(logits, labels),
    rtol=1e-5,
  )


@ALL
def test_a_constant_added_to_the_logits_changes_nothing(name):
  logits, labels = batch(5, 6, 7)
  loss = jax.jit(get_loss(name))
  np.testing.assert_allclose(
    loss(logits - 20.0, labels), loss(logits, labels), rtol=1e-4
  )


@ALL
def test_one_hot_probabilities_are_the_integer_label(name):
  logits, labels = batch(6, 6, 7)
  loss = jax.jit(get_loss(name))
  np.testing.assert_allclose(
    loss(logits, jax.nn.one_hot(labels, 7)), loss(logits, labels), rtol=1e-6
  )


@ALL
def test_the_gradient_is_that_of_the_float64_loss(name):
  """Finite differences in float64, of the loss with nothing detached but factors.

  Only for losses without stop_gradient; those that have one are checked against
  their own closed form.
  """
  if name in ("mam_softmax", "sce_loss"):
    pytest.skip("has detached factors; see its own test file")
  logits, labels = batch(7, 3, 5)
  _, grad = value_and_grad(name)(logits, labels)
  with jax.enable_x64(True):
    loss = get_loss(name)
    z = np.asarray(logits, np.float64)
    for index in np.ndindex(z.shape):
      step = np.zeros_like(z)
      step[index] = 1e-5
      slope = float(
        jnp.sum(loss(jnp.asarray(z + step), np.asarray(labels)))
        - jnp.sum(loss(jnp.asarray(z - step), np.asarray(labels)))
      )
      assert slope / 2e-5 == pytest.approx(float(grad[index]), rel=1e-4, abs=1e-6)


@ALL
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
    (np.ones((4, 3), np.float32), np.zeros(4, np.float32), ValueError, "labels"),
    (np.ones((4, 3), np.float32), np.full(4, 3), ValueError, r"0\.\.2"),
    (np.ones((4, 3), np.float32), np.full(4, -1), ValueError, r"0\.\.2"),
  ],
)
def test_bad_input_is_refused(name, logits, labels, error, message):
  with pytest.raises(error, match=message):
    get_loss(name)(logits, labels)


@ALL
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_nan_inside_jit(name, label):
  logits, _ = batch(8, 2, 3)
  values = jax.jit(get_loss(name))(logits, jnp.array([label, 1]))
  assert np.isnan(values[0])


def test_an_unknown_name_lists_the_known():
  with pytest.raises(ValueError, match=r"'arcfase'.*cross_entropy.*mse"):
    get_loss("arcfase")


def test_an_unknown_argument_lists_the_loss_s_own():
  with pytest.raises(ValueError, match=r"mam_softmax.*'kapa'.*kappa"):
    get_loss("mam_softmax", kapa=2.0)


def test_every_name_is_its_function_s():
  assert {name: f.__name__ for name, f in LOSSES.items()} == {n: n for n in LOSSES}
  assert set(LOSSES) <= set(losses.__all__)


def test_arguments_are_bound():
  logits, labels = batch(9, 3, 5)
  np.testing.assert_array_equal(
    get_loss("mam_softmax", kappa=0.0)(logits, labels),
    losses.mam_softmax(logits, labels, kappa=0.0),
  )
