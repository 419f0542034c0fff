"""Failure handling of the processes of a job."""

import os
import re
import sys
import time
from typing import NoReturn

import jax
from absl import logging

from emosynth_jax.parallel import distributed
from emosynth_jax.utils import errors

# Error messages about a lost process, in lower case: from the sockets of Gloo and NCCL,
# from NCCL itself, and from JAX's heartbeats and barriers. The status codes before the
# texts are not specific: a broken device has INTERNAL, too.
_SIGNS = re.compile(
  "connection (closed|reset|refused)|broken pipe|socket closed|connect timeout|"
  "timed out waiting|remote process exited|coordination service|heartbeat|"
  "another task|barrier"
)


def is_lost(error: BaseException) -> bool:
  """Returns whether an error is due to the lost connection to other processes.

  Args:
    error: of JAX's runtime, or a timeout; any other is an error of this process.

  Returns:
    True if its text says so. Orbax's timeouts are from a barrier, those of a file
    system are not.
  """
  if jax.process_count() == 1:
    return False
  if not isinstance(error, (jax.errors.JaxRuntimeError, TimeoutError)):
    return False
  return _SIGNS.search(str(error).lower()) is not None


def describe(error: BaseException) -> str:
  """The message for `is_lost`."""
  return (
    f"process {jax.process_index()} of {jax.process_count()}: lost connection to "
    f"another process, whose log has the cause ({errors.reason_of(error)}). Rerun to "
    "resume from the last checkpoint, with as many processes or fewer"
  )


def describe_own(error: BaseException) -> str:
  """The message for other errors: where to look for the cause."""
  return (
    f"process {jax.process_index()} of {jax.process_count()} failed "
    f"({errors.reason_of(error)}); all other processes stop. If another log has an "
    "earlier failure, that one is the cause. Rerun to resume from the last checkpoint"
  )


def leave(code: int) -> NoReturn:
  """Ends this process at once, without waiting for the others."""
  logging.flush()
  sys.stdout.flush()
  sys.stderr.flush()
  if distributed.is_first():
    # The job's service ends with the first process, and the runtime then aborts the
    # others: this gives them time to log the error.
    time.sleep(1)
  os._exit(code)
