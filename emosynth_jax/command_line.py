"""What every command of the project does alike."""

import os
import pathlib
import re
import sys
from typing import NoReturn

from absl import flags, logging

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


def parse_config_flags(argv: list[str]) -> list[str]:
  """absl's parsing of flags, --config among them, with one line for a mistake."""
  try:
    arguments = flags.FLAGS(argv)
    # A config file that is missing is an error only when it is used.
    flags.FLAGS.config.is_locked  # noqa: B018
    return arguments
  except (flags.Error, OSError) as error:
    if "--traceback" in argv:
      raise
    # ml_collections quotes a whole traceback, whose last line says what is wrong.
    fail(re.sub(r"^\w+Error: ", "", str(error).strip().splitlines()[-1].strip()))
  except (AttributeError, KeyError) as error:
    if "--traceback" in argv:
      raise
    changes = " ".join(flag for flag in argv if flag.startswith("--config."))
    reason = str(error).partition(". Other fields")[0].strip("\"'")
    fail(f"no such setting in {changes}: {reason}")


def fail(error: object) -> NoReturn:
  """Ends the process with one line instead of a traceback."""
  logging.flush()
  print(f"error: {error}", file=sys.stderr)
  sys.exit(1)
