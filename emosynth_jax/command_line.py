"""What every command of the project does alike."""

import os
import pathlib
import sys
from typing import NoReturn

from absl import logging

# Libraries that tell each of their steps through the same log.
_CHATTY = ("orbax", "xla_bridge", "dataset_info")


def start_logging() -> None:
  """Shows the project's own log lines, and libraries' errors."""
  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().addFilter(
    lambda record: (
      record.levelno >= 40 or not any(name in record.pathname for name in _CHATTY)
    )
  )


def use_compilation_cache() -> None:
  """Keeps compiled programs between runs, where JAX_COMPILATION_CACHE_DIR says."""
  import jax

  if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    jax.config.update(
      "jax_compilation_cache_dir", str(pathlib.Path(cache) / "emosynth_jax")
    )
  jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


def fail(error: object) -> NoReturn:
  """Ends the process with one line instead of a traceback."""
  logging.flush()
  print(f"error: {error}", file=sys.stderr)
  sys.exit(1)
