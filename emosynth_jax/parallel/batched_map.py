"""Maps a function over many members in one compiled program, over all devices."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from emosynth_jax.utils import errors

# Not vmap: on a CPU, convolutions with batched weights take six times longer (see
# benchmarks/ablation_mappings.py), and all networks would be in memory at once.
MAPPINGS = ("map", "devices")


def compile_map(function: Callable[..., Any], mapping: str = "map") -> Callable:
  """Compiles a function of one member to a function of many.

  Args:
    function: `(member, *shared) -> pytree of arrays`.
    mapping: "map", one member after the other; "devices", likewise on each device, with
      the members sharded; their number is then a multiple of the number of devices.

  Returns:
    `(members, *shared) -> results`, where members and results have a leading axis.

  Raises:
    ValueError: for an unknown mapping.
  """
  errors.check_choice("mapping", mapping, MAPPINGS)

  def in_turn(members, *shared):
    return lax.map(lambda member: function(member, *shared), members)

  if mapping == "map":
    return jax.jit(in_turn)
  mesh = jax.sharding.Mesh(jax.devices(), ("members",))
  each, same = PartitionSpec("members"), PartitionSpec()

  def shared_out(members, *shared):
    return jax.shard_map(
      in_turn,
      mesh=mesh,
      in_specs=(each, *[same] * len(shared)),
      out_specs=each,
      # The members do not communicate.
      check_vma=False,
    )(members, *shared)

  return jax.jit(shared_out)


def run_in_chunks(
  program: Callable,
  members: Any,
  shared: tuple[Any, ...],
  *,
  chunk: int,
  report: Callable[[int], None] = lambda done: None,
) -> Any:
  """Calls a program of `compile_map` on chunks of members.

  The last chunk is padded with copies of the last member, so that all calls run the
  same compiled program.

  Args:
    program: of `compile_map`.
    members: a pytree of arrays with a leading axis of M, at least 1.
    shared: the program's other arguments.
    chunk: members per call; with the mapping "devices" a multiple of their number.
    report: called after each call with the number of members done.

  Returns:
    The results as NumPy arrays with a leading axis of M.
  """
  total = len(jax.tree.leaves(members)[0])
  parts = []
  for start in range(0, total, chunk):
    rows = np.minimum(np.arange(start, start + chunk), total - 1)
    part = jax.tree.map(lambda x, rows=rows: jnp.asarray(x)[rows], members)
    parts.append(jax.device_get(program(part, *shared)))
    report(min(start + chunk, total))
  return jax.tree.map(lambda *x: np.concatenate(x)[:total], *parts)


def mean_over_batches(function: Callable[[Any], Any], batches: Any) -> Any:
  """Mean of a function over batches of one size, with one batch in memory at a time.

  Args:
    function: `(batch) -> pytree of float arrays`.
    batches: a pytree of arrays with a leading axis of the batches.

  Returns:
    The mean.
  """
  number = jax.tree.leaves(batches)[0].shape[0]
  if number == 1:
    # Outside of a loop XLA has faster convolutions on a CPU.
    return function(jax.tree.map(lambda x: x[0], batches))

  first = jax.eval_shape(function, jax.tree.map(lambda x: x[0], batches))
  zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)

  def add(total, batch):
    return jax.tree.map(jnp.add, total, function(batch)), None

  total = lax.scan(add, zeros, batches)[0]
  return jax.tree.map(lambda x: x / number, total)


def over_batches(function: Callable[..., Any], arrays: Any, *, batch_size: int) -> Any:
  """Applies a function of a batch to a whole split, batch by batch in one program.

  The last batch is padded with the first examples, whose results are dropped. To be
  called under `jax.jit`.

  Args:
    function: takes a batch of each array and returns a pytree of arrays `(B, ...)`,
      where each example's result depends on that example alone.
    arrays: a tuple of arrays `(M, ...)`.
    batch_size: B, or less where M is less.

  Returns:
    The function's results, `(M, ...)`.
  """
  total = jax.tree.leaves(arrays)[0].shape[0]
  size = min(batch_size, total)

  def one_batch(_, start):
    rows = (start + jnp.arange(size)) % total
    return None, function(*jax.tree.map(lambda x: x[rows], arrays))

  _, results = lax.scan(one_batch, None, jnp.arange(0, total, size))
  return jax.tree.map(
    lambda x: x.reshape(x.shape[0] * size, *x.shape[2:])[:total], results
  )
