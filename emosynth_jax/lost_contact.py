"""What a process does that finds the other ones of its job gone."""

import os
import sys
import time
from typing import NoReturn

import jax
from absl import logging

from emosynth_jax import distributed


def is_lost(error: BaseException) -> bool:
  """Whether an error is that of a collective whose other processes are gone."""
  if jax.process_count() == 1:
    return False
  if isinstance(error, TimeoutError):  # of a checkpoint that others were to write
    return True
  own = ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED")
  return isinstance(error, jax.errors.JaxRuntimeError) and not str(error).startswith(
    own
  )


def describe(error: BaseException) -> str:
  """The message for `is_lost`."""
  reason = (str(error).strip().splitlines() or [repr(error)])[0][:200]
  return (
    f"process {jax.process_index()} of {jax.process_count()} has lost the others; one "
    f"of them died, and its own log says why ({reason}). The same command goes on from "
    "the last checkpoint, with as many processes or fewer"
  )


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
