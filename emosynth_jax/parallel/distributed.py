"""Multi-process runs: initialization and agreement between processes.

Every process runs the same program over its own devices. They agree on common decisions
(a stop, a due save, a failure) by exchanging a few numbers between program calls. All
files except checkpoints are written by the first process only.
"""

import contextlib
import os
import pathlib
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from emosynth_jax.parallel import mesh
from emosynth_jax.utils import errors

# Timeout in seconds for detecting a process that exited without notice. A broken
# connection is detected at once.
_HEARTBEAT_SECONDS = 60


def is_cluster(environment: Mapping[str, str]) -> bool:
  """Detects from the environment whether this is one process of a multi-process job.

  Args:
    environment: as `os.environ`.

  Returns:
    True for a step of Slurm (srun) or Open MPI with several tasks, a TPU pod whose
    workers the environment names (GKE), and where JAX_COORDINATOR_ADDRESS is set. Not
    for a shell on a TPU worker, nor for Kubernetes without TPUs, where multi-process
    jobs cannot be detected.
  """

  def number(name):
    value = environment.get(name, "")
    return int(value) if value.isdecimal() else 0

  hosts = environment.get("TPU_PROCESS_ADDRESSES") or environment.get(
    "TPU_WORKER_HOSTNAMES", ""
  )
  return (
    number("SLURM_STEP_NUM_TASKS") > 1
    or number("OMPI_COMM_WORLD_SIZE") > 1
    or "," in hosts
    or bool(environment.get("JAX_COORDINATOR_ADDRESS"))
  )


