"""Detection of forked processes, in which JAX and OpenCV would wait forever.

Their threads don't exist in a forked child, only the locks that they held.
"""

import os
import sys

# Whether this process has used such a library, and whether its parent had, at a fork.
_is_used = False
_is_forked = False


def check(what: str) -> None:
  """Checks that a process may use libraries with threads, and notes that it does.

  Args:
    what: name of the caller in the error.

  Raises:
    RuntimeError: in a process that was forked from one which had used them.
  """
  global _is_used
  if _is_forked:
    raise RuntimeError(
      f"{what}: this process was forked from one that had already used JAX or "
      "OpenCV, whose threads a fork does not copy; start processes with "
      'multiprocessing.get_context("spawn")'
    )
  _is_used = True


def _note_fork() -> None:
  global _is_forked
  # Looked up, not imported: a process that has not loaded JAX has not used it.
  bridge = sys.modules.get("jax._src.xla_bridge")
  is_running = getattr(bridge, "backends_are_initialized", None)
  _is_forked = _is_used or bool(is_running and is_running())


# Windows has no fork.
if hasattr(os, "register_at_fork"):
  os.register_at_fork(after_in_child=_note_fork)
