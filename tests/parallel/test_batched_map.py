"""Many members as one program: equal to a Python loop, whatever the chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from emosynth_jax.parallel import batched_map


def _function(member, shared):
  return {"sum": (member * shared).sum(), "member": member}


@pytest.mark.parametrize("mapping", batched_map.MAPPINGS)
@pytest.mark.parametrize("chunk", [2, 7, 50])
def test_chunks_give_what_a_loop_gives(mapping, chunk):
  members = np.arange(14, dtype=np.float32).reshape(7, 2)
  shared = jnp.array([2.0, -1.0])
  done = []
  result = batched_map.run_in_chunks(
    batched_map.compile_map(_function, mapping),
    members,
    (shared,),
    chunk=chunk * jax.device_count(),
    report=done.append,
  )
  np.testing.assert_array_equal(result["member"], members)
  np.testing.assert_array_equal(result["sum"], [2 * a - b for a, b in members])
  assert done[-1] == 7
  assert done == sorted(set(done))


def test_an_unknown_mapping_lists_the_known_ones():
  with pytest.raises(ValueError, match="map, devices; got 'vmap'"):
    batched_map.compile_map(_function, "vmap")


@pytest.mark.parametrize("number", [1, 3])
def test_the_mean_over_batches_is_that_of_all(number):
  values = np.random.default_rng(0).standard_normal((number, 4)).astype(np.float32)
  mean = jax.jit(lambda x: batched_map.mean_over_batches(lambda b: {"m": b.mean()}, x))
  assert float(mean(values)["m"]) == pytest.approx(values.mean(), rel=1e-5)
