"""Averages of the variables: the decay's warm-up, and what is judged by them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_network
import tiny_workdir

from emosynth_jax.training import build
from emosynth_jax.training import state as train_state


def test_averages_follow_the_recursion_with_its_warm_up():
  rng = np.random.default_rng(0)
  values = rng.normal(size=(200, 3))
  update = jax.jit(train_state.update_ema, static_argnames="decay")
  ema, expected = {"w": jnp.zeros(3)}, np.zeros(3)
  for t, value in enumerate(values):
    ema = update(ema, {"w": jnp.float32(value)}, decay=0.9, step=jnp.int32(t))
    d = min(0.9, (1 + t) / (10 + t))  # .1, 2/11, ... and .9 from step 80 on
    expected = d * expected + (1 - d) * value
  np.testing.assert_allclose(ema["w"], expected, rtol=1e-4, atol=1e-6)


def test_a_state_is_judged_by_its_averages_only_if_it_has_any():
  state = tiny_network.create_state()
  assert state.ema is None
  assert state.evaluation_variables == state.variables
  ema = jax.tree.map(lambda x: x + 1, state.variables)
  assert state.replace(ema=ema).evaluation_variables is ema


@pytest.mark.usefixtures("tiny_networks")
@pytest.mark.parametrize("has_ema", [False, True])
def test_averages_begin_as_the_variables(has_ema):
  config = tiny_workdir.config(ema_decay=0.9 if has_ema else 0.0)
  built = build.build_experiment(
    config, image_shape=tiny_network.IMAGE_SHAPE, num_classes=3
  )
  state = build.create_state(built, 3)
  if not has_ema:
    assert state.ema is None
    return
  jax.tree.map(np.testing.assert_array_equal, state.ema, state.variables)
  # A step writes over the state's arrays, each of which must be there once; also where
  # averages are begun outside of a program, as for a run that starts from another.
  for ema in (
    state.ema,
    train_state.copy_for_ema(state.params, state.batch_stats),
  ):
    leaves = jax.tree.leaves((state.variables, ema))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)
