"""What a process of a job does that fails, or that finds the other ones gone."""

import os
import sys
import time
from typing import NoReturn

import jax
from absl import logging

from emosynth_jax.parallel import distributed

# What is said of a process that is gone, in small letters: by the sockets of Gloo and
# NCCL, by NCCL itself, and by JAX's service of heartbeats and barriers. The codes
# before the texts tell nothing: a broken device has INTERNAL, too.
_SIGNS = (
  "connection closed by peer",
  "connection reset by peer",
  "connection closed by remote peer",
  "broken pipe",
  "connection refused",
  "socket closed",
  "timed out waiting",
  "connect timeout",
  "remote process exited",
  "coordination service",
  "heartbeat",
  "another task",
  "barrier",
)


def is_lost(error: BaseException) -> bool:
  """Whether an error is that of waiting for other processes, which are gone.

  Args:
    error: of JAX's runtime, or a timeout; any other is this process's own.

  Returns:
    True if its text says so. Orbax's timeouts are those of a barrier, a file system's
    are not.
  """
  if jax.process_count() == 1:
    return False
  if not isinstance(error, (jax.errors.JaxRuntimeError, TimeoutError)):
    return False
  text = str(error).lower()
  return any(sign in text for sign in _SIGNS)


def describe(error: BaseException) -> str:
  """The message for `is_lost`."""
  return (
    f"process {jax.process_index()} of {jax.process_count()} has lost the others; one "
    f"of them died, and its own log says why ({reason_of(error)}). The same command "
    "goes on from the last checkpoint, with as many processes or fewer"
  )


def describe_own(error: BaseException) -> str:
  """The message for what is not `is_lost`: where to look for the reason."""
  return (
    f"process {jax.process_index()} of {jax.process_count()} failed by itself "
    f"({reason_of(error)}), unless the log of another one tells of an earlier failure; "
    "the others end with it. The same command goes on from the last checkpoint"
  )


def reason_of(error: BaseException) -> str:
  """An error's first line, cut short."""
  return (str(error).strip().splitlines() or [repr(error)])[0][:200]


def leave(code: int) -> NoReturn:
  """Ends this process at once, without waiting for the others."""
  logging.flush()
  sys.stdout.flush()
  sys.stderr.flush()
  if distributed.is_first():
    # With the first process the job's service is gone, and the runtime ends the others
    # on the spot: they too shall say what is wrong.
    time.sleep(1)
  os._exit(code)
