"""What every command of the project does alike."""

import os
import pathlib
import sys
from typing import NoReturn

from absl import logging


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