def initialize(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Initializes multi-process JAX; to be called before any other use of JAX.

  Args:
    coordinator_address: host and port of the first process; without it, the address and
      the numbers are detected from Slurm, Open MPI, Kubernetes or a TPU pod.
    num_processes: of the job.
    process_id: this one's number, from 0.

  Raises:
    ValueError: if some of the three are missing, or no cluster is found.
  """
  given = (coordinator_address, num_processes, process_id)
  if any(x is not None for x in given) and None in given:
    raise ValueError(
      "--coordinator_address, --num_processes and --process_id: expected all three or "
      f"none, got {given}"
    )

  if process_id is not None and num_processes is not None:
    if not 0 <= process_id < num_processes:
      raise ValueError(
        f"--process_id: expected 0 to {num_processes - 1}, got {process_id}"
      )

  # SIGTERM is handled by the training loop: this service would intercept it without
  # effect.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
      coordinator_address,
      num_processes,
      process_id,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    )
  except (ValueError, RuntimeError) as error:
    reason = errors.reason_of(error, 500)
    raise ValueError(
      f"cannot connect to the other processes of the run ({reason}). Outside of "
      "Slurm, Open MPI, Kubernetes and TPU pods set --coordinator_address=HOST:PORT "
      "--num_processes=N --process_id=I"
    ) from error

  _connect()
  if not is_first():
    # One process logs the run; warnings and errors are logged by all.
    logging.set_verbosity(logging.WARNING)

  logging.info(
    "%d processes with %d devices in all.", jax.process_count(), jax.device_count()
  )


def _connect() -> None:
  """Exchanges a number between all processes, and between all devices.

  Gloo connects at the first exchange, and fails if a process is 30 s late: by a
  computation of the first process, a compilation, a slow disk. Later exchanges wait.
  """
  largest(0)
  placement = mesh.build_placement()
  ones = placement.put(np.ones(jax.device_count()), placement.rows)
  jax.block_until_ready(
    jax.jit(lambda x: x.sum(), out_shardings=placement.replicate)(ones)
  )


def is_joined() -> bool:
  """Returns whether this is one of several processes of a job."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
  """Returns whether this process writes reports, metrics and the log."""
  return jax.process_index() == 0


def largest(*values: int) -> tuple[int, ...]:
  """Maximum of each value over the processes, the same in all of them.

  Args:
    *values: from -2^31 to 2^31 - 1.

  Returns:
    The maxima.
  """
  if jax.process_count() == 1:
    return values
  every = multihost_utils.process_allgather(np.array(values, np.int32))
  return tuple(int(value) for value in every.max(axis=0))


def from_first(
  compute: Callable[[], np.ndarray], shape: tuple[int, ...], dtype: type
) -> np.ndarray:
  """An array that the first process computes, while the others wait for it.

  Args:
    compute: returns the array.
    shape: its shape.
    dtype: of integers that 32 bits hold, or bool.

  Returns:
    The array, in every process.

  Raises:
    ValueError: the error of `compute`, and an error about it in the other processes; or
      in all processes if they expect arrays of different sizes.
  """
  if jax.process_count() == 1:
    return compute()
  _check_same_size(int(np.prod(shape)))
  failure, result = None, np.zeros(shape, np.int32)
  if is_first():
    try:
      result = compute().astype(np.int32)
    except (ValueError, OSError) as error:
      failure = error

  _raise_together(failure)
  return np.asarray(multihost_utils.broadcast_one_to_all(result)).astype(dtype)


def share(total: int, compute: Callable[[range], np.ndarray]) -> np.ndarray:
  """Assembles an array of which every process computes a contiguous part.

  Args:
    total: M, the length of the whole.
    compute: a range of rows, perhaps empty, to an int32 array of that length.

  Returns:
    int32 `(M,)`.

  Raises:
    ValueError: in all processes, if M is not the same in all.
  """
  count = jax.process_count()
  if count == 1:
    return compute(range(total))

  _check_same_size(total)
  size = -(-total // count)
  rows = range(total)[jax.process_index() * size : (jax.process_index() + 1) * size]
  part = np.zeros(size, np.int32)
  part[: len(rows)] = compute(rows)
  return np.asarray(multihost_utils.process_allgather(part)).reshape(-1)[:total]


def _check_same_size(size: int) -> None:
  """Checks that arrays have the same size in all processes, as collectives require.

  Gathering parts of different sizes hangs, or fails with an unclear message.
  """
  most, least = largest(size, -size)
  if most != -least:
    raise ValueError(
      "config.data.data_dir: the processes read different numbers of images "
      f"({-least} and {most}); give all processes the same data"
    )


def crc32_of_rows(part: np.ndarray, start: int) -> int:
  """CRC-32 of an array of which each process has a contiguous part.

  The processes compute it in turn, each from the value of the part before its own.

  Args:
    part: this process's rows.
    start: the first one's number. The parts of all processes cover the array, and two
      parts are equal or disjoint.

  Returns:
    `zlib.crc32` of the bytes of the whole.
  """
  own = np.array([start, len(part)], np.uint32)
  every = np.asarray(multihost_utils.process_allgather(own)).reshape(-1, 2)
  crc, end = 0, 0
  for first, count in sorted({tuple(map(int, row)) for row in every if row[1]}):
    if first != end:
      raise AssertionError(f"rows {end} to {first} of the images belong to no process")
    is_own = len(part) and first == start
    value = np.uint32(zlib.crc32(part.tobytes(), crc) if is_own else 0)
    crc = int(np.max(multihost_utils.process_allgather(value)))
    end = first + count

  return crc


def check_same(text: str, what: str) -> None:
  """Checks that all processes were started with the same settings.

  Args:
    text: what must be the same in all.
    what: its name, for the message.

  Raises:
    ValueError: in all processes, if they differ.
  """
  if different := differing([text]):
    raise ValueError(
      f"{what}: process {', '.join(map(str, different))} differs from process 0; "
      "start all processes with the same command"
    )


def differing(texts: Sequence[str]) -> dict[int, list[int]]:
  """Finds the texts that differ between processes; the result is the same in all.

  Args:
    texts: the same number in every process.

  Returns:
    By the number of each process that differs from the first one, the indices in
    `texts` that differ.
  """
  if jax.process_count() == 1:
    return {}
  own = np.array([zlib.crc32(text.encode()) for text in texts], np.uint32)
  every = np.asarray(multihost_utils.process_allgather(own)).reshape(-1, len(texts))
  return {
    int(process): np.flatnonzero(every[process] != every[0]).tolist()
    for process in np.flatnonzero((every != every[0]).any(axis=1))
  }


def check_shared_folder(folder: str | os.PathLike) -> None:
  """Checks that a folder is shared by all processes.

  Args:
    folder: where checkpoints and reports go.

  Raises:
    ValueError: in all processes, if some see another folder.
  """
  if jax.process_count() == 1:
    return
  token = from_first(lambda: np.array([uuid.uuid4().int & 0x7FFFFFFF]), (1,), np.int64)[
    0
  ]
  path = pathlib.Path(folder) / f".shared-{token}"
  if is_first():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()

  largest(0)
  # A network file system may show a new file a moment later.
  deadline = time.monotonic() + 10
  while not (seen := path.exists()) and time.monotonic() < deadline:
    time.sleep(0.2)
  is_missing = largest(not seen)[0]
  if is_first():
    path.unlink(missing_ok=True)
  if is_missing:
    raise ValueError(
      f"--workdir: {folder} is not shared by all {jax.process_count()} processes; use "
      "a folder on a shared file system"
    )


@contextlib.contextmanager
def held_by_first(manager: contextlib.AbstractContextManager) -> Iterator[None]:
  """Enters a context in the first process only; its error is raised in all."""
  with contextlib.ExitStack() as stack:
    failure = None
    if is_first():
      try:
        stack.enter_context(manager)
      except ValueError as error:
        failure = error
    _raise_together(failure)
    yield


def _raise_together(failure: Exception | None) -> None:
  if failure is not None:
    largest(1)
    raise failure
  if largest(0)[0]:
    raise ValueError("the first process failed; see its log")


def check_joined() -> None:
  """Checks that a worker of a pod was not started without the others.

  Raises:
    ValueError: if JAX reports other processes, with which this one is not connected.
  """
  if jax.process_count() > 1 and not jax.distributed.is_initialized():
    raise ValueError(
      f"this is one of {jax.process_count()} processes of a pod, which are not "
      "connected; add --distributed to the command"
    )
